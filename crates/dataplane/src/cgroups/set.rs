//! One set of programs on cgroups.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;

use aya::Ebpf;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, Map, MapData};
use bulkhead_abi::{Address, Holder, PREFIX_OTHER, PREFIX_OVERLAY, from_ip};

use super::load::load;
use super::netns;
use super::specification::Whose;
use super::{CgroupHook, CgroupSpecification};
use crate::object::missing;
use crate::pins::remove;
use crate::{KernelError, Pins};

/// [`Holder`] as aya takes values.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Value(pub(super) Holder);
// SAFETY: repr(C), no padding (its size is asserted where it is defined), plain integers.
unsafe impl aya::Pod for Value {}

/// Programs for one list of workloads and addresses, and what they look up. Nothing of it is attached by itself.
pub struct CgroupSet {
    specification: CgroupSpecification,
    host: Ebpf,
    workloads: BTreeMap<String, Ebpf>,
    holders: HashMap<MapData, Address, Value>,
    seen: Array<MapData, u64>,
}

impl CgroupSet {
    /// Makes the maps and loads the programs. No workload runs, and no cgroup was looked at.
    ///
    /// # Errors
    /// If the kernel refuses; what was made is gone again.
    pub fn load(specification: CgroupSpecification, pins: &Pins) -> Result<Self, KernelError> {
        // Objects share maps by their pins. Afterwards the programs keep them.
        let directory = pins.cgroup_maps();
        remove(&directory)?;
        fs::create_dir_all(&directory)
            .map_err(KernelError::refused(format!("{}: creating it", directory.display())))?;
        let set = Self::load_by(specification, &directory);
        let removed = remove(&directory);
        let set = set?;
        removed.map(|()| set)
    }

    /// Kernels before 6.15 refuse what asks for a packet's namespace.
    fn load_by(specification: CgroupSpecification, directory: &Path) -> Result<Self, KernelError> {
        match Self::load_with(&specification, directory, true) {
            Err(KernelError::Verifier { .. }) => {
                remove(directory)?;
                fs::create_dir_all(directory)
                    .map_err(KernelError::refused(format!("{}: creating it", directory.display())))?;
                Self::load_with(&specification, directory, false)
            }
            loaded => loaded,
        }
    }

    /// The same, where the kernel tells programs of packets in which namespace they are, or not.
    pub(super) fn load_with(
        specification: &CgroupSpecification,
        directory: &Path,
        tells_netns: bool,
    ) -> Result<Self, KernelError> {
        let netns =
            netns::cookie().map_err(KernelError::refused("asking for the network namespace's cookie"))?;
        let (held, prefixes) = (specification.held(), specification.prefixes());
        let sizes = [("HOLDERS", held.len()), ("OVERLAY", prefixes.len())];
        let of_host = CgroupHook::ALL.into_iter().filter_map(CgroupHook::of_host).collect();
        let mut host = load(specification.settings(netns, tells_netns, None)?, &of_host, directory, sizes)?;
        let of_workload = CgroupHook::ALL.into_iter().map(CgroupHook::of_workload).collect();
        let mut workloads = BTreeMap::new();
        for workload in &specification.workloads {
            let settings = specification.settings(netns, tells_netns, Some(workload))?;
            workloads.insert(workload.name.clone(), load(settings, &of_workload, directory, sizes)?);
        }
        let mut take = |name: &str| host.take_map(name).ok_or_else(|| missing(name));
        let mut overlay: LpmTrie<MapData, Address, u32> = typed("OVERLAY", take("OVERLAY")?)?;
        for (bits, address, is_overlay) in prefixes {
            let value = if is_overlay { PREFIX_OVERLAY } else { PREFIX_OTHER };
            let key = Key::new(bits, address);
            overlay.insert(&key, value, 0).map_err(KernelError::refused("filling map OVERLAY"))?;
        }
        let mut holders: HashMap<MapData, Address, Value> = typed("HOLDERS", take("HOLDERS")?)?;
        for (address, whose) in held {
            let holder = if whose == Whose::Host { Holder::HOST } else { Holder::NOBODY };
            holders
                .insert(from_ip(address), Value(holder), 0)
                .map_err(KernelError::refused("filling map HOLDERS"))?;
        }
        let seen = typed("SEEN", take("SEEN")?)?;
        Ok(Self { specification: specification.clone(), host, workloads, holders, seen })
    }

    /// What it was made for.
    #[must_use]
    pub fn specification(&self) -> &CgroupSpecification {
        &self.specification
    }

    /// Gives a workload's addresses to a cgroup, its id and how far below the root it lies; or to nobody.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn hold(&mut self, workload: &str, cgroup: Option<(u64, u32)>) -> Result<(), KernelError> {
        let holder = cgroup.map_or(Holder::NOBODY, |(cgroup, level)| Holder { cgroup, level, reserved: 0 });
        let known = self.specification.workloads.iter().find(|known| known.name == workload);
        for address in known.map(|known| &*known.addresses).unwrap_or_default() {
            self.holders
                .insert(from_ip(*address), Value(holder), 0)
                .map_err(KernelError::refused(format!("workload {workload}: giving it {address}")))?;
        }
        Ok(())
    }

    /// Says up to which id all cgroups were looked at.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn see(&mut self, last: u64) -> Result<(), KernelError> {
        self.seen.set(0, last, 0).map_err(KernelError::refused("writing which cgroups are known"))
    }

    /// How many instructions the verifier followed, by program.
    #[must_use]
    pub fn verified(&self) -> Vec<(String, u32)> {
        let programs = self.workloads.values().chain([&self.host]).flat_map(Ebpf::programs);
        let counted = programs.filter_map(|(name, program)| {
            Some((name.to_owned(), program.info().ok()?.verified_instruction_count()?))
        });
        counted.collect()
    }

    /// The hooks of the root cgroup that it has a program for, or of a workload's.
    pub(super) fn hooks(&self, workload: Option<&str>) -> impl Iterator<Item = CgroupHook> {
        let all = CgroupHook::ALL.into_iter();
        all.filter(move |hook| workload.is_some() || hook.of_host().is_some())
    }

    /// The program for a hook of the root cgroup, or of a workload's; and its number, as the kernel has it.
    pub(super) fn program(
        &self,
        workload: Option<&str>,
        hook: CgroupHook,
    ) -> Result<(BorrowedFd<'_>, u32), KernelError> {
        let (object, name) = match workload {
            None => (Some(&self.host), hook.of_host()),
            Some(workload) => (self.workloads.get(workload), Some(hook.of_workload())),
        };
        let name = name.ok_or_else(|| missing(hook.name()))?;
        let program = object.and_then(|object| object.program(name)).ok_or_else(|| missing(name))?;
        let what = || KernelError::refused(format!("program {name}"));
        let id = program.info().map_err(what())?.id();
        Ok((program.fd().map_err(what())?.as_fd(), id))
    }
}

fn typed<T>(name: &str, map: Map) -> Result<T, KernelError>
where
    T: TryFrom<Map>,
    T::Error: std::error::Error + Send + Sync + 'static,
{
    map.try_into().map_err(KernelError::refused(format!("map {name}")))
}
