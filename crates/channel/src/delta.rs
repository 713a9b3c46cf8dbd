//! What is sent of a file: all of it, or what it differs by from another one (RFC 8878, with that one as the content
//! before it, as `zstd --patch-from`).
//!
//! Nothing here is signed. What comes out is compared with the digest that signed metadata name, and is never longer
//! than they say.

use std::io::{Read as _, Write as _};

pub use bulkhead_fleet::digest;
use zstd::zstd_safe::{CParameter, DParameter};

use crate::error::{Error, Result};

/// The level of compression: the third is as small as others for inventories, and the fastest.
const LEVEL: i32 = 3;

/// How far back a match may lie, as a power of two: no file is longer than this with its base before it.
const WINDOW: u32 = 27;

/// The smallest window (zstd's own default), for files that fit it.
const LEAST_WINDOW: u32 = 20;

/// No file is longer, in bytes.
pub const LONGEST: u64 = 60 << 20;

/// A window that both files fit into.
fn window(length: usize) -> u32 {
    (usize::BITS - length.leading_zeros() + 1).clamp(LEAST_WINDOW, WINDOW)
}

/// A file, smaller.
///
/// # Errors
/// It is longer than a file may be.
pub fn compress(file: &[u8]) -> Result<Vec<u8>> {
    difference(&[], file)
}

/// What makes `file` of `base`.
///
/// # Errors
/// One of them is longer than a file may be.
pub fn difference(base: &[u8], file: &[u8]) -> Result<Vec<u8>> {
    let failed = |error: std::io::Error| Error::Content(format!("compressing: {error}"));
    if (base.len() as u64).max(file.len() as u64) > LONGEST {
        return Err(Error::Content(format!("a file of a fleet has {LONGEST} bytes at most")));
    }
    let mut encoder =
        zstd::stream::write::Encoder::with_ref_prefix(Vec::new(), LEVEL, base).map_err(failed)?;
    encoder.set_parameter(CParameter::WindowLog(window(base.len() + file.len()))).map_err(failed)?;
    encoder.set_parameter(CParameter::EnableLongDistanceMatching(!base.is_empty())).map_err(failed)?;
    encoder.include_contentsize(true).map_err(failed)?;
    encoder.set_pledged_src_size(Some(file.len() as u64)).map_err(failed)?;
    encoder.write_all(file).map_err(failed)?;
    encoder.finish().map_err(failed)
}

/// The file of a difference, if it has this length and digest. No more than the length is held.
///
/// # Errors
/// It is another file, or none.
pub fn apply(base: &[u8], difference: &[u8], length: u64, digest_wanted: &str) -> Result<Vec<u8>> {
    let failed = |error: std::io::Error| Error::Content(format!("the transfer is damaged: {error}"));
    if length > LONGEST {
        return Err(Error::Content(format!("a file of {length} bytes is longer than one of a fleet")));
    }
    let length = usize::try_from(length).map_err(|_| Error::Content("a file is too long".to_owned()))?;
    let mut decoder = zstd::stream::read::Decoder::with_ref_prefix(difference, base).map_err(failed)?;
    // What claims to need more than base and file is no difference of them.
    decoder.set_parameter(DParameter::WindowLogMax(window(base.len() + length))).map_err(failed)?;
    let mut file = Vec::with_capacity(length);
    (&mut decoder).take(length as u64 + 1).read_to_end(&mut file).map_err(failed)?;
    if file.len() != length {
        return Err(Error::Content(format!("the transfer makes another file than one of {length} bytes")));
    }
    let found = digest(&file);
    if found != digest_wanted {
        return Err(Error::Content(format!("the transfer makes {found}, and {digest_wanted} is wanted")));
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::{LONGEST, apply, compress, difference, digest};

    fn inventory(nodes: u32, tag: &str) -> Vec<u8> {
        let node = |n: u32| {
            let tag = if n == nodes / 2 { tag } else { "tag:web" };
            format!(
                "{{\"name\":\"host-{n}\",\"addresses\":[\"100.64.{}.{}\"],\"tags\":[\"{tag}\"]}}\n",
                n / 256,
                n % 256
            )
        };
        (0..nodes).map(node).collect::<String>().into_bytes()
    }

    #[test]
    fn a_difference_is_small_and_exact() {
        let (old, new) = (inventory(20_000, "tag:web"), inventory(20_001, "tag:oms"));
        let small = difference(&old, &new).unwrap();
        assert!(small.len() < 1_000, "{} bytes for two changes", small.len());
        assert_eq!(apply(&old, &small, new.len() as u64, &digest(&new)).unwrap(), new);
        let whole = compress(&new).unwrap();
        assert_eq!(apply(&[], &whole, new.len() as u64, &digest(&new)).unwrap(), new);
        assert!(whole.len() > small.len() * 10);
        // From nothing to something, and the reverse.
        for (old, new) in [(&b""[..], &b"x"[..]), (b"x", b""), (b"", b"")] {
            let small = difference(old, new).unwrap();
            assert_eq!(apply(old, &small, new.len() as u64, &digest(new)).unwrap(), new);
        }
    }

    #[test]
    fn what_makes_another_file_is_refused() {
        let (old, new, third) =
            (inventory(2_000, "tag:web"), inventory(2_000, "tag:oms"), inventory(1_999, "tag:db"));
        let small = difference(&old, &new).unwrap();
        let (length, wanted) = (new.len() as u64, digest(&new));
        assert!(apply(&third, &small, length, &wanted).is_err(), "the wrong base");
        assert!(apply(&[], &small, length, &wanted).is_err(), "no base");
        for end in [0, 1, small.len() / 2, small.len() - 1] {
            assert!(apply(&old, &small[..end], length, &wanted).is_err(), "cut at {end}");
        }
        for at in 0..small.len() {
            let mut damaged = small.clone();
            damaged[at] ^= 0x40;
            // What still makes the file is the file.
            if let Ok(file) = apply(&old, &damaged, length, &wanted) {
                assert_eq!(file, new);
            }
        }
        assert!(apply(&old, &small, length - 1, &wanted).is_err(), "a longer one than signed");
        assert!(apply(&old, &small, length + 1, &wanted).is_err(), "a shorter one than signed");
        assert!(apply(&old, &difference(&old, &third).unwrap(), length, &wanted).is_err(), "another file's");
    }

    #[test]
    fn a_bomb_is_held_to_the_length_that_was_signed() {
        // 4 GB of zeros in a few hundred kilobytes.
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
        let zeros = vec![0; 1 << 20];
        for _ in 0..4 << 10 {
            encoder.write_all(&zeros).unwrap();
        }
        let bomb = encoder.finish().unwrap();
        assert!(bomb.len() < 1 << 20, "{}", bomb.len());
        let begun = std::time::Instant::now();
        assert!(apply(&[], &bomb, 4_096, &digest(b"x")).is_err());
        // With room for its window, too, it stops at the first byte too many.
        assert!(
            apply(&vec![0; 8 << 20], &bomb, 4_096, &digest(b"x"))
                .unwrap_err()
                .to_string()
                .contains("4096 bytes")
        );
        assert!(begun.elapsed().as_secs() < 1, "{:?}", begun.elapsed());
        assert!(apply(&[], &bomb, LONGEST + 1, &digest(b"x")).is_err());
    }
}
