//! `cargo xtask fuzz parser`: see [`bulkhead_fuzz::parser`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bulkhead_fuzz::parser::run(data));
