//! Programs on cgroups: they hold workloads to their own addresses, and everybody else off these.
//!
//! Which of them run is chosen by the cgroup that a socket was made in, whoever uses it now. An object of its own,
//! so that the data path's does not grow with it.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod host;
mod maps;
mod packet;
mod settings;
mod socket;
mod verdict;
mod workload;

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    // Unreachable: nothing here panics, and the verifier would refuse this loop.
    loop {}
}

/// The kernel offers some helpers only to GPL-compatible programs.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
