//! The right edge of a tree: all that is needed to go on with it.

use std::path::Path;

use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::hash::{Hash, fold};
use crate::log::CHECKPOINT;
use crate::tile::{self, Row, Tile, WIDTH};

/// The unfinished tile of each level.
#[derive(Clone, Debug, Default)]
pub(crate) struct Edge {
    size: u64,
    /// By level, fewer than [`WIDTH`] hashes each.
    levels: Vec<Vec<Hash>>,
}

impl Edge {
    /// That of a checkpoint, whose unfinished tiles `hashes` reads: all of them together must make up its root.
    pub(crate) fn read(
        checkpoint: &Checkpoint,
        directory: &Path,
        mut hashes: impl FnMut(Tile) -> Result<Vec<Hash>>,
    ) -> Result<Self> {
        let mut edge = Self { size: checkpoint.size, levels: Vec::new() };
        for level in tile::levels(edge.size) {
            let count = edge.size >> (8 * u32::from(level));
            let tile = Tile { row: Row::Level(level), index: count / WIDTH, width: count % WIDTH };
            edge.levels.push(if tile.width == 0 { Vec::new() } else { hashes(tile)? });
        }
        if edge.root() == checkpoint.root {
            return Ok(edge);
        }
        let what = format!("the unfinished tiles do not make up its root at {} entries", edge.size);
        Err(Error::damaged(&directory.join(CHECKPOINT), what))
    }

    /// Leaves of the tree.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// The unfinished tile of a level.
    pub(crate) fn level(&self, level: u8) -> &[Hash] {
        self.levels.get(usize::from(level)).map_or(&[], Vec::as_slice)
    }

    /// Adds a leaf; `full` gets the tiles that it fills, lowest first.
    pub(crate) fn push(&mut self, leaf: Hash, full: impl FnMut(Tile, &[Hash])) {
        self.size += 1;
        self.push_at(0, leaf, full);
    }

    /// Forgets the leaves behind the last full tile of level 0, and so ends at a multiple of its width.
    pub(crate) fn truncate(&mut self) {
        self.size -= self.size % WIDTH;
        if let Some(row) = self.levels.first_mut() {
            row.clear();
        }
    }

    /// Adds a full tile of level 0, of which only the root is known, at a multiple of its width.
    pub(crate) fn push_tile(&mut self, root: Hash, full: impl FnMut(Tile, &[Hash])) {
        debug_assert!(self.size.is_multiple_of(WIDTH));
        self.size += WIDTH;
        self.push_at(1, root, full);
    }

    fn push_at(&mut self, first: usize, mut hash: Hash, mut full: impl FnMut(Tile, &[Hash])) {
        for level in first.. {
            while self.levels.len() <= level {
                self.levels.push(Vec::with_capacity(WIDTH as usize));
            }
            let row = &mut self.levels[level];
            row.push(hash);
            if row.len() < WIDTH as usize {
                return;
            }
            hash = fold(row);
            let level = level as u8;
            let index = (self.size >> (8 * (u32::from(level) + 1))) - 1;
            full(Tile { row: Row::Level(level), index, width: WIDTH }, row);
            row.clear();
        }
    }

    /// The root of the whole tree.
    pub(crate) fn root(&self) -> Hash {
        let mut root: Option<Hash> = None;
        for row in &self.levels {
            // Complete subtrees within the row, the largest leftmost; joined from the right.
            let mut end = row.len();
            while end > 0 {
                let width = 1 << end.trailing_zeros();
                let subtree = fold(&row[end - width..end]);
                root = Some(root.map_or(subtree, |right| Hash::of_node(&subtree, &right)));
                end -= width;
            }
        }
        root.unwrap_or_else(Hash::of_nothing)
    }
}
