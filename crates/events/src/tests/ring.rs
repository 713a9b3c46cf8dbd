//! A ring as the kernel makes one, in a file in memory: the consumer's page, the producer's, the records twice.

use std::fs::File;
use std::os::fd::FromRawFd as _;
use std::os::unix::fs::FileExt as _;

use bulkhead_abi::Event;

use crate::Ring;

pub struct FakeRing {
    file: File,
    page: u64,
    size: u64,
    producer: u64,
}

impl FakeRing {
    pub fn new(size: u64) -> Self {
        // SAFETY: a name that ends; the descriptor is nobody else's.
        let file = unsafe { File::from_raw_fd(libc::memfd_create(c"ring".as_ptr(), libc::MFD_CLOEXEC)) };
        // SAFETY: it has no preconditions.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as u64;
        file.set_len(2 * page + 2 * size).unwrap();
        Self { file, page, size, producer: 0 }
    }

    pub fn reader(&self) -> Ring {
        Ring::of(self.file.try_clone().unwrap().into(), self.size).unwrap()
    }

    /// Bytes that were not given back.
    pub fn used(&self) -> u64 {
        let mut consumer = [0; 8];
        self.file.read_exact_at(&mut consumer, 0).unwrap();
        self.producer - u64::from_ne_bytes(consumer)
    }

    /// Writes an event, if there is room.
    pub fn push(&mut self, event: &Event) -> bool {
        let length = (8 + size_of::<Event>() as u64).next_multiple_of(8);
        if self.used() + length > self.size {
            return false;
        }
        // SAFETY: plain old data without padding.
        let bytes =
            unsafe { std::slice::from_raw_parts(std::ptr::from_ref(event).cast::<u8>(), size_of::<Event>()) };
        let at = 2 * self.page + (self.producer & (self.size - 1));
        self.file.write_all_at(bytes, at + 8).unwrap();
        self.file.write_all_at(&(bytes.len() as u64).to_ne_bytes(), at).unwrap();
        self.producer += length;
        self.file.write_all_at(&self.producer.to_ne_bytes(), self.page).unwrap();
        true
    }
}
