//! `cargo xtask package`: a .deb, an .rpm and an archive of one static binary, with units, man pages and docs.

mod archives;
mod binary;
mod compare;
mod older;
mod stage;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::cargo::workspace;
use crate::setup;

/// Arguments of `package`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Build everything a second time, in a fresh clone of the commit elsewhere, and compare byte by byte.
    #[arg(long)]
    again: bool,
}

/// The packages that were built.
#[derive(Debug)]
pub struct Packages {
    /// For Debian and Ubuntu.
    pub deb: PathBuf,
    /// For Red Hat, Fedora and SUSE.
    pub rpm: PathBuf,
    /// For anything else.
    pub tar: PathBuf,
}

impl Packages {
    fn all(&self) -> [&PathBuf; 3] {
        [&self.deb, &self.rpm, &self.tar]
    }
}

/// Builds, packs and says what came of it.
pub fn run(arguments: &Arguments) -> Result<()> {
    let packages = build()?;
    for path in packages.all() {
        let sum = output(Command::new("sha256sum").arg(path))?;
        let sum = sum.split(' ').next().unwrap_or_default();
        println!("{sum}  {:>9}  {}", fs::metadata(path)?.len(), path.display());
    }
    if arguments.again {
        compare::build_again(&packages)?;
        println!("a second build of the commit gives the same bytes");
    }
    Ok(())
}

/// Builds the packages below target/package. Each is packed twice, and must come out the same.
pub fn build() -> Result<Packages> {
    setup::ensure_package()?;
    let directory = workspace().join("target/package");
    let epoch = epoch()?;
    let stage = staged(&directory)?;
    let packages = archives::pack(&stage, &directory, None, &epoch)?;
    let again = archives::pack(&stage, &directory.join("again"), None, &epoch)?;
    compare::same(&packages, &again)?;
    fs::remove_dir_all(directory.join("again"))?;
    Ok(packages)
}

/// Builds the .deb alone, once, and packs it in less time than the one that ships: which bytes it has is of no matter
/// where it is only tried.
pub fn build_deb() -> Result<PathBuf> {
    setup::ensure_package()?;
    staged(&workspace().join("target/package"))?;
    deb_of_version(&format!("{}-1", version()))
}

/// What is packed, below `directory`.
fn staged(directory: &Path) -> Result<PathBuf> {
    stage::lay_out(&binary::build(&directory.join("build"))?, &directory.join("stage"))
}

/// The .deb of the same files under another version, which an upgrade is tried with.
pub fn deb_of_version(version: &str) -> Result<PathBuf> {
    let directory = workspace().join("target/package");
    archives::deb(&directory.join(version), Some(version), &epoch()?)
}

/// The .deb of an agent of the map layout before this one, made of `deb`.
pub fn deb_of_older_layout(deb: &Path) -> Result<PathBuf> {
    older::deb(deb, &workspace().join("target/package/older"))
}

/// When the commit was made, seconds since the Unix epoch: the time of everything that is packed.
fn epoch() -> Result<String> {
    if let Ok(epoch) = std::env::var("SOURCE_DATE_EPOCH") {
        return Ok(epoch);
    }
    let shown = Command::new("git").args(["log", "-1", "--format=%ct"]).current_dir(workspace()).output();
    let shown = shown.context("git could not be started; set SOURCE_DATE_EPOCH instead")?;
    ensure!(shown.status.success(), "git names no commit; set SOURCE_DATE_EPOCH instead");
    Ok(String::from_utf8(shown.stdout)?.trim().to_owned())
}

/// The workspace's version.
fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

/// What a command prints; an error with its messages if it fails.
fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?} could not be started"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} failed ({}): {}", output.status, said.trim());
    Ok(String::from_utf8(output.stdout)?)
}
