//! What runs on the hooks: each program's tag, the maps that it uses, and what it was specialised by.

use std::collections::{BTreeMap, HashMap};
use std::io;

use aya::maps::{MapData, MapInfo};
use aya::programs::{ProgramInfo, loaded_programs};
use bulkhead_abi::Settings;
use object::{Object as _, ObjectSection as _, ObjectSymbol as _};

use super::super::link::Link;
use super::super::syscall::lookup;
use super::super::{CHAIN_MAPS, Hook, KernelError, OBJECT, Pins, STAGED_MAPS, STATE_MAPS, TABLE_MAPS};

/// A program on a hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldProgram {
    /// The interface by its managed name.
    pub interface: String,
    /// The hook.
    pub hook: Hook,
    /// The program's number.
    pub program: u32,
    /// The number of the program that enforces: the same, unless a staged policy observes before it. None if the kernel
    /// does not tell, or nothing does.
    pub enforcing: Option<u32>,
    /// What enforces is; none if the kernel does not tell, which it does to CAP_SYS_ADMIN alone.
    pub inside: Option<Inside>,
}

/// What a program is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inside {
    /// Its tag, as `bpftool prog` shows it: a digest of its instructions.
    pub tag: u64,
    /// What it was specialised by. None if it is no program of ours.
    pub settings: Option<Settings>,
    /// Maps of a name that is pinned which are not the pinned ones.
    pub strangers: Vec<Stranger>,
}

/// A map that a program uses in the place of a pinned one, or does not use though it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stranger {
    /// Its name.
    pub name: &'static str,
    /// The number of the map that the program uses; none: it uses no such map.
    pub used: Option<u32>,
    /// The number of the map that is pinned; none: nothing is.
    pub pinned: Option<u32>,
}

/// What every program reads to judge.
const JUDGED_BY: [&str; 5] = ["TRIE4", "HOST_TABLE", "PORTS", "PAIRS", "CELLS"];

/// The kernel keeps so much of a name.
const NAME: usize = 15;

/// The programs on the hooks of an interface's links; while a staged policy observes, what is told of is the program
/// that enforces behind it. `pins` are those of the interface's role.
///
/// # Errors
/// If the kernel cannot be asked.
pub fn held_programs(pins: &Pins, generation: u32, interface: &str) -> Result<Vec<HeldProgram>, KernelError> {
    let mut held = Vec::new();
    let mut infos: HashMap<u32, ProgramInfo> = HashMap::new();
    for (name, hook) in pins.links()? {
        if name != interface {
            continue;
        }
        let Some(program) = attached(pins, &name, hook)? else { continue };
        if infos.is_empty() {
            infos = loaded();
        }
        let Some(info) = infos.get(&program) else {
            held.push(HeldProgram { interface: name, hook, program, enforcing: None, inside: None });
            continue;
        };
        let observer = maps_of(info);
        let enforced = chained(&observer, hook)?.unwrap_or(program);
        let mut strangers = compare(pins, generation, &observer, enforced == program);
        let (mut tag, mut maps) = (info.tag(), observer);
        if enforced != program {
            let Some(info) = infos.get(&enforced) else {
                held.push(HeldProgram { interface: name, hook, program, enforcing: None, inside: None });
                continue;
            };
            (tag, maps) = (info.tag(), maps_of(info));
            strangers.extend(compare(pins, generation, &maps, true));
        }
        let inside = Some(Inside { tag, settings: settings(&maps)?, strangers });
        held.push(HeldProgram { interface: name, hook, program, enforcing: Some(enforced), inside });
    }
    Ok(held)
}

/// What the programs that enforce on each interface were specialised by, by its managed name. One of which the kernel
/// does not tell, which it does to CAP_SYS_ADMIN alone, or whose program is of no generation that is pinned, is not there.
///
/// # Errors
/// If the kernel cannot be asked.
pub fn held_settings(pins: &Pins) -> Result<BTreeMap<String, Settings>, KernelError> {
    let links = pins.links()?;
    let (generations, infos) =
        (pins.generations()?, if links.is_empty() { HashMap::new() } else { loaded() });
    let mut held = BTreeMap::new();
    for (name, hook) in links {
        let Some(program) = attached(pins, &name, hook)? else { continue };
        let Some(observer) = infos.get(&program).map(maps_of) else { continue };
        let enforced = chained(&observer, hook)?.unwrap_or(program);
        let Some(maps) = infos.get(&enforced).map(maps_of) else { continue };
        if let Some(settings) = settings(&maps)?.filter(|settings| generations.contains(&settings.generation))
        {
            held.insert(name, settings);
        }
    }
    Ok(held)
}

