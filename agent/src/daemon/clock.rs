//! Boot time, which the kernel's events and deadlines are in, and wall-clock time.

use bulkhead_api::event::Timestamp;

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

/// A smaller difference than this is the time between two readings, not a change.
const STEP: i128 = 1_000_000;

impl BootClock {
    /// Reads both clocks.
    #[must_use]
    pub fn now() -> Self {
        // The reading least disturbed by whatever else the machine does counts.
        let readings = (0..3).map(|_| {
            let before = read(libc::CLOCK_BOOTTIME);
            let wall = read(libc::CLOCK_REALTIME);
            let after = read(libc::CLOCK_BOOTTIME);
            (after - before, wall - (before + after) / 2)
        });
        Self { booted: readings.min().map_or(0, |(_, booted)| booted) }
    }

    /// Whether the wall clock was set between two readings. Slewing changes both clocks alike.
    #[must_use]
    pub fn was_set(&self, later: &Self) -> bool {
        (self.booted - later.booted).abs() > STEP
    }

    /// Seconds by which the wall clock was set forward between two readings.
    #[must_use]
    pub fn seconds_until(&self, later: &Self) -> f64 {
        (later.booted - self.booted) as f64 / 1e9
    }

    /// A time in ns since boot.
    #[must_use]
    pub fn timestamp(&self, boot: u64) -> Timestamp {
        Timestamp::from_unix(u64::try_from(self.booted + i128::from(boot)).unwrap_or(0))
    }

    /// A time in ns since boot for people, as RFC 3339 in UTC with milliseconds.
    #[must_use]
    pub fn rfc3339(&self, boot: u64) -> String {
        self.timestamp(boot).milliseconds()
    }

    /// A deadline in ns since the Unix epoch, in ns since boot; 1 if it was before boot.
    #[must_use]
    pub fn deadline(&self, unix: u64) -> u64 {
        u64::try_from((i128::from(unix) - self.booted).max(1)).unwrap_or(u64::MAX)
    }
}

/// Nanoseconds since boot.
#[must_use]
pub fn boot_time() -> u64 {
    u64::try_from(read(libc::CLOCK_BOOTTIME)).unwrap_or(0)
}

/// Nanoseconds since the Unix epoch.
#[must_use]
pub fn wall_time() -> u64 {
    u64::try_from(read(libc::CLOCK_REALTIME)).unwrap_or(0)
}

/// Which boot this is.
#[must_use]
pub fn boot_id() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::BootClock;

    #[test]
    fn setting_the_wall_clock_is_noticed_and_reading_it_is_not() {
        let clock = BootClock::now();
        assert!(!clock.was_set(&BootClock::now()));
        for by in [-3_600_000_000_000, 2_000_000] {
            let later = BootClock { booted: clock.booted + by };
            assert!(clock.was_set(&later));
            // The same moment by the wall clock, later or earlier since boot.
            let deadline = u64::try_from(clock.booted).unwrap() + 10_000_000_000_000;
            assert_eq!(i128::from(later.deadline(deadline)), i128::from(clock.deadline(deadline)) - by);
        }
    }

    #[test]
    fn clocks_convert() {
        let clock = BootClock { booted: 1_700_000_000_000_000_000 };
        assert_eq!(clock.rfc3339(1_234_567_890), "2023-11-14T22:13:21.234Z");
        assert_eq!(clock.deadline(1_700_000_000_000_000_005), 5);
        assert_eq!(clock.deadline(0), 1);
    }
}
