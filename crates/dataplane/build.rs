//! Compiles the BPF programs and hands them to the crate, so that the installed binary needs no toolchain.

use std::env;
use std::error::Error;
use std::fs;
use std::path::PathBuf;

use bulkhead_toolchain::{Host, OBJECTS, Object, find};

fn main() -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("no OUT_DIR")?);
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").ok_or("no CARGO_MANIFEST_DIR")?);
    let workspace = manifest.ancestors().nth(2).ok_or("the data plane is not in a workspace")?;
    for source in
        ["ebpf", "crates/abi", "crates/engine/src", "crates/engine/Cargo.toml", "Cargo.toml", "Cargo.lock"]
    {
        println!("cargo::rerun-if-changed={}", workspace.join(source).display());
    }
    let target_dir = out.join("target");
    let arch = env::var("CARGO_CFG_TARGET_ARCH")?;
    if arch != "x86_64" {
        println!(
            "cargo::error=the BPF programs rely on the order in which x86-64 loads and stores \
             (docs/decisions/0015); {arch} needs barriers in crates/abi/src/word.rs first"
        );
        return Ok(());
    }
    let features: &[&str] = if env::var_os("CARGO_FEATURE_BPF_LOG").is_some() { &["log"] } else { &[] };
    let object = Object { workspace, target_dir: &target_dir, arch: &arch, features };
    let toolchain = match find(&Host) {
        Ok(toolchain) => toolchain,
        Err(missing) => {
            // Cargo takes one line at a time, and fails the build for it.
            missing.to_string().lines().for_each(|line| println!("cargo::error={line}"));
            return Ok(());
        }
    };
    let built = toolchain.compile(&object)?;
    for name in OBJECTS {
        fs::copy(built.join(name), out.join(name))?;
    }
    Ok(())
}
