//! First contact: what a host has → a configuration, an inventory and a policy to begin with.
//!
//! [`look()`] asks the kernel and the overlays' own tools; [`draft()`] makes the files of what it saw, and does
//! nothing else; [`place`] puts them where they belong.

mod config;
mod draft;
mod host;
mod judge;
mod look;
mod netbird;
mod nodes;
mod place;
mod policy;
mod services;
mod text;

#[cfg(test)]
mod tests;

pub use draft::{Draft, draft};
pub use host::Host;
pub use judge::judge;
pub use look::look;
pub use place::{NAMES, Place};
