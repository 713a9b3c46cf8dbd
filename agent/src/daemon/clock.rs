//! Boot time, which the kernel's events and deadlines are in, and wall-clock time.

use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The distance between the two clocks, when it was read.
#[derive(Clone, Copy, Debug)]
pub struct BootClock {
    /// Wall-clock time of the boot, ns since the Unix epoch.
    booted: i128,
}

fn read(clock: libc::clockid_t) -> i128 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a timespec to fill in; both clocks exist on every kernel that is supported.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec)
}

impl BootClock {
    /// Reads both clocks.
    #[must_use]
    pub fn now() -> Self {
        Self { booted: read(libc::CLOCK_REALTIME) - read(libc::CLOCK_BOOTTIME) }
    }

    /// A time in ns since boot, as RFC 3339 in UTC with milliseconds.
    #[must_use]
    pub fn rfc3339(&self, boot: u64) -> String {
        let unix = (self.booted + i128::from(boot)) / 1_000_000 * 1_000_000;
        OffsetDateTime::from_unix_timestamp_nanos(unix)
            .ok()
            .and_then(|time| time.format(&Rfc3339).ok())
            .unwrap_or_else(|| Duration::from_nanos(boot).as_secs_f64().to_string())
    }

    /// A deadline in ns since the Unix epoch, in ns since boot; 1 if it was before boot.
    #[must_use]
    pub fn deadline(&self, unix: u64) -> u64 {
        u64::try_from((i128::from(unix) - self.booted).max(1)).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::BootClock;

    #[test]
    fn clocks_convert() {
        let clock = BootClock { booted: 1_700_000_000_000_000_000 };
        assert_eq!(clock.rfc3339(1_234_567_890), "2023-11-14T22:13:21.234Z");
        assert_eq!(clock.deadline(1_700_000_000_000_000_005), 5);
        assert_eq!(clock.deadline(0), 1);
    }
}
