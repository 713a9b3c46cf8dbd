//! The binary that ships: static, optimised, stripped, and without a trace of where it was built.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::cargo::{executables_by, workspace};

/// Linked with musl, it runs on any distribution.
pub const TARGET: &str = "x86_64-unknown-linux-musl";

/// Builds below `directory`.
pub fn build(directory: &Path) -> Result<PathBuf> {
    let words = ["build", "--locked", "--release", "--target", TARGET, "--package", "bulkhead"];
    let found = executables_by(&words, |cargo| {
        // C code is compiled anew whenever SOURCE_DATE_EPOCH changes, and has no time in it.
        cargo.env("CARGO_TARGET_DIR", directory).env_remove("SOURCE_DATE_EPOCH").env_remove("RUSTFLAGS");
        cargo.env("CARGO_PROFILE_RELEASE_STRIP", "symbols");
        cargo.env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_MUSL_RUSTFLAGS", flags(directory));
    })?;
    let found = found.into_iter().find(|(name, _)| name == "bulkhead");
    Ok(found.context("cargo built no executable bulkhead")?.1)
}

/// Paths in panics and debugging information, under names that every machine has.
fn flags(directory: &Path) -> String {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    let places =
        [(Some(directory), "/target"), (Some(workspace()), "/bulkhead"), (home.as_deref(), "/cargo")];
    // The last one that fits is taken; the target directory is within the workspace.
    let flag =
        |(from, to): (Option<&Path>, &str)| Some(format!("--remap-path-prefix={}={to}", from?.display()));
    places.into_iter().rev().filter_map(flag).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::{Path, flags, workspace};

    #[test]
    fn the_narrower_place_comes_last() {
        let flags = flags(&workspace().join("target/package/build"));
        let at = |to: &str| flags.find(&format!("={to}")).unwrap();
        assert!(at("/bulkhead") < at("/target"), "{flags}");
        assert!(flags.contains("=/cargo") && !Path::new(&flags).is_absolute());
    }
}
