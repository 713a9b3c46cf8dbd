//! Checkpoints to a witness, by C2SP tlog-witness.

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use bulkhead_http::{Answer, Client, StatusCode, TEXT, Tls};
use bulkhead_tlog::{VerifierKey, cosign};

use super::{Keeper, Last};
use crate::outlet::Failure;

/// A witness.
pub(super) struct Witness {
    client: Client,
    key: VerifierKey,
    /// Entries of the last checkpoint that it has signed, as far as is known here.
    seen: u64,
}

impl Witness {
    pub(super) fn new(url: &str, key: &VerifierKey, headers: Option<&Path>, tls: &Tls) -> io::Result<Self> {
        let url = format!("{}/add-checkpoint", url.trim_end_matches('/'));
        Ok(Self { client: Client::new(&url, headers, tls)?, key: key.clone(), seen: 0 })
    }

    /// Shows it the checkpoint, and that it continues what it has seen.
    fn ask(&self, last: &Last) -> Result<Answer, Failure> {
        let proof = last.reader.consistency(self.seen).map_err(io::Error::other)?;
        let mut body = format!("old {}\n", self.seen);
        for hash in proof {
            _ = writeln!(body, "{hash}");
        }
        _ = write!(body, "\n{}", last.note());
        Ok(self.client.post(TEXT, body.as_bytes())?)
    }
}

impl Keeper for Witness {
    fn give(&mut self, last: &Last) -> Result<(), Failure> {
        let size = last.checkpoint().size;
        if self.seen > size {
            self.seen = 0;
        }
        let mut answer = self.ask(last)?;
        if answer.status == StatusCode::CONFLICT {
            self.seen = seen(&answer.body).ok_or_else(|| Failure::answered(&self.client, &answer))?;
            if self.seen > size {
                let name = self.client.name();
                let words = format!(
                    "{name} has seen {} records of this log, which has {size}: it was cut, or began anew",
                    self.seen
                );
                return Err(io::Error::other(words).into());
            }
            answer = self.ask(last)?;
        }
        if answer.status != StatusCode::OK {
            return Err(Failure::answered(&self.client, &answer));
        }
        let mut note = last.note().clone();
        let wrong = |error| io::Error::other(format!("{}: {error}", self.client.name()));
        note.add_signatures(&String::from_utf8_lossy(&answer.body)).map_err(wrong)?;
        cosign(last.reader.directory(), &note, std::slice::from_ref(&self.key)).map_err(wrong)?;
        self.seen = size;
        Ok(())
    }
}

/// The size that a witness names when it has seen another one (`text/x.tlog.size`).
fn seen(body: &[u8]) -> Option<u64> {
    std::str::from_utf8(body).ok()?.trim_end_matches('\n').parse().ok()
}
