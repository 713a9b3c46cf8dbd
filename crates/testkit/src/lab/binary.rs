//! Where the built `bulkhead` is.

use std::path::PathBuf;

use anyhow::{Context as _, ensure};

/// The binary named by the environment's `BULKHEAD`, or the one that cargo built next to the running test.
///
/// # Errors
/// It is not there; it must be built first, for this crate does not depend on the agent.
pub fn bulkhead() -> anyhow::Result<PathBuf> {
    let path = match std::env::var_os("BULKHEAD") {
        Some(path) => PathBuf::from(path),
        None => {
            let test = std::env::current_exe()?;
            // target/<profile>/deps/<test>
            let profile =
                test.parent().and_then(|deps| deps.parent()).context("the test has no target directory")?;
            profile.join("bulkhead")
        }
    };
    ensure!(
        path.is_file(),
        "{path:?} is missing; run `cargo build -p bulkhead` first, or set BULKHEAD to the binary"
    );
    Ok(path)
}
