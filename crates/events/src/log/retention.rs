//! How long records are kept: the policy that docs/reference/evidence-log.md states.

use bulkhead_api::event::Timestamp;
use bulkhead_api::record::Record;
use bulkhead_tlog::{Log, Reader, Result};

/// Records of one bundle, which go together.
const BUNDLE: u64 = 256;

const DAY: u64 = 24 * 60 * 60 * 1_000_000_000;

/// What is kept: records that are as young as this, and of these the youngest that take no more than so much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Days.
    pub days: u32,
    /// Bytes of records on disk; hashes and checkpoints, about a tenth of them, are kept besides.
    pub bytes: u64,
}

impl Keep {
    /// All of them.
    pub const ALL: Self = Self { days: u32::MAX, bytes: u64::MAX };

    /// Removes what is not to be kept at `now`; the first record that is left.
    ///
    /// # Errors
    /// If the log cannot be read, or the disk refuses.
    pub(super) fn apply(self, log: &mut Log, now: Timestamp) -> Result<u64> {
        let reader = Reader::open(log.directory())?;
        let first = reader.first()?;
        let whole = reader.checkpoint().size / BUNDLE;
        let bundles = first / BUNDLE..whole;
        let keep = self.young(&reader, bundles.clone(), now)?.max(self.small(&reader, bundles)?) * BUNDLE;
        if keep > first {
            log.prune(keep)?;
        }
        Ok(keep.max(first))
    }

    /// The first bundle that has, or may have, a record that is young enough.
    fn young(self, reader: &Reader, bundles: std::ops::Range<u64>, now: Timestamp) -> Result<u64> {
        let since = now.unix().saturating_sub(u64::from(self.days).saturating_mul(DAY));
        // From the oldest on: times need not rise, where a clock was wrong. What cannot be read is not known to be old.
        let mut first = bundles.start;
        while first < bundles.end {
            let time =
                Record::read(&reader.entry(first * BUNDLE)?).ok().map(|record| record.event.time.unix());
            if time.is_none_or(|time| time >= since) {
                break;
            }
            first += 1;
        }
        // The bundle before one that begins with a young record may end with one.
        Ok(first.saturating_sub(1).max(bundles.start))
    }

    /// The first bundle from which on all together are small enough.
    fn small(self, reader: &Reader, bundles: std::ops::Range<u64>) -> Result<u64> {
        let mut bytes = 0_u64;
        for bundle in bundles.clone().rev() {
            bytes += reader.bundle_bytes(bundle * BUNDLE)?;
            if bytes > self.bytes {
                return Ok(bundle + 1);
            }
        }
        Ok(bundles.start)
    }
}
