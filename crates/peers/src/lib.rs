//! Which public key a WireGuard interface routes an address to, asked of whoever does the routing: the kernel,
//! an implementation in user space by its UAPI socket, Tailscale by its LocalAPI.
//!
//! Private and pre-shared keys are part of the first two's answers. They are never parsed, and what they were
//! read into is wiped.

mod binding;
mod key;
mod netlink;
mod source;
pub mod tailscale;
pub mod uapi;
mod wireguard;

use ipnet::IpNet;

pub use binding::{Judgement, Routes, judge};
pub use key::Key;
pub use source::{Found, Source, find};

/// A handshake older than this, in seconds, keys no packet any more (WireGuard's paper, section 6.1:
/// REJECT-AFTER-TIME).
pub const REJECT_AFTER: u64 = 180;

/// One peer of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its public key.
    pub key: Key,
    /// Which source addresses are taken from it, and what is sent to it: AllowedIPs.
    pub allowed: Vec<IpNet>,
    /// When its last handshake completed, in seconds since the Unix epoch; none yet.
    pub handshake: Option<u64>,
}

/// Why peers could not be read. What they were before is no less true for it.
#[derive(Debug, thiserror::Error)]
pub enum PeersError {
    /// The system refused, or the other end was silent for too long.
    #[error("{what}: {error}")]
    System {
        /// What was tried.
        what: String,
        /// What the system says.
        error: std::io::Error,
    },
    /// The other end is not root's, and may say what it likes.
    #[error("{0}: whoever answers there is not root")]
    NotRoot(String),
    /// The answer is none.
    #[error("{what}: the answer is not as it should be: {problem}")]
    Nonsense {
        /// Who answered.
        what: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl PeersError {
    fn system(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |error| Self::System { what, error }
    }

    fn nonsense(what: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Nonsense { what: what.into(), problem: problem.into() }
    }
}
