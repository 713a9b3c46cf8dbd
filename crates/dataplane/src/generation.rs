//! One generation: freshly made tables, and programs that are specialised by their read-only globals.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::{Path, PathBuf};
use std::{fs, io};

use aya::Ebpf;
use aya::maps::Map;

use super::direct::{DirectMaps, REALTIME};
use super::object::missing;
use super::programs::{self, FLOW_IMPORT};
use super::shape::check_pinned_state;
use super::tables::{ENFORCED, STAGED_TABLES, fill_tables, make_direct};
use super::{
    CHAIN_MAPS, FlowTable, Group, Hook, Importer, KernelError, Pins, STAGED_MAPS, STATE_MAPS, Specialisation,
    Specification, Staged, TABLE_MAPS, link,
};

/// A generation whose tables are filled and whose programs the verifier has accepted.
pub struct Generation {
    /// Its number.
    pub number: u32,
    groups: Vec<Group>,
    tables: DirectMaps,
}

impl Generation {
    /// Makes the tables, and loads for each specialisation the programs of the hooks that are named;
    /// others are loaded when an interface needs them. Nothing is attached. With `pins` the maps are
    /// pinned, and shared by all specialisations; without, there must be one.
    ///
    /// # Errors
    /// If the kernel refuses; what was made is gone again.
    pub fn build(
        specification: &Specification,
        wanted: &[(Specialisation, Vec<Hook>)],
        pins: Option<&Pins>,
    ) -> Result<Self, KernelError> {
        assert!(pins.is_some() || wanted.len() == 1, "unpinned maps cannot be shared");
        let built = Self::build_groups(specification, wanted, pins);
        if built.is_err()
            && let Some(pins) = pins
        {
            pins.remove_generation(specification.number)?;
        }
        let (groups, tables) = built?;
        Ok(Self { number: specification.number, groups, tables })
    }

    fn build_groups(
        specification: &Specification,
        wanted: &[(Specialisation, Vec<Hook>)],
        pins: Option<&Pins>,
    ) -> Result<(Vec<Group>, DirectMaps), KernelError> {
        if let Some(pins) = pins {
            check_pinned_state(pins, &specification.capacity)?;
            let path = pins.generation(specification.number);
            fs::create_dir_all(&path)
                .map_err(KernelError::refused(format!("{}: creating it", path.display())))?;
        }
        let hosts = specification.hosts()?;
        let mut tables = DirectMaps::new(pins.map(|pins| (pins, specification.number)));
        tables.set(REALTIME, specification.realtime.into());
        make_direct(&mut tables, specification.tables, &hosts, &ENFORCED)?;
        if let Some(Staged { tables: observed, .. }) = specification.staged {
            make_direct(&mut tables, observed, &observed.hosts, &STAGED_TABLES)?;
        }
        let code = tables.relocate(specification.object)?;
        let mut groups = Vec::new();
        for (position, (specialisation, _)) in wanted.iter().enumerate() {
            let pins = pins.map(|pins| (pins, position));
            let mut group = Group::new(specification, &code, *specialisation, pins)?;
            if groups.is_empty() {
                flow_table(group.object())?.give_seed()?;
                fill_tables(specification.tables, &ENFORCED, group.object_mut())?;
                if let Some(staged) = specification.staged {
                    fill_tables(staged.tables, &STAGED_TABLES, group.object_mut())?;
                }
            }
            groups.push(group);
        }
        let mut unloaded = Vec::new();
        for (group, (_, hooks)) in groups.iter_mut().zip(wanted) {
            unloaded.extend(group.unloaded(hooks)?);
        }
        programs::load(unloaded)?;
        for (group, (_, hooks)) in groups.iter_mut().zip(wanted) {
            group.chain(hooks)?;
            #[cfg(feature = "bpf-log")]
            programs::start_log(group.object_mut())?;
        }
        Ok((groups, tables))
    }

    /// The programs for interfaces of a specialisation; none if they were not built.
    pub fn group(&mut self, specialisation: Specialisation) -> Option<&mut Group> {
        self.groups.iter_mut().find(|group| group.specialisation() == specialisation)
    }

    /// The programs of a generation that was built for one specialisation.
    ///
    /// # Errors
    /// If it was built for none.
    pub fn only_group(&mut self) -> Result<&mut Group, KernelError> {
        self.groups.first_mut().ok_or_else(|| missing("programs"))
    }

