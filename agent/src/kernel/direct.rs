//! Tables that programs address directly: array maps of one value, whose addresses the kernel writes
//! into the programs as it does those of their globals. The object names each by a symbol that is
//! defined nowhere; here its places are told which map that is.

use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::path::PathBuf;

use aya::maps::MapData;
use aya_obj::generated::{BPF_F_MMAPABLE, BPF_PSEUDO_MAP_VALUE, bpf_map_type};
use bulkhead_engine::layout::MAX_TABLE_BYTES;
use object::{Object as _, ObjectSection as _, ObjectSymbol as _, RelocationTarget, SectionKind};

use super::fill::{Value, bytes_of};
use super::mapped::Mapped;
use super::{KernelError, Pins};

/// The maps of one generation. Programs can be loaded as long as it lives: until then they know
/// the maps by their descriptors.
pub(super) struct DirectMaps {
    maps: Vec<Made>,
    pins: Option<(Pins, u32)>,
}

struct Made {
    name: &'static str,
    map: MapData,
    /// Where the last entry begins, bytes.
    last: usize,
}

/// What is added to a table's name where a program asks for its last entry.
const LAST: &str = "_LAST";

/// What the first byte of the instruction that loads an address is; it is as long as two others.
const LOAD_ADDRESS: u8 = 0x18;

impl DirectMaps {
    /// None yet; those that are made are pinned in a generation of `pins`.
    pub(super) fn new(pins: Option<(&Pins, u32)>) -> Self {
        Self { maps: Vec::new(), pins: pins.map(|(pins, number)| (pins.clone(), number)) }
    }

    /// Makes a map of these values.
    ///
    /// # Errors
    /// If there are none or too many, or the kernel refuses.
    pub(super) fn make<T: Value>(&mut self, name: &'static str, values: &[T]) -> Result<(), KernelError> {
        let size = size_of_val(values);
        let what = || format!("making map {name} of {size} bytes");
        if size == 0 || size > MAX_TABLE_BYTES {
            let source = format!("programs can address 1 to {MAX_TABLE_BYTES} bytes of a table");
            return Err(KernelError::Refused { what: what(), source: source.into() });
        }
        let array = bpf_map_type::BPF_MAP_TYPE_ARRAY as u32;
        let shape = aya_obj::Map::new_from_params(array, 4, size as u32, 1, BPF_F_MMAPABLE);
        let map = MapData::create(shape, name, None).map_err(KernelError::refused(what()))?;
        Mapped::new(&map, size).map_err(KernelError::refused(what()))?.fill(bytes_of(values));
        if let Some((pins, number)) = &self.pins {
            let path: PathBuf = pins.table(*number, name);
            map.pin(&path).map_err(KernelError::refused(format!("{}: pinning", path.display())))?;
        }
        self.maps.push(Made { name, map, last: size - size_of::<T>() });
        Ok(())
    }

    /// A map's descriptor.
    pub(super) fn descriptor(&self, name: &str) -> Option<BorrowedFd<'_>> {
        self.made(name).map(|made| made.map.fd().as_fd())
    }

    fn made(&self, name: &str) -> Option<&Made> {
        self.maps.iter().find(|made| made.name == name)
    }

    /// What an instruction is to load that names this symbol, if it is of a table that was made.
    fn meant(&self, symbol: &str) -> Option<Load> {
        let end = symbol.strip_suffix(LAST).and_then(|name| self.made(name));
        let load = end.map(|made| Load::Number(made.last as u32));
        load.or_else(|| self.descriptor(symbol).map(|map| Load::Address(map.as_raw_fd())))
    }

    /// The object with the maps in their places. What names a table that was not made is left as it
    /// is, the address 0: the verifier refuses a program that uses it.
    ///
    /// # Errors
    /// If it is no such object.
    pub(super) fn relocate(&self, object: &[u8]) -> Result<Vec<u8>, KernelError> {
        let failed = |source: object::Error| KernelError::refused("placing tables in the BPF object")(source);
        let file = object::File::parse(object).map_err(failed)?;
        let mut placed = object.to_vec();
        for section in file.sections().filter(|section| section.kind() == SectionKind::Text) {
            let Some((start, _)) = section.file_range() else { continue };
            for (offset, relocation) in section.relocations() {
                let RelocationTarget::Symbol(index) = relocation.target() else { continue };
                let symbol = file.symbol_by_index(index).map_err(failed)?;
                if !symbol.is_undefined() {
                    continue;
                }
                let Some(load) = self.meant(symbol.name().map_err(failed)?) else { continue };
                place(&mut placed, (start + offset) as usize, load)?;
            }
        }
        Ok(placed)
    }
}

/// What is loaded.
enum Load {
    /// The address of the value of a map, by its descriptor.
    Address(i32),
    /// A number.
    Number(u32),
}

/// Writes into the instruction at `at` what it loads (`struct bpf_insn`, linux/bpf.h).
fn place(object: &mut [u8], at: usize, load: Load) -> Result<(), KernelError> {
    let instruction = object.get_mut(at..).and_then(<[u8]>::first_chunk_mut::<16>);
    // What the compiler adds to an address is there already; it never does.
    let is_load = |instruction: &&mut [u8; 16]| instruction[0] == LOAD_ADDRESS && instruction[4..8] == [0; 4];
    let Some(instruction) = instruction.filter(is_load) else {
        let what = format!("placing a table in the BPF object at {at:#x}");
        return Err(KernelError::Refused { what, source: "no instruction that loads an address".into() });
    };
    match load {
        Load::Address(descriptor) => {
            instruction[1] = instruction[1] & 0x0f | (BPF_PSEUDO_MAP_VALUE as u8) << 4;
            instruction[4..8].copy_from_slice(&descriptor.to_le_bytes());
        }
        Load::Number(number) => instruction[4..8].copy_from_slice(&number.to_le_bytes()),
    }
    Ok(())
}
