//! The bytes of tables, and an array map that is filled with them before a program reads it.

use aya::maps::{Map, MapData};

use super::KernelError;
use super::mapped::Mapped;
use super::value::Value;

/// Values as they lie in memory.
pub(super) fn bytes_of<T: Value>(values: &[T]) -> &[u8] {
    // SAFETY: `Value` types have no padding, so their bytes are initialised.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }
}

/// Copies `values` into the array map from index 0. The map must have been made with
/// `BPF_F_MMAPABLE`, and no program that is attached read it.
pub(super) fn fill<T: Value>(name: &'static str, map: &Map, values: &[T]) -> Result<(), KernelError> {
    // Array maps round every value up to a multiple of 8.
    const { assert!(size_of::<T>().is_multiple_of(8)) };
    let what = || format!("filling map {name}");
    let Map::Array(data) = map else {
        return Err(KernelError::Refused {
            what: what(),
            source: "the object has another type of map".into(),
        });
    };
    check(name, data, size_of::<T>(), values.len())?;
    let mut memory = Mapped::new(data, size_of_val(values)).map_err(KernelError::refused(what()))?;
    memory.fill(bytes_of(values));
    Ok(())
}

/// The mapping must lie within the map.
fn check(name: &str, data: &MapData, size: usize, count: usize) -> Result<(), KernelError> {
    let info = data.info().map_err(KernelError::refused(format!("map {name}: asking for its shape")))?;
    if info.value_size() as usize != size || (info.max_entries() as usize) < count {
        let problem =
            format!("{} values of {} bytes, need {count} of {size}", info.max_entries(), info.value_size());
        let advice = "this is a defect of the agent, please report it".to_owned();
        return Err(KernelError::PinnedLayout { path: name.to_owned(), problem, advice });
    }
    Ok(())
}
