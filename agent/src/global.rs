//! Flags of every command.

use crate::exit::Usage;

/// Flags of every command.
#[derive(Clone, Debug, clap::Args)]
pub struct Global {
    /// Print JSON: one object, or one object a line where the answer is a stream.
    #[arg(long, global = true)]
    pub json: bool,
    /// Sets this agent's pins, socket and state apart from other agents' on this machine.
    #[arg(long, global = true, default_value = "default", value_name = "NAME")]
    pub instance: String,
    /// The policy's language: bulkhead, or tailscale (refuses our extensions).
    #[arg(long, global = true, default_value = "bulkhead", value_name = "NAME")]
    pub dialect: bulkhead_policy::Dialect,
}

/// The instance of an agent that is alone on its machine.
const DEFAULT_INSTANCE: &str = "default";

/// Whether an instance is the one that is alone on its machine.
///
/// # Errors
/// A name that would leave its directory.
pub fn is_default(instance: &str) -> Result<bool, Usage> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if instance.is_empty() || instance.len() > 64 || !instance.bytes().all(fits) {
        return Err(Usage(format!("instance '{instance}': a name has 1 to 64 letters, digits, '-' and '_'")));
    }
    Ok(instance == DEFAULT_INSTANCE)
}
