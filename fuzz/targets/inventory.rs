//! `cargo xtask fuzz inventory`: see [`bulkhead_fuzz::inventory`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bulkhead_fuzz::inventory::run(data));
