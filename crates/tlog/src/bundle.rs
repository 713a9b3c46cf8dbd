//! Entry bundles: entries one after the other, each behind its length in two bytes, big-endian.

use crate::error::{Error, Result};

/// Bytes of the longest entry.
pub const MAX_ENTRY: usize = u16::MAX as usize;

/// Adds an entry to a bundle.
pub(crate) fn push(bundle: &mut Vec<u8>, entry: &[u8]) -> Result<()> {
    let length = u16::try_from(entry.len()).map_err(|_| Error::TooLong(entry.len()))?;
    bundle.extend_from_slice(&length.to_be_bytes());
    bundle.extend_from_slice(entry);
    Ok(())
}

/// The first entry of a bundle and what follows it; `None` if it is cut short.
pub(crate) fn split_first(bundle: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bundle.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

/// The first `count` entries and the bytes behind them; `None` if there are fewer.
pub(crate) fn split(mut bundle: &[u8], count: u64) -> Option<(Vec<&[u8]>, &[u8])> {
    let mut entries = Vec::new();
    for _ in 0..count {
        let (entry, rest) = split_first(bundle)?;
        entries.push(entry);
        bundle = rest;
    }
    Some((entries, bundle))
}
