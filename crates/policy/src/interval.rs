//! Sorted, disjoint, closed intervals: sets of addresses and of ports.

use std::fmt::Debug;
use std::hash::Hash;

/// A point on an axis.
pub trait Point: Copy + Ord + Hash + Debug {
    /// The lowest point.
    const MIN: Self;
    /// The highest point.
    const MAX: Self;
    /// The next point, if there is one.
    fn next(self) -> Option<Self>;
    /// The point before, if there is one.
    fn previous(self) -> Option<Self>;
}

macro_rules! point {
    ($($type:ty)*) => {$(
        impl Point for $type {
            const MIN: Self = 0;
            const MAX: Self = <$type>::MAX;
            fn next(self) -> Option<Self> {
                self.checked_add(1)
            }
            fn previous(self) -> Option<Self> {
                self.checked_sub(1)
            }
        }
    )*};
}
point!(u16 u32 u128);

/// A set of points as sorted, disjoint, closed intervals. Intervals that merely touch are kept
/// apart: a host next to another stays a host, which the IPv6 tables look up exactly.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Intervals<T>(Vec<(T, T)>);

impl<T> Default for Intervals<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Point> Intervals<T> {
    /// The union of intervals in any order.
    #[must_use]
    pub fn new(mut intervals: Vec<(T, T)>) -> Self {
        intervals.retain(|(first, last)| first <= last);
        intervals.sort_unstable();
        let mut merged: Vec<(T, T)> = Vec::with_capacity(intervals.len());
        for (first, last) in intervals {
            match merged.last_mut() {
                Some((_, end)) if first <= *end => *end = last.max(*end),
                _ => merged.push((first, last)),
            }
        }
        Self(merged)
    }

    /// Every point.
    #[must_use]
    pub fn all() -> Self {
        Self(vec![(T::MIN, T::MAX)])
    }

    /// The intervals, in order.
    #[must_use]
    pub fn as_slice(&self) -> &[(T, T)] {
        &self.0
    }

    /// Whether there is no point in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a point is in it.
    #[must_use]
    pub fn contains(&self, point: T) -> bool {
        let after = self.0.partition_point(|(first, _)| *first <= point);
        after > 0 && point <= self.0[after - 1].1
    }

    /// The points in both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let (few, many) = if self.0.len() <= other.0.len() { (self, other) } else { (other, self) };
        let mut both = Vec::new();
        for (first, last) in &few.0 {
            let start = many.0.partition_point(|(_, end)| end < first);
            for (from, to) in many.0[start..].iter().take_while(|(from, _)| from <= last) {
                both.push((*from.max(first), *to.min(last)));
            }
        }
        both.sort_unstable();
        Self(both)
    }

    /// Whether a point is in both.
    #[must_use]
    pub fn intersects(&self, other: &Self) -> bool {
        let (few, many) = if self.0.len() <= other.0.len() { (self, other) } else { (other, self) };
        few.0.iter().any(|(first, last)| {
            let start = many.0.partition_point(|(_, end)| end < first);
            many.0.get(start).is_some_and(|(from, _)| from <= last)
        })
    }

    /// The points in either.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        Self::new(self.0.iter().chain(&other.0).copied().collect())
    }

    /// The points in this and not in the other.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        let mut rest = Vec::new();
        for (first, last) in &self.0 {
            let mut from = Some(*first);
            let start = other.0.partition_point(|(_, end)| end < first);
            for (hole, hole_end) in other.0[start..].iter().take_while(|(hole, _)| hole <= last) {
                if let (Some(begin), Some(before)) = (from, hole.previous())
                    && begin <= before
                {
                    rest.push((begin, before));
                }
                from = hole_end.next();
            }
            if let Some(begin) = from.filter(|begin| begin <= last) {
                rest.push((begin, *last));
            }
        }
        Self(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(intervals: &[(u16, u16)]) -> Intervals<u16> {
        Intervals::new(intervals.to_vec())
    }

    #[test]
    fn overlaps_merge_and_neighbours_stay() {
        assert_eq!(set(&[(5, 9), (1, 2), (3, 3), (8, 12)]).as_slice(), [(1, 2), (3, 3), (5, 12)]);
        assert!(set(&[(9, 5)]).is_empty());
    }

    #[test]
    fn set_operations_agree_with_points() {
        let sets = [
            set(&[]),
            set(&[(0, 3), (7, 9)]),
            set(&[(2, 8)]),
            set(&[(0, 65535)]),
            set(&[(65535, 65535), (0, 0)]),
            set(&[(3, 3), (4, 4), (5, 9)]),
        ];
        for a in &sets {
            for b in &sets {
                for point in (0..12).chain([65534, 65535]) {
                    let (x, y) = (a.contains(point), b.contains(point));
                    assert_eq!(a.intersection(b).contains(point), x && y);
                    assert_eq!(a.union(b).contains(point), x || y);
                    assert_eq!(a.minus(b).contains(point), x && !y, "{a:?} minus {b:?} at {point}");
                }
                assert_eq!(a.intersects(b), !a.intersection(b).is_empty());
            }
        }
    }
}
