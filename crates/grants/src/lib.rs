//! Access that ends: signed notes (C2SP signed-note), who signed them, and what they grant.
//!
//! ```text
//! request ─ text ─▸ note ◂─ signature lines ◂─ a key's file, or ssh-agent
//!                     │
//!                     ▼
//!            people: whose signatures fit ▸ quorum: are they enough people ▸ grant: what, until when
//! ```
//!
//! Nothing here opens a file or asks a clock. Notes come from strangers: their length is bounded, and nothing of their
//! text is believed before its signatures were counted.

pub mod agent;
mod error;
mod grant;
mod key;
mod note;
mod order;
mod people;
mod policy;
mod secret;
mod wire;

pub use error::{Error, Result};
pub use grant::{Grant, LONGEST, Window, is_id, is_of, new_id, new_id_of};
pub use key::PublicKey;
pub use note::{MAX_BYTES, Note, Signature};
pub use order::{Order, OrderKind, Statement};
pub use people::{People, Person, check_name};
pub use policy::PolicyDigests;
pub use secret::SecretKey;