    /// The program that stores flows in the table that its programs use.
    ///
    /// # Errors
    /// If the verifier refuses it.
    pub fn importer(&mut self) -> Result<Importer<'_>, KernelError> {
        let name = FLOW_IMPORT;
        let object = self.groups.first_mut().ok_or_else(|| missing(name))?.object_mut();
        programs::load(programs::unloaded(object, &[name].into())?)?;
        let program = object.program_mut(name).ok_or_else(|| missing(name))?;
        Ok(Importer(program.try_into().map_err(KernelError::refused(format!("program {name}")))?))
    }

    /// The table of flows that its programs use.
    ///
    /// # Errors
    /// If it cannot be mapped.
    pub fn flows(&self) -> Result<FlowTable, KernelError> {
        flow_table(self.groups.first().ok_or_else(|| missing("FLOWS"))?.object())
    }

    /// A map of the generation or of the state that it shares.
    ///
    /// # Errors
    /// If there is none of that name.
    pub fn map_mut(&mut self, name: &str) -> Result<&mut Map, KernelError> {
        let group = self.groups.first_mut().ok_or_else(|| missing(name))?;
        group.object_mut().map_mut(name).ok_or_else(|| missing(name))
    }

    /// The descriptor of a map of the generation, or of the state that it shares.
    ///
    /// # Errors
    /// If there is none of that name.
    pub fn descriptor(&self, name: &str) -> Result<BorrowedFd<'_>, KernelError> {
        let mut objects = self.groups.iter().map(Group::object);
        let of_object = || objects.find_map(|object| object.map(name).and_then(descriptor_of));
        let found = self.tables.descriptor(name).or_else(of_object);
        found.ok_or_else(|| missing(name))
    }

    fn is_observed(&self) -> bool {
        self.groups.iter().any(Group::is_observed)
    }

    /// Pins maps again whose pins are gone; whether any was.
    ///
    /// # Errors
    /// If bpffs refuses.
    pub fn keep_pinned(&self, pins: &Pins) -> Result<bool, KernelError> {
        let state = STATE_MAPS.iter().map(|map| (*map, pins.state(map)));
        let tables = TABLE_MAPS.iter().chain(if self.is_observed() { STAGED_MAPS } else { &[] });
        let tables = tables.map(|map| (*map, pins.table(self.number, map)));
        let mut maps = Vec::new();
        for (map, pin) in state.chain(tables) {
            maps.push((self.descriptor(map)?, pin));
        }
        for (position, group) in self.groups.iter().enumerate().filter(|(_, group)| group.is_observed()) {
            for map in CHAIN_MAPS {
                let found = group.object().map(map).and_then(descriptor_of).ok_or_else(|| missing(map))?;
                maps.push((found, pins.chain(self.number, map, position)));
            }
        }
        let mut listed = Listed::default();
        maps.retain(|(_, pin)| !listed.has(pin));
        for (map, pin) in &maps {
            let failed = || KernelError::refused(format!("{}: pinning", pin.display()));
            if let Some(directory) = pin.parent() {
                fs::create_dir_all(directory).map_err(failed())?;
            }
            link::pin(*map, pin).map_err(failed())?;
        }
        Ok(!maps.is_empty())
    }

    /// How many instructions the verifier followed, by program.
    #[must_use]
    pub fn verified(&self) -> Vec<(String, u32)> {
        let programs = self.groups.iter().flat_map(|group| group.object().programs());
        let counted = programs.filter_map(|(name, program)| {
            Some((name.to_owned(), program.info().ok()?.verified_instruction_count()?))
        });
        counted.collect()
    }
}

/// What is in directories, each read once: to ask for pin after pin walks its whole path each time.
#[derive(Default)]
struct Listed(BTreeMap<PathBuf, Option<BTreeSet<OsString>>>);

impl Listed {
    fn has(&mut self, pin: &Path) -> bool {
        let Some((directory, name)) = pin.parent().zip(pin.file_name()) else { return pin.exists() };
        let read = || fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<_>>();
        match self.0.entry(directory.to_owned()).or_insert_with(|| read().ok()) {
            Some(names) => names.contains(name),
            // It is gone, or no descriptor is left to read it by.
            None => pin.exists(),
        }
    }
}

/// The descriptor of a map of the types that the object has.
fn descriptor_of(map: &Map) -> Option<BorrowedFd<'_>> {
    match map {
        Map::PerCpuArray(data)
        | Map::Array(data)
        | Map::HashMap(data)
        | Map::LruHashMap(data)
        | Map::LpmTrie(data)
        | Map::ProgramArray(data)
        | Map::RingBuf(data) => Some(data.fd().as_fd()),
        _ => None,
    }
}

fn flow_table(object: &Ebpf) -> Result<FlowTable, KernelError> {
    match object.map("FLOWS") {
        Some(Map::Array(data)) => FlowTable::map(data),
        _ => Err(missing("FLOWS")),
    }
}
