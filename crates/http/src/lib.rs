//! Requests over HTTP and TLS to servers that the configuration names: none follows a redirect, takes a proxy from the
//! environment, or repeats a secret in an error.

mod client;
mod tls;

pub use client::{Answer, Client, TEXT};
pub use tls::{Tls, configuration, handshake};
pub use ureq::http::StatusCode;
