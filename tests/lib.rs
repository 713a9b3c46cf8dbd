//! End-to-end tests, and the laboratory that they and the demo stand in.

pub mod lab;
