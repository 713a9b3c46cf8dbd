//! The expiry watch: what ends at a time that is known before, and who is to hear of it.
//!
//! ```text
//! rules, nodes of the running generation ─┐
//! Endings::put (certificates, …) ─────────┼─ watch (pure) ─ alarms of kind `expiry`
//! grants ─────────────────────────────────┘              └─ status, metrics
//! ```
//!
//! To plug in a source of endings, call [`Endings::put`] with all that it knows whenever that changes; nothing else is
//! needed.

mod endings;

pub use self::endings::{Ending, Endings};
