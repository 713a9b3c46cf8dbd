//! Flows as layouts 1 and 2 had them: in two LRU hash tables.

use std::path::Path;

use aya::Pod;
use aya::maps::{MapData, MapType};
use bulkhead_abi::{FLOW_ESTABLISHED, FlowKey, FlowRecord, FlowValue};

use super::{KernelError, batch};

/// The tables: without a reply, and with one.
pub(super) const MAPS: [&str; 2] = ["UNREPLIED", "ESTABLISHED"];

/// Layouts that had them.
pub(super) const VERSIONS: [u32; 2] = [1, 2];

/// What was known of a flow.
#[repr(C)]
#[derive(Clone, Copy)]
struct HashedValue {
    created: u64,
    last_seen: u64,
    generation: u32,
    rule: u32,
    state: u8,
    flags: u8,
    reserved: [u8; 6],
}
const _: () = assert!(size_of::<HashedValue>() == 32);
// SAFETY: repr(C) integers without padding.
unsafe impl Pod for HashedValue {}

/// The key, which is today's.
#[repr(transparent)]
#[derive(Clone, Copy)]
struct HashedKey(FlowKey);
// SAFETY: repr(C) integers without padding, its size asserted where it is defined.
unsafe impl Pod for HashedKey {}

fn open(path: &Path) -> Result<MapData, KernelError> {
    MapData::from_pin(path)
        .map_err(KernelError::refused(format!("{}: opening the table of flows", path.display())))
}

/// Whether a pinned map is such a table.
pub(super) fn is_table(path: &Path) -> Result<bool, KernelError> {
    let info = open(path)?.info().map_err(KernelError::refused(format!("{}: its shape", path.display())))?;
    let is_hash = info.map_type().is_ok_and(|kind| kind == MapType::LruHash);
    let sizes = (info.key_size() as usize, info.value_size() as usize);
    Ok(is_hash && sizes == (size_of::<HashedKey>(), size_of::<HashedValue>()))
}

/// Hands over all flows of a table, as they are kept today.
pub(super) fn read(path: &Path, mut take: impl FnMut(FlowRecord)) -> Result<(), KernelError> {
    let is_established = path.file_name().is_some_and(|name| name == MAPS[1]);
    batch::read(&open(path)?, |HashedKey(key), value: HashedValue| {
        let HashedValue { last_seen, generation, rule, state, flags, .. } = value;
        let flags = if is_established { flags | FLOW_ESTABLISHED } else { flags };
        take(FlowRecord {
            key,
            flow: FlowValue { last_seen, generation, rule, state, flags, begun: [0; 6] },
        });
    })
}
