//! (direction, local class, remote class) → row.

use crate::Direction;

/// One entry of the pair table.
///
/// | bits | meaning |
/// |---|---|
/// | 31 | opposite: the other direction admits something between these two classes, so a packet that no rule admits may be a reply |
/// | 0..=30 | index of the row's first cell; the cell of port class `p` is at this index + `p` |
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pair(pub u32);

impl Pair {
    const OPPOSITE: u32 = 1 << 31;

    /// An entry for the row that starts at cell `row`.
    #[must_use]
    pub const fn new(row: u32, opposite: bool) -> Self {
        Self((opposite as u32 * Self::OPPOSITE) | row)
    }

    /// Whether the other direction admits anything.
    #[inline(always)]
    #[must_use]
    pub const fn opposite(self) -> bool {
        self.0 & Self::OPPOSITE != 0
    }

    /// Index of the row's first cell.
    #[inline(always)]
    #[must_use]
    pub const fn row(self) -> u32 {
        self.0 & !Self::OPPOSITE
    }
}

/// Index into the pair table. `local` is 1 to `locals`, `remote` is 0 to `remotes` − 1.
/// The table is stored in blocks of 256 entries.
#[inline(always)]
#[must_use]
pub const fn pair_index(direction: Direction, local: u32, remote: u32, locals: u32, remotes: u32) -> u32 {
    (direction.index() * locals + (local - 1)) * remotes + remote
}
