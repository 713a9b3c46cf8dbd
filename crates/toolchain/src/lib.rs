//! The recipe for building the BPF object, in one place.
//!
//! `agent/build.rs` compiles with it, `cargo xtask setup` installs what it finds missing.
//! It has no dependencies, because a build script waits for them.

mod compile;
mod find;
mod system;

pub use compile::{CompileError, OBJECTS, Object};
pub use find::{Compiler, LINKER_VERSION, Missing, TARGET, Toolchain, bpf_linker, find, nightly, prebuilt};
pub use system::{Host, System};
