//! The agent's library: what the `bulkhead` binary, the tests and the benchmarks share.

pub mod kernel;
pub mod places;
pub mod spare;
