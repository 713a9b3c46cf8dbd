//! Takes records from the event log to others: files, standard output, sockets, syslog, OTLP receivers.
//!
//! ```text
//!              ┌─ thread ─ Outlet (file)     position in sink-NAME.json
//! event log ───┼─ thread ─ Outlet (syslog)   position in sink-NAME.json
//! (on disk)    └─ thread ─ Outlet (OTLP)     position in sink-NAME.json
//! ```
//!
//! A sink reads the log on disk by index and never sits on a queue: however slow or dead a receiver is, nothing waits
//! for it, and it gets what the log still has once it is back. Records go out in order and at least once: what a
//! receiver has not confirmed before it, the agent or the host dies is sent again. What the log has pruned before a
//! sink got it is counted as skipped, and so is what a log that was set aside still had for it.
//!
//! [`Anchors`] take the log's checkpoints, not its records, to where they bind this host's root.

mod anchor;
mod ending;
mod log_source;
mod outlet;
mod position;
mod progress;
mod settings;
mod source;
mod worker;

pub use anchor::{AnchorKind, AnchorSettings, Anchors};
pub use log_source::LogSource;
pub use settings::{From, Kind, Settings};
pub use source::RecordSource;
pub use worker::Sinks;
