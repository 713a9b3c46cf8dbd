//! Debian's archive, by a configuration of apt's own: this machine's mirror, and more suites than it installs from.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::output;

/// Where kernels come from, on the mirror that this machine has Debian from.
const SUITES: [&str; 4] = ["bookworm", "bookworm-backports", "trixie", "trixie-backports"];
/// The same on the mirror of security updates.
const SECURITY: &str = "bookworm-security";
/// What signs all of them; of the package debian-archive-keyring, which every Debian has.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// How old the index may be.
const AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// The archive, with an index that is no older than a day.
pub struct Archive {
    configuration: PathBuf,
}

impl Archive {
    /// Finds this machine's mirrors and reads the index, if the one in `directory` is old.
    pub fn open(directory: &Path) -> Result<Self> {
        fs::create_dir_all(directory.join("lists/partial"))?;
        fs::create_dir_all(directory.join("cache/archives/partial"))?;
        let format = "$(RELEASE) $(COMPONENT) $(REPO_URI)";
        let targets = output(Command::new("apt-get").args([
            "indextargets",
            "--format",
            format,
            "Created-By: Packages",
        ]))?;
        let sources = sources(&targets)?;
        let (list, stamp) = (directory.join("sources.list"), directory.join("updated"));
        if fs::read_to_string(&list).is_ok_and(|old| old != sources) {
            fs::remove_file(&stamp)?;
        }
        fs::write(&list, sources)?;
        let configuration = directory.join("apt.conf");
        let shown = directory.display();
        fs::write(
            &configuration,
            format!(
                "Dir::Etc::sourcelist \"{shown}/sources.list\";\nDir::Etc::sourceparts \"-\";\n\
                 Dir::State::lists \"{shown}/lists\";\nDir::Cache \"{shown}/cache\";\n\
                 Acquire::Languages \"none\";\nAPT::Sandbox::User \"root\";\n"
            ),
        )?;
        let archive = Self { configuration };
        let age = fs::metadata(&stamp).and_then(|stamp| stamp.modified()).ok();
        if age.and_then(|time| time.elapsed().ok()).is_none_or(|age| age >= AGE) {
            eprintln!("vm: reading Debian's index of packages");
            // Without all of them a kernel would not be the newest.
            output(archive.apt("apt-get").args(["--quiet", "--error-on=any", "update"]))?;
            fs::write(stamp, "")?;
        }
        Ok(archive)
    }

    /// The index of packages.
    pub fn index(&self) -> Result<String> {
        output(self.apt("apt-cache").arg("dumpavail"))
    }

    /// Downloads packages (`name=version`) into an empty directory; apt checks what came.
    pub fn download(&self, packages: &[String], to: &Path) -> Result<()> {
        output(self.apt("apt-get").args(["--quiet", "download"]).args(packages).current_dir(to)).map(drop)
    }

    /// The lines of a sources.list of one release, security updates included.
    pub fn sources_of(&self, release: &str) -> Result<String> {
        let path = self.configuration.with_file_name("sources.list");
        let lines = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let is_of = |line: &&str| {
            line.split(' ').any(|word| word == release || word.strip_suffix("-security") == Some(release))
        };
        Ok(lines.lines().filter(is_of).map(|line| format!("{line}\n")).collect())
    }

    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("APT_CONFIG", &self.configuration);
        command
    }
}

/// The lines of a sources.list, from apt's list of what this machine reads: release, component, address.
fn sources(targets: &str) -> Result<String> {
    let mut lines = String::new();
    let mut add = |suites: &[&str], address: &str| {
        for suite in suites {
            lines.push_str(&format!("deb [signed-by={KEYRING}] {address} {suite} main\n"));
        }
    };
    let targets: Vec<Vec<&str>> = targets.lines().map(|line| line.split(' ').collect()).collect();
    let find = |holds: fn(&str) -> bool| {
        targets.iter().find_map(|target| match target[..] {
            [release, "main", address] if holds(release) => Some(address),
            _ => None,
        })
    };
    let ordinary = find(|release| matches!(release, "bookworm" | "trixie" | "forky"));
    let security = find(|release| release.ends_with("-security"));
    add(&SUITES, ordinary.context("apt reads no release of Debian on this machine, so it knows no mirror")?);
    add(&[SECURITY], security.context("apt reads no security updates of Debian on this machine")?);
    ensure!(
        Path::new(KEYRING).exists(),
        "{KEYRING} is missing; next: apt-get install debian-archive-keyring"
    );
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGETS: &str = "bookworm stable https://containers.example/linux/debian/\n\
         bookworm main http://mirror.example/debian/\n\
         bookworm-updates main http://mirror.example/debian/\n\
         bookworm-security main http://mirror.example/debian-security/\n";

    #[test]
    fn all_suites_come_from_the_mirror_that_the_machine_has() {
        let lines = sources(TARGETS).unwrap();
        let ends: Vec<_> = lines.lines().map(|line| line.split("] ").nth(1).unwrap()).collect();
        assert_eq!(
            ends,
            [
                "http://mirror.example/debian/ bookworm main",
                "http://mirror.example/debian/ bookworm-backports main",
                "http://mirror.example/debian/ trixie main",
                "http://mirror.example/debian/ trixie-backports main",
                "http://mirror.example/debian-security/ bookworm-security main",
            ]
        );
    }

    #[test]
    fn a_machine_without_a_mirror_is_told() {
        let without = TARGETS.lines().next().unwrap();
        assert!(sources(without).unwrap_err().to_string().contains("no mirror"));
    }
}
