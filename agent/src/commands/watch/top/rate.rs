//! How often something is, over the last seconds.

/// Counts by second, and in all.
#[derive(Clone, Debug)]
pub struct Rate<const N: usize> {
    /// Of the seconds until `at`, in a circle.
    slots: [u64; N],
    at: u64,
    total: u64,
}

impl<const N: usize> Default for Rate<N> {
    fn default() -> Self {
        Self { slots: [0; N], at: 0, total: 0 }
    }
}

impl<const N: usize> Rate<N> {
    /// Counts so many in a second. What is older than the circle counts in all alone.
    pub fn add(&mut self, second: u64, count: u64) {
        self.total = self.total.saturating_add(count);
        self.turn(second);
        if second + N as u64 > self.at {
            let slot = &mut self.slots[second as usize % N];
            *slot = slot.saturating_add(count);
        }
    }

    /// Goes on to a second: those in between had none.
    fn turn(&mut self, second: u64) {
        let begin = self.at.max(second.saturating_sub(N as u64));
        for between in begin..second {
            self.slots[(between + 1) as usize % N] = 0;
        }
        self.at = self.at.max(second);
    }

    /// In all.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Counts of the last seconds before this one, the oldest first: this one is not over.
    pub fn before(&self, second: u64) -> impl DoubleEndedIterator<Item = u64> {
        let begin = second.saturating_sub(N as u64 - 1);
        (begin..second).map(|of| {
            let is_kept = of <= self.at && of + N as u64 > self.at;
            if is_kept { self.slots[of as usize % N] } else { 0 }
        })
    }

    /// How many a second over so many seconds before this one.
    pub fn per_second(&self, second: u64, over: usize) -> f64 {
        self.before(second).rev().take(over).sum::<u64>() as f64 / over as f64
    }
}

#[cfg(test)]
mod tests {
    use super::Rate;

    #[test]
    fn seconds_come_and_go() {
        let mut rate = Rate::<4>::default();
        rate.add(100, 6);
        rate.add(101, 3);
        assert_eq!(rate.before(102).collect::<Vec<_>>(), [0, 6, 3]);
        assert!((rate.per_second(102, 3) - 3.0).abs() < 1e-9);
        // Late, and far too late.
        rate.add(100, 1);
        rate.add(50, 7);
        assert_eq!(rate.before(102).collect::<Vec<_>>(), [0, 7, 3]);
        assert_eq!(rate.total(), 17);
        // A pause empties what it is over.
        rate.add(104, 2);
        assert_eq!(rate.before(105).collect::<Vec<_>>(), [0, 0, 2]);
        assert_eq!(rate.before(200).sum::<u64>(), 0, "and so does time that passes");
        rate.add(300, 1);
        assert_eq!(rate.before(301).collect::<Vec<_>>(), [0, 0, 1]);
    }
}
