//! A head of a fleet directory, and what must be stored before it.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bulkhead_fleet::below;

use super::directory::{Lineage, list};
use crate::delta::{LONGEST, compress, difference, digest};
use crate::error::{Error, Result};
use crate::head::{Body, Difference, File, Head, PART, difference_name};

/// What is in the head itself: no more than this of one thing, in bytes, and of all things together. Every host gets it
/// with every change and with every question.
const LONGEST_HERE: usize = 16 << 10;
const ALL_HERE: usize = 64 << 10;

/// A head, and the bytes of what it says is stored in parts.
#[derive(Debug)]
pub(super) struct Made {
    /// What there is.
    pub(super) head: Head,
    /// What to store before it, by name.
    pub(super) bodies: BTreeMap<String, Vec<u8>>,
    /// Each difference's bytes, by the digests that it leads from and to.
    pub(super) sizes: Vec<(String, String, usize)>,
}

/// Bytes that the head has room for.
struct Room(usize);

impl Room {
    fn takes(&mut self, length: usize) -> bool {
        let fits = length <= LONGEST_HERE && length <= self.0;
        if fits {
            self.0 -= length;
        }
        fits
    }
}

/// How far ahead of the clock the head before may be, in nanoseconds: a day. Beyond that it is made up.
const AHEAD: u64 = 24 * 60 * 60 * 1_000_000_000;

/// When a head is made that follows one of then.
fn follows(before: u64, now: u64) -> u64 {
    match before.checked_add(1) {
        Some(next) if next <= now.saturating_add(AHEAD) => next.max(now),
        _ => now,
    }
}

/// Makes a head that follows an old one.
pub(super) fn make(directory: &Path, old: &Head) -> Result<Made> {
    let listed = list(directory)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    let made = follows(old.made, u64::try_from(now).unwrap_or(u64::MAX));
    let mut making =
        Made { head: Head { made, ..Head::default() }, bodies: BTreeMap::new(), sizes: Vec::new() };
    let mut room = Room(ALL_HERE);
    // What all hosts read after each change has the first claim on the room; then ways from the version before.
    let (urgent, others): (Vec<_>, Vec<_>) = listed.files.iter().partition(|(_, is_urgent)| **is_urgent);
    for (path, _) in urgent {
        making.file(directory, path, &mut room, old)?;
    }
    for lineage in &listed.lineages {
        making.differences(directory, lineage, &mut room, old)?;
    }
    for (path, _) in others {
        making.file(directory, path, &mut room, old)?;
    }
    Ok(making)
}

/// Reads a file of a fleet directory, in which others can write.
pub(super) fn read(directory: &Path, path: &str) -> Result<Vec<u8>> {
    below(directory, path, LONGEST).map_err(|error| Error::file(&directory.join(path), error))
}

impl Made {
    fn file(&mut self, directory: &Path, path: &str, room: &mut Room, old: &Head) -> Result<()> {
        let bytes = read(directory, path)?;
        let (sha256, length) = (digest(&bytes), bytes.len() as u64);
        let body = match String::from_utf8(bytes) {
            Ok(text) if room.takes(text.len()) => Body::Text(text),
            unfit => {
                let bytes = unfit.map_or_else(std::string::FromUtf8Error::into_bytes, String::into_bytes);
                match old.files.values().find(|file| file.sha256 == sha256).map(|file| &file.body) {
                    // It is stored already.
                    Some(body @ Body::Parts { .. }) => body.clone(),
                    _ => self.body(&sha256, compress(&bytes)?, room),
                }
            }
        };
        self.head.files.insert(path.to_owned(), File { sha256, length, body });
        Ok(())
    }

    fn differences(
        &mut self,
        directory: &Path,
        lineage: &Lineage,
        room: &mut Room,
        old: &Head,
    ) -> Result<()> {
        let target = |name: &str| read(directory, &format!("{}/{name}", lineage.files));
        let mut bytes = None;
        let to = digest_in(&lineage.newest);
        for earlier in &lineage.earlier {
            let from = digest_in(earlier);
            if let Some(known) = old.differences.iter().find(|known| (&*known.from, &*known.to) == (from, to))
            {
                if let Body::Here(text) = &known.body {
                    room.takes(text.len());
                }
                self.head.differences.push(known.clone());
                continue;
            }
            let newest = match &bytes {
                Some(bytes) => bytes,
                None => bytes.insert(target(&lineage.newest)?),
            };
            let way = difference(&target(earlier)?, newest)?;
            // What is no smaller than the file saves nothing.
            if way.len() * 2 > newest.len() {
                continue;
            }
            self.sizes.push((from.to_owned(), to.to_owned(), way.len()));
            let body = self.body(&difference_name(from, to), way, room);
            self.head.differences.push(Difference { from: from.to_owned(), to: to.to_owned(), body });
        }
        Ok(())
    }

    /// Compressed bytes: in the head, or in parts.
    fn body(&mut self, name: &str, bytes: Vec<u8>, room: &mut Room) -> Body {
        if room.takes(bytes.len().div_ceil(3) * 4) {
            return Body::Here(STANDARD.encode(bytes));
        }
        let (count, length) = (bytes.len().div_ceil(PART), bytes.len() as u64);
        self.bodies.insert(name.to_owned(), bytes);
        Body::Parts { count: u32::try_from(count).unwrap_or(u32::MAX), bytes: length }
    }
}

/// The digest in a target's file name, `<sha256>.<name>`.
fn digest_in(name: &str) -> &str {
    name.split_once('.').map_or(name, |(digest, _)| digest)
}

#[cfg(test)]
mod tests {
    use super::{AHEAD, follows};

    #[test]
    fn a_head_is_later_than_the_one_before_and_survives_one_that_is_made_up() {
        assert_eq!((follows(0, 7), follows(7, 7), follows(9, 7)), (7, 8, 10));
        assert_eq!((follows(u64::MAX, 7), follows(u64::MAX - 1, 7), follows(8 + AHEAD, 7)), (7, 7, 7));
    }
}
