//! Checkpoints to a receiver over HTTP.

use std::io;
use std::path::Path;

use super::{Keeper, Last};
use crate::outlet::Failure;
use bulkhead_http::Tls;
use bulkhead_http::{Client, TEXT};

/// A receiver.
pub(super) struct Receiver {
    client: Client,
}

impl Receiver {
    pub(super) fn new(url: &str, headers: Option<&Path>, tls: &Tls) -> io::Result<Self> {
        Ok(Self { client: Client::new(url, headers, tls)? })
    }
}

impl Keeper for Receiver {
    fn give(&mut self, last: &Last) -> Result<(), Failure> {
        let answer = self.client.post(TEXT, last.note().to_string().as_bytes())?;
        if answer.status.is_success() { Ok(()) } else { Err(Failure::answered(&self.client, &answer)) }
    }
}
