//! Connects to a port and says whether it begins as TLS, which certificates it presents, and whether it wants one of
//! its client. Nothing is asked of the service, and nothing is kept of what plaintext says.
//!
//! Whoever answers may be hostile: a probe takes no longer and reads no more than its [`Limits`].

mod begins;
mod certificate;
mod connection;
mod handshake;
mod prober;
mod roots;
mod starttls;

pub use certificate::{CertificateError, certificate, of_pem};
pub use prober::{Limits, Prober, Target};
pub use roots::{Roots, RootsError};
