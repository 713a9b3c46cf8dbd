//! Classes by sweeping range boundaries: points that the same sets hold are one class.

use std::collections::HashMap;

use crate::bits::Bits;
use crate::interval::{Intervals, Point};

/// The classes found so far, over any number of axes. Class 0 is 'in no set'.
pub(crate) struct Sweep {
    /// The members of each class.
    pub(crate) classes: Vec<Bits>,
    /// Signature → a class of that signature.
    known: HashMap<u64, u32>,
    /// The next class of the same signature; 0 ends the chain.
    chain: Vec<u32>,
    active: Bits,
    signature: u64,
}

/// Points `first..=last` are in one class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece<T> {
    pub(crate) first: T,
    pub(crate) last: T,
    pub(crate) class: u32,
}

/// A set's share of the signature: splitmix64. A signature only narrows the search, classes
/// are told apart by their members.
fn share(set: usize) -> u64 {
    let mut x = (set as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

impl Sweep {
    /// For sets numbered below `bound`.
    pub(crate) fn new(bound: usize) -> Self {
        let empty = Bits::new(bound);
        Self {
            classes: vec![empty.clone()],
            known: HashMap::from([(0, 0)]),
            chain: vec![0],
            active: empty,
            signature: 0,
        }
    }

    /// Cuts one axis at every boundary of the numbered sets. Pieces come in order; points in
    /// no set are in no piece.
    pub(crate) fn axis<'a, T: Point + 'a>(
        &mut self,
        sets: impl IntoIterator<Item = (usize, &'a Intervals<T>)>,
    ) -> Vec<Piece<T>> {
        let mut events = Vec::new();
        for (set, intervals) in sets {
            for (first, last) in intervals.as_slice() {
                events.push((*first, set as u32, true));
                if let Some(after) = last.next() {
                    events.push((after, set as u32, false));
                }
            }
        }
        events.sort_unstable_by_key(|(at, _, _)| *at);
        let mut pieces: Vec<Piece<T>> = Vec::new();
        let mut from = T::MIN;
        let mut index = 0;
        while index < events.len() {
            let at = events[index].0;
            if let Some(last) = at.previous().filter(|last| from <= *last) {
                self.piece(&mut pieces, from, last);
            }
            from = at;
            // Closings first: a set may end and begin again at the same point.
            let end = index + events[index..].iter().take_while(|event| event.0 == at).count();
            for opening in [false, true] {
                for (_, set, _) in events[index..end].iter().filter(|event| event.2 == opening) {
                    self.toggle(*set as usize, opening);
                }
            }
            index = end;
        }
        self.piece(&mut pieces, from, T::MAX);
        self.active.clear();
        self.signature = 0;
        pieces
    }

    fn toggle(&mut self, set: usize, on: bool) {
        self.signature ^= share(set);
        if on {
            self.active.insert(set);
        } else {
            self.active.remove(set);
        }
    }

    fn piece<T>(&mut self, pieces: &mut Vec<Piece<T>>, first: T, last: T) {
        let class = self.class();
        if class != 0 {
            pieces.push(Piece { first, last, class });
        }
    }

    fn class(&mut self) -> u32 {
        let new = self.classes.len() as u32;
        let mut class = *self.known.entry(self.signature).or_insert(new);
        if class != new {
            while self.classes[class as usize] != self.active {
                match self.chain[class as usize] {
                    0 => {
                        self.chain[class as usize] = new;
                        class = new;
                        break;
                    }
                    next => class = next,
                }
            }
        }
        if class == new {
            self.classes.push(self.active.clone());
            self.chain.push(0);
        }
        class
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_hold_exactly_their_sets() {
        let sets: Vec<Intervals<u16>> = [
            vec![(0, 9), (20, 30)],
            vec![(5, 5), (6, 6), (20, 20)],
            vec![],
            vec![(0, u16::MAX)],
            vec![(u16::MAX, u16::MAX)],
        ]
        .map(Intervals::new)
        .into();
        let mut sweep = Sweep::new(sets.len());
        let pieces = sweep.axis(sets.iter().enumerate());
        for point in (0..40).chain([65534, 65535]) {
            let piece = pieces.iter().find(|piece| piece.first <= point && point <= piece.last).unwrap();
            let members: Vec<usize> = sweep.classes[piece.class as usize].iter().collect();
            let wanted: Vec<usize> = (0..sets.len()).filter(|set| sets[*set].contains(point)).collect();
            assert_eq!(members, wanted, "{point}");
        }
        assert!(pieces.contains(&Piece { first: 6, last: 6, class: pieces[1].class }), "hosts stay hosts");
    }

    #[test]
    fn equal_sets_share_a_class_and_gaps_have_no_piece() {
        let set = Intervals::<u32>::new(vec![(1, 1), (5, 5)]);
        let mut sweep = Sweep::new(1);
        let pieces = sweep.axis([(0, &set)]);
        assert_eq!(pieces.len(), 2);
        assert_eq!(pieces[0].class, pieces[1].class);
        assert!(sweep.axis::<u128>([]).is_empty());
    }
}
