//! What hosts of a fleet tell a collector, and what it keeps of that.
//!
//! ```text
//!   host                                  collector
//!   event log ─┐                                     ┌─ nodes/NAME/log      mirror, cosigned
//!   status  ───┴─ Batch ─── directory or broker ─────┼─ nodes/NAME/records  JSON lines, a file a day
//!                                                    └─ nodes/NAME/*.json   last report, findings
//! ```
//!
//! A [`Batch`] is a part of a host's tamper-evident log and a [`Report`] on the host, signed with the log's key: whoever
//! carries it can delay it and drop it, and neither alter nor forge it. The collector takes only what continues what it
//! has of that log, so that every record is there once, however often and in whatever order batches come. Its format,
//! and what a collector keeps: `docs/reference/fleet-batches.md`.

mod batch;
mod directory;
mod finding;
mod inbox;
mod node;
mod page;
mod records;
mod report;
mod serve;
mod standing;
mod store;
#[cfg(test)]
mod tests;
mod witness;

pub use batch::{Batch, MOST_BATCH, Malformed, Sealed, seal};
pub use directory::{Given, Outbox};
pub use finding::{Finding, FindingKind};
pub use inbox::Inbox;
pub use page::render;
pub use report::{Bundle, Denied, Report, Review, State};
pub use serve::router;
pub use standing::{Fleet, Limits, Standing, Trouble};
pub use store::{Outcome, Settings, Store, acknowledge, read};
pub use witness::witness;
