//! Pinned maps are taken over only if they have the shape that this agent would give them.

use std::io::ErrorKind;
use std::path::Path;

use aya::maps::{MapError, MapInfo};
use aya::sys::SyscallError;
use aya_obj::Object;

use super::flows::SLOTS_ALONE;
use super::{Capacity, KernelError, OBJECT, Pins, STATE_MAPS};

/// The sizes that the configuration gives to maps which outlive generations.
pub(super) fn sizes(capacity: &Capacity) -> [(&'static str, u32); 4] {
    [
        // And the one behind them, with the seed.
        ("FLOWS", capacity.flow_buckets() + 1),
        ("AGGREGATES_0", capacity.aggregates),
        ("AGGREGATES_1", capacity.aggregates),
        ("EVENTS", capacity.event_bytes),
    ]
}

/// The shapes that this agent gives to maps which outlive generations.
pub(super) struct Shapes {
    object: Object,
    capacity: Capacity,
}

/// How a pinned map compares with what this agent would make.
pub(super) struct Shape {
    /// The kernel's number of the map.
    pub(super) id: u32,
    /// Its type, key and value are of the same kind.
    pub(super) is_kind: bool,
    /// It has as many entries.
    pub(super) is_size: bool,
}

impl Shapes {
    /// Reads them from the BPF object and the configuration.
    pub(super) fn read(capacity: &Capacity) -> Result<Self, KernelError> {
        let object = Object::parse(OBJECT).map_err(KernelError::refused("reading the BPF object"))?;
        Ok(Self { object, capacity: *capacity })
    }

    /// The shape of a pinned map; `None` if nothing is pinned there.
    pub(super) fn of(&self, name: &str, path: &Path) -> Result<Option<Shape>, KernelError> {
        let info = match MapInfo::from_pin(path) {
            Ok(info) => info,
            Err(MapError::SyscallError(SyscallError { io_error, .. }))
                if io_error.kind() == ErrorKind::NotFound =>
            {
                return Ok(None);
            }
            Err(error) => return Err(KernelError::refused(format!("{}: its shape", path.display()))(error)),
        };
        let Some(map) = self.object.maps.get(name) else { return Ok(None) };
        let entries = sizes(&self.capacity).into_iter().find(|(sized, _)| *sized == name);
        let entries = entries.map_or(map.max_entries(), |(_, entries)| entries);
        let kind = info.map_type().map(|kind| kind as u32).unwrap_or(u32::MAX);
        // Rings have neither keys nor values.
        let is_kind = (kind, info.key_size()) == (map.map_type(), map.key_size());
        let is_value = info.value_size() == map.value_size();
        // Flows of map ABIs before 9 are read, and go into a table of this one's.
        let is_older = name == "FLOWS" && info.value_size() as usize == SLOTS_ALONE;
        let is_size = is_value && info.max_entries() == entries;
        Ok(Some(Shape { id: info.id(), is_kind: is_kind && (is_value || is_older), is_size }))
    }
}

/// Checks every pinned map that outlives generations. aya itself takes over whatever is pinned.
///
/// # Errors
/// [`KernelError::PinnedLayout`] names the map. The agent's start brings others to this shape.
pub fn check_pinned_state(pins: &Pins, capacity: &Capacity) -> Result<(), KernelError> {
    let shapes = Shapes::read(capacity)?;
    for name in STATE_MAPS {
        let path = pins.state(name);
        if let Some(shape) = shapes.of(name, &path)?.filter(|shape| !(shape.is_kind && shape.is_size)) {
            let what = if shape.is_kind { "size" } else { "type, key or value" };
            return Err(KernelError::PinnedLayout {
                path: path.display().to_string(),
                problem: format!("its {what} is another"),
                advice: "start the agent again, which brings it to this shape".to_owned(),
            });
        }
    }
    Ok(())
}
