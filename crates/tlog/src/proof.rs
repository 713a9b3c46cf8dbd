//! Proofs: that an entry is in a tree, and that a tree continues an earlier one (RFC 6962, section 2.1).

use std::ops::Range;

use crate::error::{Error, Result};
use crate::hash::{Hash, fold};
use crate::reader::Reader;
use crate::tile::WIDTH;

impl Reader {
    /// The hashes that prove an entry to be in the checkpoint's tree, from the leaf's sibling up.
    ///
    /// # Errors
    ///
    /// If the checkpoint does not cover the entry, or a tile that is needed was pruned or is missing.
    pub fn inclusion(&self, index: u64) -> Result<Vec<Hash>> {
        let size = self.checkpoint().size;
        if index >= size {
            return Err(Error::Beyond { index, size });
        }
        let mut path = Vec::new();
        let mut range = 0..size;
        while range.end - range.start > 1 {
            let middle = range.start + split(range.end - range.start);
            let (own, sibling) = if index < middle {
                (range.start..middle, middle..range.end)
            } else {
                (middle..range.end, range.start..middle)
            };
            path.push(self.subtree(sibling)?);
            range = own;
        }
        path.reverse();
        Ok(path)
    }

    /// The hashes that prove the checkpoint's tree to continue its tree of `old` entries.
    ///
    /// # Errors
    ///
    /// As [`Reader::inclusion`].
    pub fn consistency(&self, old: u64) -> Result<Vec<Hash>> {
        let size = self.covered(old)?;
        let mut path = Vec::new();
        if old == 0 || old == size {
            return Ok(path);
        }
        let mut range = 0..size;
        while range.end != old {
            let middle = range.start + split(range.end - range.start);
            if old <= middle {
                path.push(self.subtree(middle..range.end)?);
                range.end = middle;
            } else {
                path.push(self.subtree(range.start..middle)?);
                range.start = middle;
            }
        }
        if range.start > 0 {
            path.push(self.subtree(range)?);
        }
        path.reverse();
        Ok(path)
    }

    /// The root when the log had `size` entries.
    ///
    /// # Errors
    ///
    /// As [`Reader::inclusion`]. Below the first entry that pruning left, only roots of multiples of 256 are known.
    pub fn root_at(&self, size: u64) -> Result<Hash> {
        self.covered(size)?;
        if size == 0 { Ok(Hash::of_nothing()) } else { self.subtree(0..size) }
    }

    fn covered(&self, end: u64) -> Result<u64> {
        let size = self.checkpoint().size;
        if end <= size { Ok(size) } else { Err(Error::Beyond { index: end - 1, size }) }
    }

    /// The root of a part of the tree that the recursion of RFC 6962 comes to; not empty.
    fn subtree(&self, range: Range<u64>) -> Result<Hash> {
        let width = range.end - range.start;
        if !width.is_power_of_two() {
            let middle = range.start + split(width);
            return Ok(Hash::of_node(&self.subtree(range.start..middle)?, &self.subtree(middle..range.end)?));
        }
        let level = width.ilog2() / 8;
        let first = range.start >> (8 * level);
        let count = width >> (8 * level);
        let hashes = self.hashes(level as u8, first / WIDTH);
        let hashes = hashes.map_err(|error| self.pruned(range.start, error))?;
        let first = (first % WIDTH) as usize;
        Ok(fold(&hashes[first..first + count as usize]))
    }
}

/// The largest power of two below `width`, which is 2 at least.
fn split(width: u64) -> u64 {
    1 << (width - 1).ilog2()
}

/// Checks that a leaf is in a tree (RFC 9162, section 2.1.3.2).
///
/// # Errors
///
/// If `path` does not prove it.
pub fn check_inclusion(leaf: Hash, index: u64, size: u64, root: Hash, path: &[Hash]) -> Result<()> {
    if index >= size {
        return Err(Error::Proof("the index is beyond the tree"));
    }
    let mut walk = Walk { node: index, last: size - 1 };
    let mut computed = leaf;
    for sibling in path {
        computed = match walk.up()? {
            Side::Left => Hash::of_node(sibling, &computed),
            Side::Right => Hash::of_node(&computed, sibling),
        };
    }
    walk.is_at_root()?;
    if computed == root { Ok(()) } else { Err(Error::Proof("the entry's path does not lead to the root")) }
}

/// Checks that a tree continues an older one (RFC 9162, section 2.1.4.2).
///
/// # Errors
///
/// If `path` does not prove it.
pub fn check_consistency(old: u64, old_root: Hash, size: u64, root: Hash, path: &[Hash]) -> Result<()> {
    if old > size {
        return Err(Error::Proof("the older tree is larger"));
    }
    if old == 0 || old == size {
        let expected = if old == 0 { Hash::of_nothing() } else { root };
        let holds = path.is_empty() && old_root == expected;
        return if holds { Ok(()) } else { Err(Error::Proof("the older root is another")) };
    }
    let mut walk = Walk { node: old - 1, last: size - 1 };
    walk.skip(walk.node.trailing_ones());
    let mut path = path.iter();
    let first = if old.is_power_of_two() { Some(&old_root) } else { path.next() };
    let mut older = *first.ok_or(Error::Proof("it is too short"))?;
    let mut newer = older;
    for sibling in path {
        match walk.up()? {
            Side::Left => {
                older = Hash::of_node(sibling, &older);
                newer = Hash::of_node(sibling, &newer);
            }
            Side::Right => newer = Hash::of_node(&newer, sibling),
        }
    }
    walk.is_at_root()?;
    match (older == old_root, newer == root) {
        (true, true) => Ok(()),
        (false, _) => Err(Error::Proof("the older root is another")),
        (_, false) => Err(Error::Proof("the newer root is another")),
    }
}

/// Where the sibling lies.
enum Side {
    Left,
    Right,
}

/// A node on its way to the root, and the last node of its row.
struct Walk {
    node: u64,
    last: u64,
}

impl Walk {
    /// Goes up to the next node that has a sibling, and says where that lies.
    fn up(&mut self) -> Result<Side> {
        if self.last == 0 {
            return Err(Error::Proof("it is too long"));
        }
        let side = if self.node & 1 == 1 || self.node == self.last {
            if self.node & 1 == 0 {
                self.skip(self.node.trailing_zeros());
            }
            Side::Left
        } else {
            Side::Right
        };
        self.skip(1);
        Ok(side)
    }

    fn skip(&mut self, rows: u32) {
        self.node = self.node.checked_shr(rows).unwrap_or(0);
        self.last = self.last.checked_shr(rows).unwrap_or(0);
    }

    fn is_at_root(&self) -> Result<()> {
        if self.last == 0 { Ok(()) } else { Err(Error::Proof("it is too short")) }
    }
}
