//! Maps of a running generation as root can write to them: a bit of a value, while programs read it.

use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use aya::maps::{MapData, MapInfo};

/// An array map's values, mapped.
pub struct Memory {
    words: *mut u32,
    bytes: usize,
}

impl Memory {
    /// Maps a pinned one.
    pub fn open(pin: &Path) -> Self {
        let map = MapData::from_pin(pin).unwrap_or_else(|error| panic!("{}: {error}", pin.display()));
        let info = MapInfo::from_pin(pin).unwrap();
        let bytes = info.value_size() as usize * info.max_entries() as usize;
        // SAFETY: a mapping of the map's own length, which lives as long as this.
        let words = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                map.fd().as_fd().as_raw_fd(),
                0,
            )
        };
        assert_ne!(words, libc::MAP_FAILED, "{}: {}", pin.display(), std::io::Error::last_os_error());
        Self { words: words.cast(), bytes }
    }

    /// How many bits it has.
    pub fn bits(&self) -> u64 {
        self.bytes as u64 * 8
    }

    /// Turns a bit over.
    pub fn flip(&self, bit: u64) {
        assert!(bit < self.bits());
        // SAFETY: a word within the mapping, which others only touch as a whole.
        let word = unsafe { AtomicU32::from_ptr(self.words.add((bit / 32) as usize)) };
        word.fetch_xor(1 << (bit % 32), Ordering::SeqCst);
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: mapped by `open`, with this length.
        unsafe { libc::munmap(self.words.cast(), self.bytes) };
    }
}
