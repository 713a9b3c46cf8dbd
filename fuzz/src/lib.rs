//! What arbitrary bytes must not do. Each target is a function of bytes that panics on a
//! finding: libFuzzer calls it with what it makes up (`cargo xtask fuzz`), and `cargo test`
//! with the committed corpus, to which the input of every finding is added.

pub mod inventory;
mod naive;
pub mod parser;
pub mod policy;
pub mod world;
