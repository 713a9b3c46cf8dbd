//! What was gone back from through nobody's fault, and is tried again: after longer and longer.

use std::time::Duration;

use super::Bundles;

/// No longer than this.
const LONGEST: Duration = Duration::from_secs(3600);

/// So many are remembered.
const MOST: usize = 16;

/// What is tried again.
#[derive(Debug, Default)]
pub(super) struct Later(Vec<One>);

#[derive(Debug)]
struct One {
    bundles: Bundles,
    why: String,
    tries: u32,
    /// Not before, ns since boot.
    at: u64,
}

impl Later {
    /// These are tried again: after `every`, and after twice as long each time.
    pub(super) fn put_off(&mut self, bundles: &Bundles, why: &str, every: Duration, now: u64) {
        let tries = self.get(bundles).map_or(0, |one| one.tries + 1);
        self.forget(bundles);
        let wait = every.saturating_mul(1 << tries.min(16)).min(LONGEST);
        let at = now.saturating_add(u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX));
        self.0.insert(0, One { bundles: bundles.clone(), why: why.to_owned(), tries, at });
        self.0.truncate(MOST);
    }

    /// Why these were put off, and whether their time has come.
    pub(super) fn of(&self, bundles: &Bundles, now: u64) -> Option<(&str, bool)> {
        self.get(bundles).map(|one| (&*one.why, now >= one.at))
    }

    /// What was put off more than once, and why, the last first.
    pub(super) fn repeated(&self) -> impl Iterator<Item = (&Bundles, &str)> {
        self.0.iter().filter(|one| one.tries > 0).map(|one| (&one.bundles, &*one.why))
    }

    /// These are good.
    pub(super) fn forget(&mut self, bundles: &Bundles) {
        self.0.retain(|one| !one.bundles.is_same(bundles));
    }

    fn get(&self, bundles: &Bundles) -> Option<&One> {
        self.0.iter().find(|one| one.bundles.is_same(bundles))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{Bundle, Bundles};
    use super::Later;

    #[test]
    fn it_is_tried_again_after_longer_and_longer() {
        let bundle = |version: u64| Bundle { version, digest: version.to_string() };
        let bundles = |policy| Bundles { policy: bundle(policy), inventory: bundle(1) };
        let mut later = Later::default();
        let second = 1_000_000_000;
        for (now, wait) in [(0, 30), (100, 60), (200, 120)] {
            later.put_off(&bundles(1), "x", Duration::from_secs(30), now * second);
            assert_eq!(later.of(&bundles(1), (now + wait) * second - 1), Some(("x", false)));
            assert_eq!(later.of(&bundles(1), (now + wait) * second), Some(("x", true)));
        }
        (0..40).for_each(|_| later.put_off(&bundles(1), "x", Duration::from_secs(30), 0));
        assert_eq!(later.of(&bundles(1), 3600 * second), Some(("x", true)));
        assert_eq!(later.of(&bundles(2), 0), None);
        later.forget(&bundles(1));
        assert_eq!(later.of(&bundles(1), 0), None);
    }
}
