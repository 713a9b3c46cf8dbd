//! How many bytes of policies and inventories may be on their way to the agent, or wait there for their turn.

use std::sync::{Arc, Mutex};

use bulkhead_api::change::LONGEST;

use crate::daemon::state::held;

/// Bytes of all changes together: of two with the longest files.
const ALL: u64 = 4 * LONGEST;

/// What the texts of all changes take.
#[derive(Clone, Debug, Default)]
pub struct Budget(Arc<Mutex<u64>>);

/// What one change takes of it, until it is dropped: nothing before it is taken.
#[derive(Debug)]
pub struct Share {
    budget: Budget,
    bytes: u64,
}

impl Budget {
    /// The share of a change that has announced nothing yet.
    pub fn share(&self) -> Share {
        Share { budget: self.clone(), bytes: 0 }
    }
}

impl Share {
    /// Takes so many bytes; false: others have too many.
    pub fn take(&mut self, bytes: u64) -> bool {
        let mut taken = held(&self.budget.0);
        let is_free = ALL.saturating_sub(*taken) >= bytes;
        if is_free {
            *taken += bytes;
            self.bytes += bytes;
        }
        is_free
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        *held(&self.budget.0) -= self.bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::{ALL, Budget, held};

    #[test]
    fn what_is_over_gives_its_bytes_back() {
        let budget = Budget::default();
        let [mut one, mut two, mut three] = [(); 3].map(|()| budget.share());
        assert!(one.take(ALL / 2) && two.take(ALL / 2));
        assert!(!three.take(1) && three.take(0));
        drop(three);
        assert!(!two.take(1), "who got nothing gives nothing back");
        drop(one);
        assert!(two.take(ALL / 2) && !two.take(u64::MAX));
        drop(two);
        assert_eq!(*held(&budget.0), 0);
    }
}
