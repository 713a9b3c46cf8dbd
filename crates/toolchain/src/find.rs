//! Which toolchain this machine has.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::System;

/// The target of the BPF object.
pub const TARGET: &str = "bpfel-unknown-none";

/// The bpf-linker that the recipe was run with; `cargo xtask setup` installs it, older ones are refused.
pub const LINKER_VERSION: &str = "0.13.0";

/// The distribution's compiler, next to rustup's. Debian's rustc-web comes with `core` for [`TARGET`].
const DISTRIBUTION_RUSTC: &str = "/usr/bin/rustc";

/// A compiler that can produce code for [`TARGET`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compiler {
    /// A stable compiler with `core` prebuilt for the target.
    Prebuilt {
        /// The compiler's path.
        rustc: PathBuf,
    },
    /// rustup's nightly with rust-src; `core` is built along.
    Nightly,
}

/// All that compiling the BPF object takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toolchain {
    /// What compiles.
    pub compiler: Compiler,
    /// What links: bpf-linker, by path or by a name on the search path.
    pub linker: PathBuf,
}

/// What keeps this machine from compiling the BPF object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Neither compiler was found.
    pub compiler: bool,
    /// No bpf-linker that runs and is recent enough.
    pub linker: bool,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the BPF program cannot be compiled on this machine; it lacks")?;
        if self.compiler {
            write!(
                f,
                "\n  - a compiler for {TARGET}: Debian's rustc-web with libstd-rust-web-dev-bpf \
                 ({DISTRIBUTION_RUSTC}, {} or newer), or rustup's nightly with rust-src",
                env!("CARGO_PKG_RUST_VERSION"),
            )?;
        }
        if self.linker {
            write!(
                f,
                "\n  - bpf-linker {LINKER_VERSION} or newer, on the search path or in cargo's bin directory"
            )?;
        }
        f.write_str(
            "\nnext: run `cargo xtask setup` as root; it installs what is missing, or says what to install",
        )
    }
}

impl std::error::Error for Missing {}

/// Recognises the machine's toolchain. A prebuilt `core` is preferred: it needs no unstable cargo flag.
///
/// # Errors
/// [`Missing`] names every missing part at once.
pub fn find(system: &dyn System) -> Result<Toolchain, Missing> {
    match (prebuilt(system).or_else(|| nightly(system)), bpf_linker(system)) {
        (Some(compiler), Some(linker)) => Ok(Toolchain { compiler, linker }),
        (compiler, linker) => Err(Missing { compiler: compiler.is_none(), linker: linker.is_none() }),
    }
}

/// The distribution's compiler, if it is recent enough for the workspace and has `core` for [`TARGET`].
pub fn prebuilt(system: &dyn System) -> Option<Compiler> {
    let verbose = system.output(DISTRIBUTION_RUSTC, &["-vV"])?;
    let release = verbose.lines().find_map(|line| line.strip_prefix("release: "))?;
    if version(release)? < version(env!("CARGO_PKG_RUST_VERSION"))? {
        return None;
    }
    let sysroot = system.output(DISTRIBUTION_RUSTC, &["--print", "sysroot"])?;
    let core = Path::new(sysroot.trim()).join("lib/rustlib").join(TARGET).join("lib");
    system.exists(&core).then(|| Compiler::Prebuilt { rustc: DISTRIBUTION_RUSTC.into() })
}

/// rustup's nightly, if it has the source of `core`.
pub fn nightly(system: &dyn System) -> Option<Compiler> {
    let sysroot = system.output("rustup", &["run", "nightly", "rustc", "--print", "sysroot"])?;
    let source = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core");
    system.exists(&source).then_some(Compiler::Nightly)
}

/// A bpf-linker that runs (its shared LLVM is there, too) and is recent enough.
pub fn bpf_linker(system: &dyn System) -> Option<PathBuf> {
    let cargo_home = system
        .variable("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| system.variable("HOME").map(|home| Path::new(&home).join(".cargo")));
    let installed = cargo_home.map(|home| home.join("bin/bpf-linker"));
    let candidates = [Some(PathBuf::from("bpf-linker")), installed];
    candidates.into_iter().flatten().find(|linker| {
        let Some(printed) = linker.to_str().and_then(|program| system.output(program, &["--version"])) else {
            return false;
        };
        let found = printed.split_whitespace().nth(1).and_then(version);
        found.is_some() && found >= version(LINKER_VERSION)
    })
}

/// Major and minor number of `1.96.0`, `1.95` or `1.97.0-nightly`.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.trim().split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests;
