//! Tables and flows in memory: what the compiler makes, the loader uploads, and
//! `bulkhead eval` and the tests decide with.

use std::collections::HashMap;

use crate::layout::{Address, BLOCK_SLOTS, Cell, Leaf, LpmKey, PORT_BLOCKS, Pair, TRIE_ROOT_BLOCKS};

/// The compiled tables of one node: everything of one generation that the kernel looks up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tables {
    /// The IPv4 trie; the first [`TRIE_ROOT_BLOCKS`] blocks are the root.
    pub trie: Vec<[Leaf; BLOCK_SLOTS]>,
    /// IPv6 addresses, each once, sorted.
    pub exact6: Vec<(Address, Leaf)>,
    /// IPv6 prefixes, each once, sorted by (length, address).
    pub prefixes6: Vec<(LpmKey, Leaf)>,
    /// Port classes, [`PORT_BLOCKS`] blocks.
    pub ports: Vec<[u16; BLOCK_SLOTS]>,
    /// (direction, local class, remote class) → row.
    pub pairs: Vec<[Pair; BLOCK_SLOTS]>,
    /// Rows of cells.
    pub cells: Vec<Cell>,
    /// Deadlines in ns since the Unix epoch. Entry 0 is unused. The agent converts them to boot time.
    pub deadlines: Vec<u64>,
    /// Number of rules: cells name 0 to this number − 1.
    pub rules: u32,
    /// Local classes: 1 to this number.
    pub locals: u32,
    /// Remote classes, 'unknown' included.
    pub remotes: u32,
    /// Port classes.
    pub port_classes: u32,
}

impl Tables {
    /// Tables that deny everything.
    #[must_use]
    pub fn deny_all() -> Self {
        Self {
            trie: vec![[Leaf(0); BLOCK_SLOTS]; TRIE_ROOT_BLOCKS as usize],
            exact6: Vec::new(),
            prefixes6: Vec::new(),
            ports: vec![[0; BLOCK_SLOTS]; PORT_BLOCKS as usize],
            pairs: vec![[Pair(0); BLOCK_SLOTS]],
            cells: vec![Cell::NONE],
            deadlines: vec![0],
            rules: 0,
            locals: 1,
            remotes: 1,
            port_classes: 1,
        }
    }
}
