//! (protocol, port) → port class.

use bulkhead_abi::{BLOCK_SLOTS, PORT_BLOCKS};

use super::bounded;
use super::error::CompileError;
use crate::analysis::equivalence::Sweep;
use crate::interval::Intervals;
use crate::resolve::{Ruleset, ServiceId};

/// The port classes of the services that matter to a node.
pub(super) struct PortClasses {
    /// The port-class table.
    pub(super) blocks: Vec<[u16; BLOCK_SLOTS]>,
    /// How many classes there are, class 0 (in no service) among them.
    pub(super) count: u32,
    /// Classes of each service of the ruleset that matters.
    of: Vec<Vec<u32>>,
}

impl PortClasses {
    pub(super) fn new(
        ruleset: &Ruleset,
        used: impl Iterator<Item = ServiceId>,
    ) -> Result<Self, CompileError> {
        let mut ids: Vec<ServiceId> = used.collect();
        ids.sort_unstable();
        ids.dedup();
        let points: Vec<Intervals<u32>> = ids.iter().map(|id| ruleset.service(*id).points()).collect();
        let mut sweep = Sweep::new(ids.len());
        let pieces = sweep.axis(points.iter().enumerate());
        bounded("port classes", sweep.classes.len(), 1 << 16)?;
        let mut blocks = vec![[0; BLOCK_SLOTS]; PORT_BLOCKS as usize];
        for piece in pieces {
            for point in piece.first as usize..=piece.last as usize {
                blocks[point / BLOCK_SLOTS][point % BLOCK_SLOTS] = piece.class as u16;
            }
        }
        let mut of = vec![Vec::new(); ruleset.services.len()];
        for (class, members) in sweep.classes.iter().enumerate() {
            for service in members.iter() {
                of[ids[service].0 as usize].push(class as u32);
            }
        }
        Ok(Self { blocks, count: sweep.classes.len() as u32, of })
    }

    /// The classes of any of some services, each once.
    pub(super) fn of(&self, services: &[ServiceId]) -> Vec<u32> {
        let all = services.iter().flat_map(|id| &self.of[id.0 as usize]);
        let mut classes: Vec<u32> = all.copied().collect();
        classes.sort_unstable();
        classes.dedup();
        classes
    }
}
