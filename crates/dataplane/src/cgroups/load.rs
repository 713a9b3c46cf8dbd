//! The object of the programs on cgroups, loaded once for the host and once for each workload.

use std::collections::BTreeSet;
use std::path::Path;

use aya::{Ebpf, EbpfLoader};
use bulkhead_abi::CgroupSettings;

use crate::object::CGROUP_OBJECT;
use crate::{KernelError, programs};

/// Maps that all programs of a set share.
const SHARED: [&str; 3] = ["OVERLAY", "HOLDERS", "SEEN"];

/// [`CgroupSettings`] as aya takes globals.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Global(CgroupSettings);
// SAFETY: repr(C), no padding (its size is asserted where it is defined), plain integers.
unsafe impl aya::Pod for Global {}

/// Loads these programs, specialised; the maps are those that are pinned in `directory`, or are made and pinned there.
pub(super) fn load(
    settings: CgroupSettings,
    names: &BTreeSet<&'static str>,
    directory: &Path,
    sizes: [(&str, usize); 2],
) -> Result<Ebpf, KernelError> {
    let settings = Global(settings);
    let mut loader = EbpfLoader::new();
    loader.override_global("CGROUP_SETTINGS", &settings, true);
    for (name, entries) in sizes {
        // A map has at least one entry.
        let entries =
            u32::try_from(entries.max(1)).map_err(KernelError::refused(format!("map {name}: its size")))?;
        loader.map_max_entries(name, entries);
    }
    for name in SHARED {
        loader.map_pin_path(name, directory.join(name));
    }
    let mut object = loader
        .load(CGROUP_OBJECT)
        .map_err(KernelError::refused("loading the object of programs on cgroups"))?;
    programs::load(programs::unloaded(&mut object, names)?)?;
    Ok(object)
}
