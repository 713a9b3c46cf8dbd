//! A tamper-evident append-only log on disk, in the format of C2SP tlog-tiles.
//!
//! [`Log`] is the writer, one at a time; [`Reader`] reads, also meanwhile. Entries are opaque bytes. What is
//! promised, to whom, and the files' format: `docs/reference/evidence-log.md`.

mod aside;
mod bundle;
mod checked;
mod checkpoint;
mod disk;
mod edge;
mod error;
mod hash;
mod key;
mod left_over;
mod log;
mod mirror;
mod note;
mod open;
mod part;
mod pending;
mod proof;
mod proof_file;
mod prune;
mod reader;
mod rotate;
mod statement;
#[cfg(test)]
mod tests;
mod tile;
mod verify;
mod witness;

pub use aside::{aside, set_aside};
pub use bundle::MAX_ENTRY;
pub use checked::{Checked, key_beside};
pub use checkpoint::Checkpoint;
pub use error::{Error, Result};
pub use hash::Hash;
pub use key::{Algorithm, SignerKey, VerifierKey, check_name};
pub use log::{Log, Options};
pub use mirror::{Mirror, Refused, Taken, pinned};
pub use note::Note;
pub use open::Opening;
pub use part::{Most, Part, SKIPPED_ENTRIES, attest, attested};
pub use proof::{check_consistency, check_inclusion};
pub use proof_file::Proof;
pub use reader::{Entries, Reader};
pub use verify::{Fault, Report, Trust, verify};
pub use witness::{COSIGNED, cosign};
