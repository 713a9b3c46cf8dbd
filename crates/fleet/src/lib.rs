//! Policies and inventories of many hosts: two TUF repositories (specification 1.0, top-level roles only) in one tree of
//! files, which whoever carries them can delay, and can neither forge, mix nor roll back.
//!
//! ```text
//! people ─ sign ─▸ Draft ─┐                                      ┌─ Client ─▸ Checked ─▸ bundle
//! who freshens ───────────┴─ Tree::publish ─▸ files ─▸ Origin ───┘
//! ```

mod client;
#[cfg(feature = "conformance")]
pub mod conformance;
mod draft;
mod error;
mod files;
mod keys;
mod memory;
pub mod notes;
mod origin;
mod repository;
mod roles;
mod rollout;
mod stamp;
mod transport;
mod tree;
mod trusted;
mod updater;

pub use client::{Checked, Client, LONGEST, digest};
pub use draft::Draft;
pub use error::{Cause, Error, Result};
pub use files::below;
pub use keys::Holder;
pub use memory::{Known, Memory};
pub use origin::{Directory, Https, Origin, OriginError};
pub use repository::Repository;
pub use roles::Keyholders;
pub use rollout::{Rollout, slot};
pub use stamp::fleet_of;
pub use tree::{Identity, Publication, Sign, Standing, Tree};
