//! Pinned maps are taken over only if they have the shape that this agent would give them.

use std::io::ErrorKind;

use aya::maps::{MapError, MapInfo};
use aya::sys::SyscallError;
use aya_obj::Object;

use super::{Capacity, KernelError, OBJECT, Pins, STATE_MAPS};

/// The sizes that the configuration gives to maps which outlive generations.
pub(super) fn sizes(capacity: &Capacity) -> [(&'static str, u32); 5] {
    [
        ("UNREPLIED", capacity.unreplied),
        ("ESTABLISHED", capacity.established),
        ("AGGREGATES_0", capacity.aggregates),
        ("AGGREGATES_1", capacity.aggregates),
        ("EVENTS", capacity.event_bytes),
    ]
}

/// What of `agent.toml` sets a map's size.
fn setting(map: &str) -> Option<&'static str> {
    Some(match map {
        "UNREPLIED" => "[flows] unreplied",
        "ESTABLISHED" => "[flows] established",
        "AGGREGATES_0" | "AGGREGATES_1" => "[events] aggregates",
        "EVENTS" => "[events] ring_bytes",
        _ => return None,
    })
}

/// Checks every pinned map that outlives generations. aya itself takes over whatever is pinned.
///
/// # Errors
/// [`KernelError::PinnedLayout`] names the map and what to do.
pub fn check_pinned_state(pins: &Pins, capacity: &Capacity) -> Result<(), KernelError> {
    let object = Object::parse(OBJECT).map_err(KernelError::refused("reading the BPF object"))?;
    for name in STATE_MAPS {
        let path = pins.state(name);
        let info = match MapInfo::from_pin(&path) {
            Ok(info) => info,
            Err(MapError::SyscallError(SyscallError { io_error, .. }))
                if io_error.kind() == ErrorKind::NotFound =>
            {
                continue;
            }
            Err(error) => return Err(KernelError::refused(format!("{}: its shape", path.display()))(error)),
        };
        let Some(map) = object.maps.get(*name) else { continue };
        let entries = sizes(capacity).into_iter().find(|(sized, _)| sized == name);
        let entries = entries.map_or(map.max_entries(), |(_, entries)| entries);
        let refuse = |problem: String, advice: String| KernelError::PinnedLayout {
            path: path.display().to_string(),
            problem,
            advice,
        };
        let detach = "`bulkhead detach`, which ends enforcement and forgets flows, and `bulkhead run`";
        let kind = info.map_type().map(|kind| kind as u32).unwrap_or(u32::MAX);
        let shape = (kind, info.key_size(), info.value_size());
        // Rings have neither keys nor values.
        if shape != (map.map_type(), map.key_size(), map.value_size()) {
            return Err(refuse("its type, key or value is of another kind".to_owned(), detach.to_owned()));
        }
        if info.max_entries() != entries {
            let keep = setting(name).map(|setting| {
                format!("{setting} = {} in agent.toml to go on with it, or ", info.max_entries())
            });
            return Err(refuse(
                format!("it has a size of {}, and {entries} is configured", info.max_entries()),
                format!("{}{detach} for the new size", keep.unwrap_or_default()),
            ));
        }
    }
    Ok(())
}
