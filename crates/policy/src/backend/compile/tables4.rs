//! Pieces of the IPv4 axis → the trie, and the single addresses that lie too far apart for it.

use bulkhead_abi::{BLOCK_SLOTS, Leaf, TRIE_ROOT_BLOCKS};

use crate::analysis::equivalence::Piece;

/// The most addresses of a /24 that are looked up by themselves, if all others have one leaf. A
/// block of the trie takes 1 KiB, an address by itself 36 bytes.
const SPARSE: usize = 8;

/// The IPv4 tables.
pub(super) struct Tables4 {
    /// The 16-8-8 trie.
    pub(super) trie: Vec<[Leaf; BLOCK_SLOTS]>,
    /// Single addresses that it sends to the host table.
    pub(super) hosts: Vec<(u32, Leaf)>,
}

/// The tables of sorted, disjoint pieces. `None` if the trie would have more than `limit` blocks.
pub(super) fn tables4(pieces: &[Piece<u32>], leaf: impl Fn(u32) -> Leaf, limit: usize) -> Option<Tables4> {
    let trie = vec![[Leaf(0); BLOCK_SLOTS]; TRIE_ROOT_BLOCKS as usize];
    let mut builder = Builder { tables: Tables4 { trie, hosts: Vec::new() }, wide: None, narrow: None };
    for piece in pieces {
        builder.add(piece.first, piece.last, leaf(piece.class));
        if builder.tables.trie.len() > limit {
            return None;
        }
    }
    builder.settle_wide();
    (builder.tables.trie.len() <= limit).then_some(builder.tables)
}

/// A /16 that pieces are still being added to.
struct Wide {
    high: u32,
    entries: [Leaf; BLOCK_SLOTS],
}

/// The first and the last address of a part of a /24, and their leaf.
type Part = (u8, u8, Leaf);

/// A /24 likewise.
struct Narrow {
    base: u32,
    parts: Vec<Part>,
}

/// Pieces come in order, so that a /24 or a /16 is settled when one beyond it comes: at no time
/// are there blocks of what lies in the host table.
struct Builder {
    tables: Tables4,
    wide: Option<Wide>,
    narrow: Option<Narrow>,
}

impl Builder {
    fn add(&mut self, first: u32, last: u32, leaf: Leaf) {
        for high in first >> 16..=last >> 16 {
            let from = first.max(high << 16);
            let to = last.min((high << 16) | 0xffff);
            if to - from == 0xffff {
                self.settle_wide();
                *self.root(high) = leaf;
                continue;
            }
            if self.wide.as_ref().is_none_or(|wide| wide.high != high) {
                self.settle_wide();
                self.wide = Some(Wide { high, entries: [Leaf(0); BLOCK_SLOTS] });
            }
            for base in from >> 8..=to >> 8 {
                let (low, top) = (from.max(base << 8), to.min((base << 8) | 0xff));
                if top - low == 0xff {
                    self.settle_narrow();
                    self.set(base, leaf);
                    continue;
                }
                if self.narrow.as_ref().is_none_or(|narrow| narrow.base != base) {
                    self.settle_narrow();
                    self.narrow = Some(Narrow { base, parts: Vec::new() });
                }
                self.narrow.iter_mut().for_each(|narrow| narrow.parts.push((low as u8, top as u8, leaf)));
            }
        }
    }

    fn root(&mut self, high: u32) -> &mut Leaf {
        &mut self.tables.trie[(high >> 8) as usize][(high & 0xff) as usize]
    }

    /// The entry of a /24 in the /16 at hand.
    fn set(&mut self, base: u32, entry: Leaf) {
        self.wide.iter_mut().for_each(|wide| wide.entries[(base & 0xff) as usize] = entry);
    }

    /// Adds a block; the entry that names it.
    fn block(&mut self, entries: [Leaf; BLOCK_SLOTS]) -> Leaf {
        self.tables.trie.push(entries);
        Leaf::block(self.tables.trie.len() as u32 - 1)
    }

    fn settle_narrow(&mut self) {
        let Some(Narrow { base, parts }) = self.narrow.take() else { return };
        let parts = with_gaps(&parts);
        let entry = match most_frequent(&parts) {
            Some(other) => {
                let before = self.tables.hosts.len();
                for (low, top, leaf) in parts.into_iter().filter(|(_, _, leaf)| *leaf != other) {
                    self.tables.hosts.extend((low..=top).map(|low| (base << 8 | u32::from(low), leaf)));
                }
                if self.tables.hosts.len() == before { other } else { Leaf::host_table(other) }
            }
            None => {
                let mut entries = [Leaf(0); BLOCK_SLOTS];
                for (low, top, leaf) in parts {
                    entries[usize::from(low)..=usize::from(top)].fill(leaf);
                }
                self.block(entries)
            }
        };
        self.set(base, entry);
    }

    fn settle_wide(&mut self) {
        self.settle_narrow();
        let Some(Wide { high, entries }) = self.wide.take() else { return };
        let others = |entry: &Leaf| if entry.is_leaf() { Some(*entry) } else { entry.as_host_table() };
        let other = others(&entries[0]).filter(|other| entries.iter().all(|e| others(e) == Some(*other)));
        *self.root(high) = match other {
            Some(other) if entries.iter().all(|entry| entry.is_leaf()) => other,
            Some(other) => Leaf::host_table(other),
            None => self.block(entries),
        };
    }
}

/// All parts of a /24: what is in none has the zero leaf.
fn with_gaps(parts: &[Part]) -> Vec<Part> {
    let mut all = Vec::with_capacity(2 * parts.len() + 1);
    let mut next = Some(0);
    for part in parts {
        if let Some(from) = next.filter(|from| *from < part.0) {
            all.push((from, part.0 - 1, Leaf(0)));
        }
        all.push(*part);
        next = part.1.checked_add(1);
    }
    all.extend(next.map(|from| (from, u8::MAX, Leaf(0))));
    all
}

/// The leaf of all but [`SPARSE`] addresses of a /24, if there is one.
fn most_frequent(parts: &[Part]) -> Option<Leaf> {
    // The others, and what lies before, between and behind them.
    if parts.len() > 2 * SPARSE + 1 {
        return None;
    }
    let has = |wanted: Leaf| -> usize {
        let same = parts.iter().filter(|(_, _, leaf)| *leaf == wanted);
        same.map(|(low, top, _)| usize::from(top - low) + 1).sum()
    };
    parts.iter().map(|(_, _, leaf)| *leaf).find(|leaf| has(*leaf) + SPARSE >= BLOCK_SLOTS)
}

#[cfg(test)]
#[path = "tables4_tests.rs"]
mod tests;
