//! A fleet over NATS: signed files to every host, each host's evidence back, and who may do what at the broker.
//!
//! Nobody at the broker is believed: it can delay and withhold, and what it makes up is found out by whoever verifies
//! the files' signatures (`bulkhead-fleet`). What it sends is bounded here, in bytes held and in time waited for.

mod append;
mod client;
mod delta;
mod enrol;
mod error;
mod follow;
mod head;
mod identity;
mod jetstream;
mod layout;
mod push;
mod wire;

pub use append::{Appended, append};
pub use client::{Client, Settings, State};
pub use delta::{LONGEST as LONGEST_FILE, apply, compress, difference, digest};
pub use enrol::{
    Enrolled, Enroller, Invitation, Offer, Roll, enrol, enrolled, invite, mark_removed, tell_servers,
};
pub use error::{Error, OLDEST, Result};
pub use follow::{Channel, Counts};
pub use head::{Body, Difference, File, Head};
pub use identity::{Account, Claims, Credentials, Role, Upstream, verify};
pub use jetstream::consumers;
pub use layout::{ENROLMENTS, EVENTS, FILES, NEWS, events_of, token};
pub use push::{Pushed, prepare, push};
pub use wire::Message;
