//! XDP and TC programs: the engine over real maps.
//!
//! Thin: every decision is the engine's. What is here reads the packet's bounds, hands them
//! over, counts, reports, and turns the outcome into the hook's own verdict.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch, asm_goto_with_outputs)]

mod answers;
mod audit;
mod calls;
mod compare;
mod counters;
mod driver;
mod environment;
mod flows;
mod host_table;
mod import;
mod maps;
mod membership;
mod nesting;
mod packets;
mod reports;
mod senders;
mod settings;
mod sockets;
mod staged;
mod tables;
mod tc;
mod xdp;

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    // Unreachable: the engine does not panic, and the verifier would refuse this loop.
    loop {}
}

/// The kernel offers some helpers only to GPL-compatible programs.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
