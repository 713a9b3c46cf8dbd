//! `cargo xtask fuzz policy`: see [`bulkhead_fuzz::policy`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bulkhead_fuzz::policy::run(data));
