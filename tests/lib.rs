//! End-to-end tests, the laboratory that they and the demo stand in, packets to test with, and how
//! the cost of a packet is measured.

pub mod lab;
pub mod measure;
pub mod packets;

mod setting;

pub use setting::setting;
