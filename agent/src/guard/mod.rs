//! The nftables guard: what BPF programs on an interface cannot see.
//!
//! An interface that goes and comes back under its name has no program until the agent
//! attaches one, and a packet from or to an overlay address may take an interface that is not
//! managed. The guard drops both. It needs no agent to hold: nftables keeps it.

mod account;
mod digest;
mod install;
mod kind;
mod log;
pub mod netlink;
mod news;
mod nft;
mod rules;
mod service;
mod spec;
mod state;
mod table;
#[cfg(test)]
mod tests;

pub use account::{Account, Amount};
pub use digest::Digest;
pub use kind::Kind;
pub use log::{Dropped, Log};
pub use service::{Fallback, InstalledFallback, Nft};
pub use spec::Guard;
pub use state::counts;
pub use table::{check, is_there, remove};
