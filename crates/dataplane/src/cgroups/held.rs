//! What the programs on the root cgroup hold now, as the kernel has it.

use std::net::IpAddr;

use aya::maps::{HashMap, Map, MapData, MapInfo};
use aya::programs::loaded_programs;
use bulkhead_abi::{Address, Holder, to_ip};

use super::set::Value;
use super::{CgroupHook, CgroupLinks, Place};
use crate::KernelError;

const WHAT: &str = "reading whose addresses the programs on the root cgroup hold";

impl CgroupLinks {
    /// The addresses that the attached programs keep for workloads, or for nobody: whichever agent has attached them.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn held(&self) -> Result<Vec<IpAddr>, KernelError> {
        let Some(link) = self.link(Place::Host, CgroupHook::Ingress) else { return Ok(Vec::new()) };
        let program = link.info().map_err(KernelError::refused(WHAT))?.program;
        let program = loaded_programs().flatten().find(|info| info.id() == program);
        let maps = program.and_then(|info| info.map_ids().ok().flatten()).unwrap_or_default();
        let is_it = |id: &u32| MapInfo::from_id(*id).is_ok_and(|info| info.name_as_str() == Some("HOLDERS"));
        let Some(id) = maps.into_iter().find(is_it) else { return Ok(Vec::new()) };
        let map = MapData::from_id(id).map_err(KernelError::refused(WHAT))?;
        let holders: HashMap<MapData, Address, Value> =
            Map::HashMap(map).try_into().map_err(KernelError::refused(WHAT))?;
        let mut held = Vec::new();
        for entry in holders.iter() {
            let (address, Value(holder)) = entry.map_err(KernelError::refused(WHAT))?;
            if holder.cgroup != Holder::HOST.cgroup {
                held.push(to_ip(&address));
            }
        }
        held.sort_unstable();
        Ok(held)
    }
}
