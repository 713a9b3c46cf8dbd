//! Address classes: what the sweep found, by side, and as the tables number them.

use std::collections::HashMap;

use bulkhead_abi::Leaf;

use super::node::Sides;
use super::{CompileError, Matrix, bounded};
use crate::analysis::equivalence::{Piece, Sweep};
use crate::bits::Bits;

/// The local and remote halves of the classes that the sweep found.
pub(super) struct Classes {
    /// Members of each local class, from class 1: numbers of local sets.
    pub(super) locals: Vec<Bits>,
    /// Members of each remote class; class 0 has none.
    pub(super) remotes: Vec<Bits>,
    /// Members of further columns of the matrix, behind those of `remotes`: in them nothing counts but management
    /// exemptions.
    pub(super) exempt: Vec<Bits>,
    /// Class of the sweep → local class, 0 if not local.
    pub(super) local_of: Vec<u32>,
    /// Class of the sweep → remote class, 0 if unknown.
    pub(super) remote_of: Vec<u32>,
}

impl Classes {
    pub(super) fn new(sides: &Sides<'_>, sweep: &Sweep) -> Result<Self, CompileError> {
        let (near, far) = (sides.locals(), sides.remotes());
        let mut classes = Self {
            locals: Vec::new(),
            remotes: vec![Bits::new(far)],
            exempt: Vec::new(),
            local_of: Vec::new(),
            remote_of: Vec::new(),
        };
        let mut known_locals = HashMap::new();
        let mut known_remotes = HashMap::from([(Bits::new(far), 0)]);
        for members in &sweep.classes {
            let (mut local, mut remote) = (Bits::new(near), Bits::new(far));
            for set in members.iter() {
                if set < near {
                    local.insert(set);
                } else if set < near + far {
                    remote.insert(set - near);
                }
            }
            // Set 0 is 'local': nothing else counts without it.
            let local = if local.contains(0) {
                *known_locals.entry(local.clone()).or_insert_with(|| {
                    classes.locals.push(local);
                    classes.locals.len() as u32
                })
            } else {
                0
            };
            let remote = *known_remotes.entry(remote.clone()).or_insert_with(|| {
                classes.remotes.push(remote);
                classes.remotes.len() as u32 - 1
            });
            classes.local_of.push(local);
            classes.remote_of.push(remote);
        }
        bounded("local address classes", classes.locals.len(), Leaf::MAX_LOCAL as usize)?;
        Ok(classes)
    }

    /// Every column of the matrix: its members, and whether nothing but exemptions counts in it.
    pub(super) fn columns(&self) -> impl Iterator<Item = (&Bits, bool)> {
        let all = self.remotes.iter().map(|members| (members, false));
        all.chain(self.exempt.iter().map(|members| (members, true)))
    }

    /// How many there are.
    pub(super) fn column_count(&self) -> usize {
        self.remotes.len() + self.exempt.len()
    }

    /// The column of these members in which nothing but exemptions counts. There are as many as combinations of
    /// exemptions' sources: few.
    pub(super) fn exempt_column(&mut self, members: Bits) -> usize {
        let known = self.exempt.iter().position(|known| *known == members);
        let index = known.unwrap_or_else(|| {
            self.exempt.push(members);
            self.exempt.len() - 1
        });
        self.remotes.len() + index
    }

    /// Which remote classes hold a whole IPv4 /16 or IPv6 /48 in one piece: whoever makes addresses up has
    /// one of theirs.
    pub(super) fn wide(&self, pieces4: &[Piece<u32>], pieces6: &[Piece<u128>]) -> Vec<bool> {
        let pieces4 = pieces4.iter().map(|piece| (piece.class, piece.last - piece.first >= 0xffff));
        let pieces6 = pieces6.iter().map(|piece| (piece.class, piece.last - piece.first >= (1 << 80) - 1));
        let mut wide = vec![false; self.column_count()];
        for (class, is_wide) in pieces4.chain(pieces6) {
            wide[self.remote_of[class as usize] as usize] |= is_wide;
        }
        wide
    }
}

/// Remote classes as the tables know them.
pub(super) struct Merged {
    /// Remote class → its number in the tables.
    pub(super) of: Vec<u32>,
    /// How many there are, 'unknown' included.
    pub(super) remotes: u32,
    /// The wide ones have this number or a higher one.
    pub(super) wide: u32,
}

/// Remote classes that no row tells apart become one, but no wide one with another. 'Unknown' stays by itself.
pub(super) fn merge(matrix: &Matrix, classes: &Classes, wide: &[bool]) -> Result<Merged, CompileError> {
    let mut known: [HashMap<Vec<u32>, u32>; 2] = Default::default();
    let mut of = vec![0];
    // In their order, the wide ones last.
    for remote in 1..classes.column_count() {
        let column = matrix.iter().flatten().map(|row_of| row_of[remote]).collect();
        let alike = &mut known[usize::from(wide[remote])];
        let next = alike.len() as u32;
        of.push(*alike.entry(column).or_insert(next));
    }
    let first_wide = known[0].len() as u32 + 1;
    let count = first_wide as usize - 1 + known[1].len();
    bounded("remote address classes", count, Leaf::MAX_REMOTE as usize)?;
    for (class, wide) in of.iter_mut().zip(wide).skip(1) {
        *class += if *wide { first_wide } else { 1 };
    }
    Ok(Merged { of, remotes: count as u32 + 1, wide: first_wide })
}