/// The program on a hook; none if its link is gone.
fn attached(pins: &Pins, interface: &str, hook: Hook) -> Result<Option<u32>, KernelError> {
    let what = || KernelError::refused::<io::Error>(format!("interface {interface}: asking what runs there"));
    let Some(link) = Link::pinned(&pins.link(interface, hook)).map_err(what())? else { return Ok(None) };
    Ok(Some(link.info().map_err(what())?.program))
}

/// The programs in the kernel, by number.
fn loaded() -> HashMap<u32, ProgramInfo> {
    loaded_programs().flatten().map(|info| (info.id(), info)).collect()
}

/// The maps of a program, by name and number.
fn maps_of(info: &ProgramInfo) -> Vec<(String, u32)> {
    let ids = info.map_ids().ok().flatten().unwrap_or_default();
    let named = ids.into_iter().filter_map(|id| {
        let info = MapInfo::from_id(id).ok()?;
        Some((info.name_as_str()?.to_owned(), id))
    });
    named.collect()
}

fn short(name: &str) -> &str {
    name.get(..NAME).unwrap_or(name)
}

/// The program that an observer goes on with.
fn chained(maps: &[(String, u32)], hook: Hook) -> Result<Option<u32>, KernelError> {
    let [xdp, tc] = [CHAIN_MAPS[0], CHAIN_MAPS[1]];
    let (name, index) = match hook {
        Hook::XdpNative | Hook::XdpGeneric => (xdp, 0u32),
        Hook::TcxIngress => (tc, 0),
        Hook::TcxEgress => (tc, 1),
    };
    let Some((_, id)) = maps.iter().find(|(known, _)| known == name) else { return Ok(None) };
    let what = format!("map {name}: reading which program enforces");
    let map = MapData::from_id(*id).map_err(KernelError::refused(what.clone()))?;
    let mut program = [0; 4];
    let is_there = lookup(&map, &index.to_ne_bytes(), &mut program).map_err(KernelError::refused(what))?;
    Ok(is_there.then_some(u32::from_ne_bytes(program)))
}

/// Maps of a program that are not the pinned ones of their name, which two may have in common as far as the kernel
/// keeps it.
fn compare(pins: &Pins, generation: u32, maps: &[(String, u32)], judges: bool) -> Vec<Stranger> {
    let state = STATE_MAPS.iter().map(|name| (*name, pins.state(name)));
    let tables = TABLE_MAPS.iter().chain(STAGED_MAPS).map(|name| (*name, pins.table(generation, name)));
    let id = |(name, path)| (name, MapInfo::from_pin(path).ok().map(|info| info.id()));
    // Programs name what a staged policy counts in; it is pinned if there is one.
    let is_there =
        |(name, pinned): &(&'static str, Option<u32>)| pinned.is_some() || !STAGED_MAPS.contains(name);
    let pinned: Vec<_> = state.chain(tables).map(id).filter(is_there).collect();
    let used = maps.iter().filter_map(|(known, used)| {
        let mut named = pinned.iter().filter(|(name, _)| short(name) == known);
        let (name, first) = *named.clone().next()?;
        let is_pinned = named.any(|(_, pinned)| *pinned == Some(*used));
        (!is_pinned).then_some(Stranger { name, used: Some(*used), pinned: first })
    });
    let missing = pinned.iter().filter(|(name, _)| {
        judges && JUDGED_BY.contains(name) && !maps.iter().any(|(known, _)| known == short(name))
    });
    used.chain(missing.map(|(name, pinned)| Stranger { name, used: None, pinned: *pinned })).collect()
}

/// What a program was specialised by, which nothing can change any more.
fn settings(maps: &[(String, u32)]) -> Result<Option<Settings>, KernelError> {
    const WHAT: &str = "reading what a program was specialised by";
    let Some((_, id)) = maps.iter().find(|(name, _)| name == ".rodata") else { return Ok(None) };
    let map = MapData::from_id(*id).map_err(KernelError::refused(WHAT))?;
    let size = map.info().map_err(KernelError::refused(WHAT))?.value_size();
    let mut bytes = vec![0; size as usize];
    if !lookup(&map, &0u32.to_ne_bytes(), &mut bytes).map_err(KernelError::refused(WHAT))? {
        return Ok(None);
    }
    let file = object::File::parse(OBJECT).map_err(KernelError::refused(WHAT))?;
    let section = file.section_by_name(".rodata").map(|section| section.index());
    let symbol = file.symbols().find(|symbol| {
        symbol.name() == Ok("SETTINGS") && symbol.section_index() == section && section.is_some()
    });
    let at = symbol.map(|symbol| symbol.address() as usize);
    let found = at.and_then(|at| bytes.get(at..)?.get(..size_of::<Settings>()));
    // SAFETY: as many bytes as the type has, which is of integers without padding.
    Ok(found.map(|bytes| unsafe { bytes.as_ptr().cast::<Settings>().read_unaligned() }))
}
