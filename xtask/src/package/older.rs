//! The package of an agent that had the map layout before this one, which an upgrade is tried from.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::output;
use crate::cargo::{executables_by, workspace};

/// Where the layout's number is written.
const LAYOUT: &str = "crates/abi/src/lib.rs";

/// Packs the older agent as `deb` packs this one.
pub fn deb(deb: &Path, directory: &Path) -> Result<PathBuf> {
    let agent = agent(directory)?;
    let root = directory.join("root");
    if root.exists() {
        fs::remove_dir_all(&root)?;
    }
    output(Command::new("dpkg-deb").arg("--raw-extract").arg(deb).arg(&root))?;
    fs::copy(agent, root.join("usr/bin/bulkhead"))?;
    change(&root.join("DEBIAN/control"), |line| {
        if line.starts_with("Version: ") { "Version: 0.0.9-1" } else { line }
    })?;
    let packed = directory.join("bulkhead_0.0.9-1_amd64.deb");
    output(
        Command::new("dpkg-deb").args(["--root-owner-group", "-Zgzip", "--build"]).arg(&root).arg(&packed),
    )?;
    Ok(packed)
}

/// Builds the agent in a clone below `directory`, of which only the program stays, or finds that there.
fn agent(directory: &Path) -> Result<PathBuf> {
    let (commit, older) =
        last_of_older_layout().context("the older agent is built from the history: clone all of it")?;
    let binary = directory.join(format!("bulkhead-{commit}"));
    if binary.exists() {
        return Ok(binary);
    }
    let (source, target) = (directory.join("source"), directory.join("target"));
    if source.exists() {
        fs::remove_dir_all(&source)?;
    }
    fs::create_dir_all(directory)?;
    output(Command::new("git").args(["clone", "--quiet", "--shared"]).arg(workspace()).arg(&source))?;
    output(Command::new("git").args(["checkout", "--quiet", &commit]).current_dir(&source))?;
    eprintln!("package: building the agent of layout {older}");
    let words = ["build", "--locked", "--release", "--package", "bulkhead"];
    let found = executables_by(&words, |cargo| {
        cargo.current_dir(&source).env("CARGO_TARGET_DIR", &target);
    })?;
    let found = found.into_iter().find(|(name, _)| name == "bulkhead");
    let (_, built) = found.context("cargo built no executable bulkhead")?;
    output(Command::new("strip").arg("-o").arg(&binary).arg(built))?;
    fs::remove_dir_all(target)?;
    fs::remove_dir_all(source)?;
    Ok(binary)
}

/// The map layout's number, of the source that says it.
fn layout(text: &str) -> Result<u32> {
    let number =
        text.lines().find_map(|line| line.strip_prefix("pub const VERSION: u32 = ")?.strip_suffix(';'));
    Ok(number.context("the source names no layout")?.parse()?)
}

/// The last commit of the layout before this one, and that layout.
fn last_of_older_layout() -> Result<(String, u32)> {
    let git = |words: &[&str]| output(Command::new("git").args(words).current_dir(workspace()));
    let this = layout(&fs::read_to_string(workspace().join(LAYOUT))?)?;
    let changed = format!("-Spub const VERSION: u32 = {this};");
    let commits = git(&["log", "--reverse", "--format=%h", &changed, "--", LAYOUT])?;
    let first = commits.lines().next().with_context(|| format!("no commit begins layout {this}"))?;
    let commit = git(&["rev-parse", "--short=8", &format!("{first}^")])?.trim().to_owned();
    let older = layout(&git(&["show", &format!("{commit}:{LAYOUT}")])?)?;
    ensure!(older + 1 == this, "{commit} has layout {older}, not the one before {this}");
    Ok((commit, older))
}

/// Changes a text file line by line.
fn change(file: &Path, line: impl Fn(&str) -> &str) -> Result<()> {
    let text = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    let lines = text.lines().map(|text| format!("{}\n", line(text)));
    Ok(fs::write(file, lines.collect::<String>())?)
}
