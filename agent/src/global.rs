//! Flags of every command.

use crate::exit::Usage;

/// Flags of every command.
#[derive(Clone, Debug, clap::Args)]
pub struct Global {
    /// Print JSON.
    ///
    /// One object, or one object a line where the answer is a stream.
    #[arg(long, global = true)]
    pub json: bool,
    /// Name one of several agents on this machine.
    ///
    /// It sets this agent's pins, socket and state apart from the others'.
    #[arg(long, global = true, default_value = "default", value_name = "NAME")]
    pub instance: String,
    /// The policy's language: bulkhead, or tailscale.
    ///
    /// tailscale refuses what Tailscale does not know.
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
