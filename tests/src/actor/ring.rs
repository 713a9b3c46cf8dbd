//! Connecting by io_uring (io_uring(7)): the kernel's own threads do it.

use std::io;
use std::mem::zeroed;
use std::os::fd::AsRawFd as _;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};

use super::Words;
use super::sockets::say_nothing;

const SETUP_SQPOLL: u32 = 1 << 1;
const FEAT_SINGLE_MMAP: u32 = 1;
const ENTER_GETEVENTS: u32 = 1;
const ENTER_SQ_WAKEUP: u32 = 1 << 1;
const OP_CONNECT: u8 = 16;
const FLAG_ASYNC: u8 = 1 << 4;
const OFF_SQ_RING: i64 = 0;
const OFF_SQES: i64 = 0x1000_0000;

#[repr(C)]
struct Offsets([u32; 10]);

/// `struct io_uring_params`.
#[repr(C)]
struct Parameters {
    entries: [u32; 2],
    flags: u32,
    cpu: u32,
    idle: u32,
    features: u32,
    worker: u32,
    reserved: [u32; 3],
    /// head, tail, ring_mask, ring_entries, flags, dropped, array, and more.
    submissions: Offsets,
    /// head, tail, ring_mask, ring_entries, overflow, cqes, and more.
    completions: Offsets,
}

/// Connects; as whom the other end sees it.
pub fn connect(words: &Words<'_>) -> io::Result<String> {
    let to: SockAddr = words.address(1)?.into();
    let is_polled = words.has("sqpoll");
    let socket = Socket::new(Domain::from(i32::from(to.family())), Type::STREAM, None)?;
    // SAFETY: system calls with memory of the sizes that they say, which lives until the end.
    unsafe {
        let mut parameters: Parameters = zeroed();
        if is_polled {
            (parameters.flags, parameters.idle) = (SETUP_SQPOLL, 2000);
        }
        let ring = libc::syscall(libc::SYS_io_uring_setup, 8, &raw mut parameters) as i32;
        if ring < 0 {
            return Err(io::Error::last_os_error());
        }
        if parameters.features & FEAT_SINGLE_MMAP == 0 {
            return Err(io::Error::other("rings in two pieces"));
        }
        let map = |length: usize, offset: i64| {
            let access = libc::PROT_READ | libc::PROT_WRITE;
            libc::mmap(null_mut(), length, access, libc::MAP_SHARED, ring, offset).cast::<u8>()
        };
        let (rings, entries) = (map(1 << 13, OFF_SQ_RING), map(8 * 64, OFF_SQES));
        if rings.cast() == libc::MAP_FAILED || entries.cast() == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let word = |offset: u32| &*rings.add(offset as usize).cast::<AtomicU32>();
        let (sq, cq) = (&parameters.submissions.0, &parameters.completions.0);
        entries.write(OP_CONNECT);
        entries.add(1).write(FLAG_ASYNC);
        entries.add(4).cast::<i32>().write(socket.as_raw_fd());
        entries.add(8).cast::<u64>().write(u64::from(to.len()));
        entries.add(16).cast::<u64>().write(to.as_ptr() as u64);
        word(sq[6]).store(0, Ordering::Relaxed);
        word(sq[1]).store(1, Ordering::Release);
        let (count, flags) = if is_polled { (0, ENTER_SQ_WAKEUP) } else { (1, 0) };
        libc::syscall(
            libc::SYS_io_uring_enter,
            ring,
            count,
            0,
            flags & !ENTER_GETEVENTS,
            null_mut::<u8>(),
            0,
        );
        let deadline = Instant::now() + Duration::from_millis(1500);
        while word(cq[1]).load(Ordering::Acquire) == 0 {
            if Instant::now() > deadline {
                return Err(io::ErrorKind::TimedOut.into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let result = rings.add(cq[5] as usize + 8).cast::<i32>().read();
        if result < 0 {
            return Err(io::Error::from_raw_os_error(-result));
        }
    }
    say_nothing(&socket)
}
