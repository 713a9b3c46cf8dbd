//! Workloads: cgroups of this host that are identities of their own. Each has overlay addresses, which its sockets alone
//! use, and nothing else on the overlay.

mod found;
mod keeper;
mod news;
pub mod status;
mod tree;
mod watch;

pub use self::keeper::{Assigned, Keeper};
pub use self::tree::mount_point;
pub use self::watch::start;
