//! `cargo xtask openapi`: the document of the agent's socket, from its types.

use std::fs;

use anyhow::{Context as _, Result};

use crate::cargo::workspace;

/// Writes docs/reference/openapi.json.
pub fn run() -> Result<()> {
    let path = workspace().join("docs/reference/openapi.json");
    fs::write(&path, bulkhead_api::schema::text()).with_context(|| format!("write {}", path.display()))?;
    println!("{}", path.display());
    Ok(())
}
