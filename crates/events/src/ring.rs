//! The kernel's ring of events (`BPF_MAP_TYPE_RINGBUF`), read ahead of what is given back.
//!
//! aya's reader gives each record back before it shows the next one. This one is to keep them in the kernel until
//! the event log has them, where they outlive an agent that is killed.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// Bits of a record's header, in include/uapi/linux/bpf.h: it is being written, it is to be skipped.
const BUSY: u32 = 1 << 31;
const DISCARDED: u32 = 1 << 30;

/// Bytes of a header; records begin at multiples of it.
const HEADER: u64 = 8;

/// Pages of the ring in this process.
struct Pages {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: plain memory, of which each access is atomic or of bytes that nobody writes meanwhile.
unsafe impl Send for Pages {}

impl Pages {
    fn map(fd: BorrowedFd<'_>, length: usize, offset: usize, is_written: bool) -> io::Result<Self> {
        let protection = libc::PROT_READ | if is_written { libc::PROT_WRITE } else { 0 };
        // SAFETY: a new mapping, at an address of the kernel's choice.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                protection,
                libc::MAP_SHARED,
                fd.as_raw_fd(),
                offset as libc::off_t,
            )
        };
        match NonNull::new(start.cast()) {
            Some(start) if start.as_ptr() != libc::MAP_FAILED.cast() => Ok(Self { start, length }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    fn position(&self) -> &AtomicU64 {
        // SAFETY: a page begins with a position, aligned, and lives as long as this.
        unsafe { self.start.cast().as_ref() }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: what was mapped, and no reference outlives this.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.length) };
    }
}

/// A ring. There is one reader at a time.
pub struct Ring {
    fd: OwnedFd,
    /// Up to where records were given back.
    consumer: Pages,
    /// Up to where records were written; then the records, twice in a row.
    producer: Pages,
    page: usize,
    size: u64,
    cursor: u64,
}

impl Ring {
    /// Opens a ring by its map.
    ///
    /// # Errors
    /// If it cannot be mapped.
    pub fn open(map: BorrowedFd<'_>) -> io::Result<Self> {
        let path = format!("/proc/self/fdinfo/{}", map.as_raw_fd());
        let text = std::fs::read_to_string(path)?;
        let size = text.lines().find_map(|line| line.strip_prefix("max_entries:")?.trim().parse().ok());
        let size = size.ok_or_else(|| io::Error::other("the kernel does not say how large the ring is"))?;
        Self::of(map.try_clone_to_owned()?, size)
    }

    pub(crate) fn of(fd: OwnedFd, size: u64) -> io::Result<Self> {
        // SAFETY: it has no preconditions.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
        if !size.is_power_of_two() || size < page as u64 {
            return Err(io::Error::other(format!(
                "a ring of {size} bytes: not a power of two times the page size"
            )));
        }
        let consumer = Pages::map(fd.as_fd(), page, 0, true)?;
        let producer = Pages::map(fd.as_fd(), page + 2 * size as usize, page, false)?;
        let cursor = consumer.position().load(Ordering::Acquire);
        Ok(Self { fd, consumer, producer, page, size, cursor })
    }

    /// The next record, if it is written. It stays in the ring until it is given back.
    pub fn next_record(&mut self) -> Option<&[u8]> {
        loop {
            if self.cursor >= self.producer.position().load(Ordering::Acquire) {
                return None;
            }
            let offset = self.page + (self.cursor & (self.size - 1)) as usize;
            // SAFETY: within the mapping, whose records are there twice in a row, and aligned as headers are.
            let start = unsafe { self.producer.start.add(offset) };
            // SAFETY: as above; the kernel writes it as one word.
            let header = unsafe { start.cast::<AtomicU32>().as_ref() }.load(Ordering::Acquire);
            if header & BUSY != 0 {
                return None;
            }
            let length = u64::from(header & !DISCARDED).min(self.size);
            self.cursor += (HEADER + length).next_multiple_of(HEADER);
            if header & DISCARDED == 0 {
                // SAFETY: the record is written, and nobody writes there before it is given back, for which this
                // ring must be borrowed again.
                return Some(unsafe {
                    std::slice::from_raw_parts(start.add(HEADER as usize).as_ptr(), length as usize)
                });
            }
        }
    }

    /// Where the next record begins.
    #[must_use]
    pub fn cursor(&self) -> u64 {
        self.cursor
    }

    /// Goes back to the first record that was not given back.
    pub fn rewind(&mut self) {
        self.cursor = self.consumer.position().load(Ordering::Acquire);
    }

    /// Goes back to a record that was not given back.
    pub fn rewind_to(&mut self, position: u64) {
        self.cursor = position;
    }

    /// Gives records up to a position back.
    pub fn release(&mut self, position: u64) {
        self.consumer.position().store(position, Ordering::Release);
    }

    /// Bytes that are read and not given back.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.cursor.saturating_sub(self.consumer.position().load(Ordering::Acquire))
    }

    /// The position up to which records were written, or are being written.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.producer.position().load(Ordering::Acquire)
    }

    /// The position up to which records were given back.
    #[must_use]
    pub fn released(&self) -> u64 {
        self.consumer.position().load(Ordering::Acquire)
    }

    /// Bytes that it has room for.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Bytes that are not given back, read or not.
    #[must_use]
    pub fn used(&self) -> u64 {
        let consumer = self.consumer.position().load(Ordering::Acquire);
        self.producer.position().load(Ordering::Acquire).saturating_sub(consumer)
    }

    /// Waits until there is something that was not given back, or for so long.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn wait(&self, limit: Duration) -> io::Result<()> {
        let mut poll = libc::pollfd { fd: self.fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one descriptor, which this keeps open.
        if unsafe { libc::poll(&raw mut poll, 1, limit.as_millis() as i32) } >= 0 {
            return Ok(());
        }
        match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            error => Err(error),
        }
    }
}
