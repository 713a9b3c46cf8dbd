//! End-to-end tests, the laboratory that they and the demo stand in, and packets to test with.

pub mod lab;
pub mod packets;
