//! How often the kernel was asked what is enforced.

use std::time::{Duration, Instant};

/// Looks at the kernel since they were last taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Looks {
    /// How many.
    pub count: u64,
    /// The longest time between two of them.
    pub longest: Duration,
    last: Option<Instant>,
}

impl Looks {
    /// Notes one.
    pub(super) fn note(&mut self, now: Instant) {
        if let Some(last) = self.last.replace(now) {
            self.longest = self.longest.max(now.duration_since(last));
        }
        self.count += 1;
    }

    /// Takes them; the time since the last one goes on.
    pub(super) fn take(&mut self) -> Self {
        let next = Self { last: self.last, ..Self::default() };
        std::mem::replace(self, next)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::Looks;

    #[test]
    fn a_time_between_two_looks_counts_where_it_ends() {
        let (mut looks, start) = (Looks::default(), Instant::now());
        [0, 5, 25].into_iter().for_each(|at| looks.note(start + Duration::from_millis(at)));
        let taken = looks.take();
        assert_eq!((taken.count, taken.longest), (3, Duration::from_millis(20)));
        looks.note(start + Duration::from_millis(60));
        let taken = looks.take();
        assert_eq!((taken.count, taken.longest), (1, Duration::from_millis(35)));
        assert_eq!((looks.take().count, looks.longest), (0, Duration::ZERO));
    }
}
