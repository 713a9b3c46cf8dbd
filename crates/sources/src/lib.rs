//! Who exists, asked of whoever admits them: Tailscale's and headscale's HTTP API, Tailscale's LocalAPI, NetBird's API,
//! WireGuard itself, a directory of files, a command.
//!
//! Every source is only read. What it answers is an inventory of its own, checked as a file is, or an error; what that
//! changes is not decided here.

mod api;
mod command;
mod directory;
mod file;
mod keep;
mod settings;
mod wireguard;

use bulkhead_policy::diagnostic::{Diagnostic, Findings, Severity};
use bulkhead_policy::inventory::import::{self, Import};
use bulkhead_policy::inventory::{self, Inventory};
use bulkhead_policy::source::Source as Text;

pub use keep::{Kept, Refusal};
pub use settings::{Api, Kind, Settings};

/// The longest answer, in bytes: that of some 100,000 nodes.
const LONGEST: u64 = 64 << 20;

/// Why a source has no answer that can be used. What it answered before is no less true for it.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Nobody answers, or the system refuses.
    #[error("{0}")]
    Down(String),
    /// The answer is none, or no inventory.
    #[error("{0}")]
    Nonsense(String),
}

/// Who a source says exists now, as an inventory of its own.
///
/// # Errors
/// If it does not answer, or not with an inventory.
pub fn ask(settings: &Settings) -> Result<Inventory, SourceError> {
    match &settings.kind {
        Kind::Tailscale(api) => imported(&settings.name, api::tailscale(api)?, import::devices),
        Kind::Headscale(api) => imported(&settings.name, api::headscale(api)?, import::headscale),
        Kind::NetBird(api) => imported(&settings.name, api::netbird(api)?, import::netbird),
        Kind::LocalApi { socket } => {
            let status = bulkhead_peers::tailscale::status(socket).map_err(|error| down(&error))?;
            imported(&settings.name, status, import::tailscale)
        }
        Kind::WireGuard { interface, names } => {
            let list = wireguard::nodes(interface, names)?;
            checked(&settings.name, &written(list)?)
        }
        Kind::Directory { path } => checked(&settings.name, &directory::read(path)?),
        Kind::Command { command, patience } => checked(&settings.name, &command::run(command, *patience)?),
    }
}

fn down(error: &dyn std::fmt::Display) -> SourceError {
    SourceError::Down(error.to_string())
}

/// An answer of another form, as an inventory.
fn imported(
    name: &str,
    answer: Vec<u8>,
    read: impl Fn(&Text, &mut Findings) -> Option<Import>,
) -> Result<Inventory, SourceError> {
    let text = String::from_utf8(answer)
        .map_err(|_| SourceError::Nonsense(format!("{name} answers what is no text")))?;
    let (source, mut findings) = (Text::new(&format!("(the answer of {name})"), &text), Findings::default());
    let list = read(&source, &mut findings);
    let list = list.filter(|_| !findings.has_errors()).ok_or_else(|| wrong(&findings))?;
    checked(name, &written(list)?)
}

fn written(list: Import) -> Result<String, SourceError> {
    let mut findings = Findings::default();
    let merged = import::merge(list, None, &mut findings);
    if findings.has_errors() { Err(wrong(&findings)) } else { Ok(import::write(&merged)) }
}

/// A text that is to be an inventory.
fn checked(name: &str, text: &str) -> Result<Inventory, SourceError> {
    let (source, mut findings) =
        (Text::new(&format!("(the inventory of {name})"), text), Findings::default());
    let inventory = inventory::parse(&source, &mut findings);
    inventory.filter(|_| !findings.has_errors()).ok_or_else(|| wrong(&findings))
}

/// The first error: the others are mostly of the same kind.
fn wrong(findings: &Findings) -> SourceError {
    let is_error = |finding: &&Diagnostic| finding.severity == Severity::Error;
    let first = findings.0.iter().find(is_error);
    let first = first.map_or_else(|| "the answer is no inventory".to_owned(), ToString::to_string);
    let more = findings.0.iter().filter(is_error).count().saturating_sub(1);
    SourceError::Nonsense(if more == 0 { first } else { format!("{first} (and {more} more errors)") })
}
