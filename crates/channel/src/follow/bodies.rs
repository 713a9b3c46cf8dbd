//! A file's bytes: in the head, by a difference, or whole.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::time::sleep;

use super::Channel;
use crate::delta::{apply, digest};
use crate::error::{Error, Result};
use crate::head::{Body, File, Head, PART};
use crate::jetstream::last;
use crate::layout::{FILES, part};

/// How often a part is asked for.
const ATTEMPTS: u32 = 5;

impl Channel {
    /// A file of a head.
    pub(super) async fn fetch(&self, head: &Head, file: &File) -> Result<Vec<u8>> {
        if let Body::Text(text) = &file.body {
            return matching(text.as_bytes().to_vec(), file);
        }
        if let Some(kept) = (self.kept)(&file.sha256).filter(|kept| digest(kept) == file.sha256) {
            return Ok(kept);
        }
        let ways = head.differences.iter().filter(|difference| difference.to == file.sha256);
        for way in ways {
            let Some(base) = (self.kept)(&way.from) else { continue };
            // A file of megabytes is unpacked beside whatever else waits.
            let made = match self.bytes(&way.body, &way.name(), file.length).await {
                Ok(difference) => unpack(base, difference, file).await,
                Err(error) => Err(error),
            };
            match made {
                Ok(made) => {
                    self.shared.count(|counts| counts.differences += 1);
                    return Ok(made);
                }
                Err(error) => {
                    tracing::warn!("a difference is not taken, the whole file is: {error}");
                    self.shared.count(|counts| counts.fallbacks += 1);
                    break;
                }
            }
        }
        let whole = self.bytes(&file.body, &file.sha256, file.length).await?;
        let whole = unpack(Vec::new(), whole, file).await?;
        self.shared.count(|counts| counts.wholes += 1);
        Ok(whole)
    }

    /// Bytes as they are stored, of a file of that length or of a difference that makes one.
    async fn bytes(&self, body: &Body, name: &str, file: u64) -> Result<Vec<u8>> {
        let (count, length) = match body {
            Body::Text(text) => return Ok(text.as_bytes().to_vec()),
            Body::Here(text) => {
                return STANDARD.decode(text).map_err(|_| Error::Content("the head is damaged".to_owned()));
            }
            Body::Parts { count, bytes } => (*count, *bytes),
        };
        // What does not shrink grows by little (zstd's bound: a 256th and some bytes).
        if length > file + file / 128 + 4_096 {
            return Err(Error::Content(format!("{name}: {length} bytes are too many for one of {file}")));
        }
        let mut all = Vec::new();
        for number in 0..count {
            let bytes = self.part(&part(name, number)).await?;
            let is_last = number + 1 == count;
            let wanted = if is_last { length - u64::from(number) * PART as u64 } else { PART as u64 };
            if bytes.len() as u64 != wanted {
                return Err(Error::Content(format!(
                    "part {number} of {name} is not as long as it should be"
                )));
            }
            all.extend_from_slice(&bytes);
        }
        Ok(all)
    }

    /// One part; asked for again while the broker elects or is away.
    async fn part(&self, subject: &str) -> Result<bytes::Bytes> {
        let mut attempt = 0;
        loop {
            self.shared.count(|counts| counts.parts += 1);
            match last(self.client(), FILES, subject).await {
                Ok(Some(stored)) => return Ok(stored.payload),
                Ok(None) if attempt + 1 == ATTEMPTS => {
                    return Err(Error::Content(format!(
                        "{subject} is not there any more: a newer head is to come"
                    )));
                }
                Err(error) if !error.is_passing() || attempt + 1 == ATTEMPTS => return Err(error),
                // A copy may lag.
                Ok(None) | Err(_) => {}
            }
            attempt += 1;
            let pause = 100 << attempt;
            sleep(Duration::from_millis(pause / 2 + fastrand::u64(0..pause))).await;
        }
    }
}

/// Bytes that are the file's.
fn matching(bytes: Vec<u8>, file: &File) -> Result<Vec<u8>> {
    if bytes.len() as u64 == file.length && digest(&bytes) == file.sha256 {
        return Ok(bytes);
    }
    Err(Error::Content("a file of the head is not what its digest says".to_owned()))
}

/// Makes a file of its difference, off the thread that speaks to the broker.
async fn unpack(base: Vec<u8>, difference: Vec<u8>, file: &File) -> Result<Vec<u8>> {
    let (length, wanted) = (file.length, file.sha256.clone());
    let made = tokio::task::spawn_blocking(move || apply(&base, &difference, length, &wanted)).await;
    made.map_err(|error| Error::Content(error.to_string()))?
}
