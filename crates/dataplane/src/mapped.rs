//! An array map as memory, which programs may be reading.

use std::io;
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

use aya::maps::MapData;
use memmap2::{MmapMut, MmapOptions};

use super::value::Value;

/// The values of an array map's first `bytes` bytes, as they are now: each of its words is whole, though programs and
/// others may write it meanwhile.
///
/// # Errors
/// If it cannot be mapped.
pub(super) fn read<T: Value>(map: &MapData, bytes: usize) -> io::Result<Vec<T>> {
    let mut values = Vec::with_capacity(bytes / size_of::<T>());
    if bytes == 0 {
        return Ok(values);
    }
    let memory = MmapOptions::new().len(bytes).map_raw_read_only(&map.fd().as_fd())?;
    let count = bytes / size_of::<T>();
    // SAFETY: so many values of a type whose any bytes are a value lie in the mapping, and there is room for them.
    unsafe {
        std::ptr::copy_nonoverlapping(memory.as_ptr().cast::<T>(), values.as_mut_ptr(), count);
        values.set_len(count);
    }
    Ok(values)
}

/// The memory of an array map that was made with `BPF_F_MMAPABLE`.
pub(super) struct Mapped(MmapMut);

impl Mapped {
    /// Maps the first `bytes` bytes.
    pub(super) fn new(map: &MapData, bytes: usize) -> io::Result<Self> {
        // SAFETY: the kernel keeps the map's pages; programs and others that have mapped it
        // touch whole words only, as this does.
        unsafe { MmapOptions::new().len(bytes).map_mut(&map.fd().as_fd()) }.map(Self)
    }

    /// Copies bytes to its beginning. Panics if it is shorter.
    pub(super) fn fill(&mut self, bytes: &[u8]) {
        self.0[..bytes.len()].copy_from_slice(bytes);
    }

    /// How many values of a type it holds.
    pub(super) fn count<T: Value>(&self) -> usize {
        self.0.len() / size_of::<T>()
    }

    /// Value `index` of a map that nobody else writes to.
    pub(super) fn value<T: Value>(&self, index: usize) -> Option<&T> {
        let bytes = self.0.get(index * size_of::<T>()..(index + 1) * size_of::<T>())?;
        // SAFETY: of a type whose any bytes are a value, and aligned: the mapping starts at a page,
        // of which sizes are parts or multiples.
        Some(unsafe { &*bytes.as_ptr().cast() })
    }

    /// Writes word `index`; whoever reads it sees all earlier writes. Panics beyond the end, as a
    /// slice does.
    pub(super) fn store_u32(&mut self, index: usize, value: u32) {
        assert!((index + 1) * 4 <= self.0.len(), "word {index} of a map of {} bytes", self.0.len());
        // SAFETY: within the mapping, which starts at a page.
        unsafe { AtomicU32::from_ptr(self.0.as_mut_ptr().cast::<u32>().add(index)) }
            .store(value, Ordering::Release);
    }

    /// Writes half-word `index`.
    pub(super) fn store_u16(&mut self, index: usize, value: u16) {
        assert!((index + 1) * 2 <= self.0.len(), "half-word {index} of a map of {} bytes", self.0.len());
        // SAFETY: as above.
        unsafe { AtomicU16::from_ptr(self.0.as_mut_ptr().cast::<u16>().add(index)) }
            .store(value, Ordering::Release);
    }

    /// Writes double word `index`.
    pub(super) fn store_u64(&mut self, index: usize, value: u64) {
        assert!((index + 1) * 8 <= self.0.len(), "double word {index} of a map of {} bytes", self.0.len());
        // SAFETY: as above.
        unsafe { AtomicU64::from_ptr(self.0.as_mut_ptr().cast::<u64>().add(index)) }
            .store(value, Ordering::Release);
    }
}
