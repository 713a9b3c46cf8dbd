//! What the hooks really run, asked of the kernel: it answers without an agent too.

use std::collections::HashMap;

use aya::maps::MapInfo;
use aya::programs::loaded_programs;
use bulkhead_api::hook::RunningLink;

use super::device::Devices;
use super::hook::fault;
use super::link::{Link, LinkInfo};
use super::{KernelError, Pins};

/// The maps by which a program's generation is known: of the enforced policy, and of a staged one by today's name
/// and its former one.
const TRIES: [&str; 3] = ["TRIE4", "STAGED_TRIE4", "SHADOW_TRIE4"];

/// Every pinned link, of every layout, and what it runs.
///
/// # Errors
/// If the pins cannot be read.
pub fn running(pins: &Pins) -> Result<Vec<RunningLink>, KernelError> {
    let mut generation_of = HashMap::new();
    let mut programs: HashMap<u32, Option<u32>> = HashMap::new();
    let mut seen = Vec::new();
    let devices = Devices::open().map_err(KernelError::refused("asking for interfaces"))?;
    let others = pins.others()?;
    for pins in [pins].into_iter().chain(&others) {
        for number in pins.generations()? {
            // One that was just being built or freed has no such map. While a staged policy observes, it is
            // its program that the hook names.
            let (exchange, underlay, local) = (pins.exchange(), pins.underlay(), pins.local());
            let tables = [pins, &exchange, &underlay, &local].into_iter();
            for path in tables.flat_map(|pins| TRIES.map(|map| pins.table(number, map))) {
                if let Ok(info) = MapInfo::from_pin(path) {
                    generation_of.insert(info.id(), number);
                }
            }
        }
        for (interface, hook) in pins.links()? {
            let pin = pins.link(&interface, hook);
            let failed = || KernelError::refused(format!("{}: asking what it runs", pin.display()));
            let Some(link) = Link::pinned(&pin).map_err(failed())? else { continue };
            let info = link.info().map_err(failed())?;
            let device = devices.by_name(&interface).map_err(failed())?;
            let fault = fault(&link, hook, device.as_ref()).map_err(failed())?;
            programs.insert(info.program, None);
            seen.push((interface, hook, info, pins.version(), fault));
        }
    }
    if seen.is_empty() {
        return Ok(Vec::new());
    }
    for info in loaded_programs().flatten() {
        if let Some(generation) = programs.get_mut(&info.id()) {
            let maps = info.map_ids().ok().flatten().unwrap_or_default();
            *generation = maps.iter().find_map(|map| generation_of.get(map).copied());
        }
    }
    let link = |(interface, hook, info, layout, fault): (_, _, LinkInfo, _, _)| RunningLink {
        interface,
        hook,
        index: info.index,
        program: info.program,
        generation: programs.get(&info.program).copied().flatten(),
        layout,
        fault,
    };
    Ok(seen.into_iter().map(link).collect())
}
