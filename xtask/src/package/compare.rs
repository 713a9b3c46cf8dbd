//! Two builds of one commit are the same, or it is said what differs.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::{Packages, output, stage};
use crate::cargo::{self, workspace};

/// Compares two sets of packages byte by byte.
pub fn same(one: &Packages, other: &Packages) -> Result<()> {
    for (one, other) in one.all().into_iter().zip(other.all()) {
        let differs = first_difference(&fs::read(one)?, &fs::read(other)?);
        ensure!(
            differs.is_none(),
            "{} and {} differ from byte {} on",
            one.display(),
            other.display(),
            differs.unwrap_or_default()
        );
    }
    Ok(())
}

fn first_difference(one: &[u8], other: &[u8]) -> Option<usize> {
    let differs = one.iter().zip(other).position(|(one, other)| one != other);
    differs.or_else(|| (one.len() != other.len()).then_some(one.len().min(other.len())))
}

/// Builds the commit in a clone below another directory, and compares; says which files differ.
pub fn build_again(packages: &Packages) -> Result<()> {
    let clone = std::env::temp_dir().join(format!("bulkhead-again-{}", std::process::id()));
    let status = output(Command::new("git").args(["status", "--porcelain"]).current_dir(workspace()))?;
    ensure!(status.is_empty(), "the clone would lack what is not committed:\n{status}");
    output(Command::new("git").args(["clone", "--quiet"]).arg(workspace()).arg(&clone))?;
    eprintln!("package: building again in {}", clone.display());
    let mut again = cargo::command();
    again.args(["run", "--quiet", "--package", "xtask", "--", "package"]).current_dir(&clone);
    let built = again.status().context("cargo could not be started")?;
    ensure!(built.success(), "the second build failed; its messages are above");
    let there = |path: &Path| clone.join("target/package").join(path.file_name().unwrap_or_default());
    let other = Packages { deb: there(&packages.deb), rpm: there(&packages.rpm), tar: there(&packages.tar) };
    let stages = [workspace(), &clone].map(|root| root.join("target/package/stage"));
    let mut differing = Vec::new();
    for file in stage::files(&stages[0])? {
        if fs::read(stages[0].join(&file))? != fs::read(stages[1].join(&file)).unwrap_or_default() {
            differing.push(file.display().to_string());
        }
    }
    ensure!(
        differing.is_empty(),
        "two builds differ in {}; the other is in {}",
        differing.join(", "),
        clone.display()
    );
    same(packages, &other)?;
    fs::remove_dir_all(clone)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::first_difference;

    #[test]
    fn the_first_byte_that_differs_is_named() {
        assert_eq!(first_difference(b"abc", b"abc"), None);
        assert_eq!(first_difference(b"abc", b"axc"), Some(1));
        assert_eq!(first_difference(b"abc", b"ab"), Some(2));
    }
}
