//! What a record says of where it is from.

use bulkhead_api::record::{Clock, Digests};

/// What is known of this host when a record is written.
pub trait Facts: Send + Sync {
    /// The host's name.
    fn host(&self) -> String;

    /// The state of its clock.
    fn clock(&self) -> Clock;

    /// The files that a generation was made from, if they are kept.
    fn files(&self, generation: u32) -> Option<Digests>;
}
