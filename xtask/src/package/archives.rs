//! The three packages, of the same files. Nothing in them tells when or where they were made.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::binary::TARGET;
use super::{Packages, output, stage, version};
use crate::cargo;

/// Packs what is staged into `to`; under another version than the workspace's, if one is named.
pub fn pack(stage: &Path, to: &Path, version: Option<&str>, epoch: &str) -> Result<Packages> {
    Ok(Packages { deb: deb(to, version, epoch)?, rpm: rpm(stage, to, epoch)?, tar: tar(stage, to, epoch)? })
}

/// Packs the .deb: what it holds is in agent/Cargo.toml. One of another version is only tried, and compressed in less
/// time.
pub fn deb(to: &Path, version: Option<&str>, epoch: &str) -> Result<PathBuf> {
    fs::create_dir_all(to)?;
    let compression = if version.is_some() { "gz" } else { "xz" };
    let version = version.map_or_else(|| format!("{}-1", super::version()), ToOwned::to_owned);
    let path = to.join(format!("bulkhead_{version}_amd64.deb"));
    let mut deb = cargo::command();
    deb.args(["deb", "--quiet", "--no-build", "--no-strip", "--package", "bulkhead", "--target", TARGET]);
    deb.args(["--compress-type", compression])
        .arg("--deb-version")
        .arg(&version)
        .arg("--output")
        .arg(&path)
        .env("SOURCE_DATE_EPOCH", epoch);
    output(&mut deb)?;
    Ok(path)
}

fn rpm(stage: &Path, to: &Path, epoch: &str) -> Result<PathBuf> {
    fs::create_dir_all(to)?;
    let path = to.join(format!("bulkhead-{}-1.x86_64.rpm", version()));
    let assets = to.join("rpm.toml");
    fs::write(&assets, rpm_assets(stage)?)?;
    let mut rpm = cargo::command();
    rpm.args(["generate-rpm", "--package", "agent", "--target", TARGET, "--metadata-overwrite"]).arg(&assets);
    rpm.arg("--output").arg(&path).env("SOURCE_DATE_EPOCH", epoch);
    output(&mut rpm)?;
    fs::remove_file(assets)?;
    Ok(path)
}

/// What the .rpm holds: files one by one, since it cannot name a tree.
fn rpm_assets(stage: &Path) -> Result<String> {
    let mut text = "assets = [\n".to_owned();
    for file in stage::files(stage)? {
        let (source, file) = (stage.join(&file), file.display().to_string());
        let mode = if file.starts_with("usr/bin/") { "755" } else { "644" };
        let kind = match file.split('/').collect::<Vec<_>>()[..] {
            ["etc", ..] => ", config = \"noreplace\"",
            ["usr", "share", "doc" | "man", ..] => ", doc = true",
            _ => "",
        };
        let source = source.to_str().context("a path that is not UTF-8")?;
        writeln!(text, "  {{ source = {source:?}, dest = \"/{file}\", mode = \"{mode}\"{kind} }},")?;
    }
    Ok(text + "]\n")
}

/// The archive, to be unpacked over the root directory without its first part.
fn tar(stage: &Path, to: &Path, epoch: &str) -> Result<PathBuf> {
    fs::create_dir_all(to)?;
    let name = format!("bulkhead-{}-x86_64-linux-musl", version());
    let path = to.join(format!("{name}.tar.gz"));
    let mut tar = Command::new("tar");
    tar.args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--format=ustar"]);
    tar.args(["--mode=u=rwX,go=rX", "--use-compress-program=gzip --no-name --best"]);
    tar.arg(format!("--mtime=@{epoch}")).arg(format!("--transform=s,^\\.,{name},"));
    tar.arg("--create").arg("--file").arg(&path).arg("--directory").arg(stage).arg(".");
    output(&mut tar)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::{fs, rpm_assets, tar};

    fn staged(name: &str) -> std::path::PathBuf {
        let stage = std::env::temp_dir().join(format!("bulkhead-{name}-{}", std::process::id()));
        for file in ["etc/bulkhead/agent.toml", "usr/bin/bulkhead", "usr/share/doc/bulkhead/README.md"] {
            fs::create_dir_all(stage.join(file).parent().unwrap()).unwrap();
            fs::write(stage.join(file), file).unwrap();
        }
        stage
    }

    #[test]
    fn the_rpm_knows_programs_from_configuration() {
        let stage = staged("rpm-assets");
        let text = rpm_assets(&stage).unwrap();
        let line = |file: &str| text.lines().find(|line| line.contains(&format!("\"/{file}\""))).unwrap();
        assert!(line("etc/bulkhead/agent.toml").ends_with("mode = \"644\", config = \"noreplace\" },"));
        assert!(line("usr/bin/bulkhead").ends_with("mode = \"755\" },"));
        assert!(line("usr/share/doc/bulkhead/README.md").contains("doc = true"));
        fs::remove_dir_all(stage).unwrap();
    }

    #[test]
    fn an_archive_has_the_same_bytes_whenever_it_is_made() {
        let stage = staged("tar");
        let make =
            |to: &str| fs::read(tar(&stage, &stage.with_extension(to), "1700000000").unwrap()).unwrap();
        let first = make("one");
        let touched = fs::File::options().write(true).open(stage.join("usr/bin/bulkhead")).unwrap();
        touched.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        assert!(first.len() > 100 && first == make("two"));
        fs::write(stage.join("usr/bin/bulkhead"), "other").unwrap();
        assert_ne!(first, make("three"));
        for directory in [
            stage.clone(),
            stage.with_extension("one"),
            stage.with_extension("two"),
            stage.with_extension("three"),
        ] {
            fs::remove_dir_all(directory).unwrap();
        }
    }
}
