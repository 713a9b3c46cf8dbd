//! Tables that programs address directly: array maps of one value, whose addresses the kernel writes
//! into the programs as it does those of their globals. The object names each by a symbol that is
//! defined nowhere; here its places are told which map that is.

use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};

use aya::maps::MapData;
use aya_obj::generated::{BPF_F_MMAPABLE, BPF_PSEUDO_MAP_VALUE, bpf_map_type};
use bulkhead_abi::MAX_TABLE_BYTES;
use object::{Object as _, ObjectSection as _, ObjectSymbol as _, RelocationTarget, SectionKind};

use super::fill::bytes_of;
use super::mapped::Mapped;
use super::value::Value;
use super::{KernelError, Pins};

/// The maps of one generation. Programs can be loaded as long as it lives: until then they know
/// the maps by their descriptors.
pub(super) struct DirectMaps {
    maps: Vec<Made>,
    numbers: Vec<(&'static str, u32)>,
    pins: Option<(Pins, u32)>,
}

struct Made {
    name: &'static str,
    map: MapData,
    /// Where the last entry begins, bytes.
    last: usize,
}

/// 1: programs may interrupt each other on a CPU.
pub(super) const REALTIME: &str = "REALTIME";

/// What is added to a table's name where a program asks for its last entry.
const LAST: &str = "_LAST";

/// What the first byte of the instruction that loads an address is; it is as long as two others.
const LOAD_ADDRESS: u8 = 0x18;

impl DirectMaps {
    /// None yet; those that are made are pinned in a generation of `pins`.
    pub(super) fn new(pins: Option<(&Pins, u32)>) -> Self {
        Self {
            maps: Vec::new(),
            numbers: Vec::new(),
            pins: pins.map(|(pins, number)| (pins.clone(), number)),
        }
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
            let path = pins.table(*number, name);
            map.pin(&path).map_err(KernelError::refused(format!("{}: pinning", path.display())))?;
        }
        self.maps.push(Made { name, map, last: size - size_of::<T>() });
        Ok(())
    }

    /// Says what a number is that programs ask for by name.
    pub(super) fn set(&mut self, name: &'static str, number: u32) {
        self.numbers.push((name, number));
    }

    /// A map's descriptor.
    pub(super) fn descriptor(&self, name: &str) -> Option<BorrowedFd<'_>> {
        self.made(name).map(|made| made.map.fd().as_fd())
    }

    fn made(&self, name: &str) -> Option<&Made> {
        self.maps.iter().find(|made| made.name == name)
    }

    /// What an instruction is to load that names this symbol, if it is of a table that was made or a
    /// number that was set.
    fn meant(&self, symbol: &str) -> Option<Load> {
        let end = symbol.strip_suffix(LAST).and_then(|name| self.made(name));
        let load = end.map(|made| Load::Number(made.last as u32));
        let number = || self.numbers.iter().find(|(name, _)| *name == symbol);
        let load = load.or_else(|| number().map(|(_, number)| Load::Number(*number)));
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
    // Where there is something, the compiler has added to the address.
    let is_load = |instruction: &&mut [u8; 16]| instruction[0] == LOAD_ADDRESS && instruction[4..8] == [0; 4];
    let Some(instruction) = instruction.filter(is_load) else {
        let what = format!("placing a table in the BPF object at {at:#x}");
        return Err(KernelError::Refused {
            what,
            source: "no instruction that loads an address as it is".into(),
        });
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

#[cfg(test)]
mod tests {
    use object::{Object as _, ObjectSymbol as _};

    use super::{LAST, LOAD_ADDRESS, Load, REALTIME, place};
    use crate::{OBJECT, STAGED_MAPS, TABLE_MAPS};

    #[test]
    fn all_that_the_object_leaves_open_are_tables_and_a_number() {
        let file = object::File::parse(OBJECT).unwrap();
        let open = file.symbols().filter(|symbol| symbol.is_undefined() && symbol.name() != Ok(""));
        let mut names: Vec<_> = open.map(|symbol| symbol.name().unwrap()).collect();
        assert!(names.contains(&"TRIE4") && names.contains(&"STAGED_TRIE4_LAST"), "{names:?}");
        names.retain(|name| {
            let table = name.strip_suffix(LAST).unwrap_or(name);
            !TABLE_MAPS.contains(&table) && !STAGED_MAPS.contains(&table)
        });
        assert_eq!(names, [REALTIME]);
    }

    #[test]
    fn only_an_instruction_that_loads_an_address_gets_another() {
        let load = |first: u8, added: u8| {
            let mut object = [0xa3; 24];
            (object[8], object[9]) = (first, 0x07);
            object[12..16].copy_from_slice(&[added, 0, 0, 0]);
            object
        };
        let mut object = load(LOAD_ADDRESS, 0);
        place(&mut object, 8, Load::Address(0x0102)).unwrap();
        assert_eq!(object[8..16], [LOAD_ADDRESS, 0x27, 0xa3, 0xa3, 2, 1, 0, 0]);
        let mut object = load(LOAD_ADDRESS, 0);
        place(&mut object, 8, Load::Number(0xfffe_fdfc)).unwrap();
        assert_eq!(object[8..16], [LOAD_ADDRESS, 0x07, 0xa3, 0xa3, 0xfc, 0xfd, 0xfe, 0xff]);
        for (mut object, at) in [(load(0x79, 0), 8), (load(LOAD_ADDRESS, 4), 8), (load(LOAD_ADDRESS, 0), 16)]
        {
            let before = object;
            assert!(place(&mut object, at, Load::Number(7)).is_err());
            assert_eq!(object, before);
        }
    }
}
