//! A table of fixed size: whoever floods the host with senders does not fill memory.

use std::collections::HashMap;
use std::hash::Hash;

/// Places that are looked at for one to be given up.
const LOOKED: usize = 8;

/// So many entries at most. What is new takes the place of the least of some.
pub struct Table<K, V> {
    places: HashMap<K, usize>,
    entries: Vec<(K, V)>,
    capacity: usize,
    hand: usize,
}

impl<K: Clone + Eq + Hash, V> Table<K, V> {
    /// An empty one.
    pub fn new(capacity: usize) -> Self {
        Self { places: HashMap::new(), entries: Vec::new(), capacity, hand: 0 }
    }

    /// The entry of a key, made if it is not there. `weight` says what is to stay.
    pub fn entry(&mut self, key: &K, weight: impl Fn(&V) -> u64, make: impl FnOnce() -> V) -> &mut V {
        let place = match self.places.get(key) {
            Some(place) => *place,
            None => {
                let place = self.place(weight);
                let entry = (key.clone(), make());
                if place == self.entries.len() {
                    self.entries.push(entry);
                } else {
                    self.places.remove(&self.entries[place].0);
                    self.entries[place] = entry;
                }
                self.places.insert(key.clone(), place);
                place
            }
        };
        &mut self.entries[place].1
    }

    /// A place for a new entry: a free one, or that of the least of the next few.
    fn place(&mut self, weight: impl Fn(&V) -> u64) -> usize {
        if self.entries.len() < self.capacity {
            return self.entries.len();
        }
        let looked = (0..LOOKED).map(|step| (self.hand + step) % self.capacity);
        let least = looked.min_by_key(|place| weight(&self.entries[*place].1)).unwrap_or(0);
        self.hand = (self.hand + LOOKED) % self.capacity;
        least
    }

    /// All entries.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut (K, V)> {
        self.entries.iter_mut()
    }

    /// How many there are.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::Table;

    #[test]
    fn what_weighs_more_stays_and_memory_is_bounded() {
        let mut table = Table::new(64);
        for key in 0..10_000_u32 {
            // Those that come again and again.
            for often in 0..4_u32 {
                *table.entry(&often, |count| *count, || 0_u64) += 1;
            }
            *table.entry(&(key + 100), |count| *count, || 0) += 1;
        }
        assert_eq!((table.len(), table.places.len()), (64, 64));
        for often in 0..4 {
            assert_eq!(*table.entry(&often, |count| *count, || 0), 10_000, "{often}");
        }
    }
}
