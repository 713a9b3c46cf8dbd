//! What the packages hold, laid out as it is installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::output;
use crate::cargo::workspace;

/// Files and directories of the project, and where they are installed.
const FILES: [(&str, &str); 9] = [
    ("packaging/agent.toml", "etc/bulkhead/agent.toml"),
    ("packaging/systemd", "usr/lib/systemd/system"),
    ("packaging/sysusers.d", "usr/lib/sysusers.d"),
    ("policies", "usr/share/bulkhead/policies"),
    ("docs", "usr/share/doc/bulkhead"),
    ("CHANGELOG.md", "usr/share/doc/bulkhead/CHANGELOG.md"),
    ("SECURITY.md", "usr/share/doc/bulkhead/SECURITY.md"),
    ("LICENSE-APACHE", "usr/share/doc/bulkhead/LICENSE-APACHE"),
    ("LICENSE-MIT", "usr/share/doc/bulkhead/LICENSE-MIT"),
];

/// Completions as `bulkhead generate` names them, and where shells look for them.
const COMPLETIONS: [(&str, &str); 3] = [
    ("bulkhead.bash", "usr/share/bash-completion/completions/bulkhead"),
    ("_bulkhead", "usr/share/zsh/site-functions/_bulkhead"),
    ("bulkhead.fish", "usr/share/fish/vendor_completions.d/bulkhead.fish"),
];

/// Lays everything out in an empty `stage`.
pub fn lay_out(binary: &Path, stage: &Path) -> Result<PathBuf> {
    if stage.exists() {
        fs::remove_dir_all(stage)?;
    }
    for (from, to) in FILES {
        copy(&workspace().join(from), &stage.join(to))?;
    }
    copy(binary, &stage.join("usr/bin/bulkhead"))?;
    let generated = stage.with_file_name("generated");
    output(Command::new(binary).arg("generate").arg(&generated))?;
    for (from, to) in COMPLETIONS {
        copy(&generated.join("completions").join(from), &stage.join(to))?;
    }
    let pages = stage.join("usr/share/man/man1");
    copy(&generated.join("man1"), &pages)?;
    fs::remove_dir_all(&generated)?;
    let pages = fs::read_dir(&pages)?.map(|page| Ok(page?.path())).collect::<Result<Vec<_>>>()?;
    output(Command::new("gzip").args(["--no-name", "--best"]).args(pages))?;
    Ok(stage.to_owned())
}

/// Copies a file, or all that is in a directory.
fn copy(from: &Path, to: &Path) -> Result<()> {
    if !from.is_dir() {
        fs::create_dir_all(to.parent().context("a file without a directory")?)?;
        fs::copy(from, to).with_context(|| format!("copy {} to {}", from.display(), to.display()))?;
        return Ok(());
    }
    for entry in fs::read_dir(from).with_context(|| format!("read {}", from.display()))? {
        let entry = entry?;
        copy(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}

/// Every file below `stage`, relative to it, sorted.
pub fn files(stage: &Path) -> Result<Vec<PathBuf>> {
    fn walk(directory: &Path, stage: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            if path.is_dir() {
                walk(&path, stage, found)?;
            } else {
                found.push(path.strip_prefix(stage)?.to_owned());
            }
        }
        Ok(())
    }
    let mut found = Vec::new();
    walk(stage, stage, &mut found)?;
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::{FILES, workspace};

    #[test]
    fn what_is_installed_is_there() {
        for (from, _) in FILES {
            assert!(workspace().join(from).exists(), "{from}");
        }
    }

    /// What a unit runs, reads and documents is in the package, and every unit is hardened.
    #[test]
    fn units_name_what_is_installed() {
        for unit in ["bulkhead.service", "bulkhead-guard.service"] {
            let text = std::fs::read_to_string(workspace().join("packaging/systemd").join(unit)).unwrap();
            let has = |line: &str| text.lines().any(|found| found == line);
            for line in ["NoNewPrivileges=yes", "ProtectSystem=strict", "SystemCallFilter=@system-service"] {
                assert!(has(line), "{unit}: {line}");
            }
            let page = text.split("file:/usr/share/doc/bulkhead/").nth(1).unwrap();
            let page = page.split_whitespace().next().unwrap();
            assert!(workspace().join("docs").join(page).exists(), "{unit}: {page}");
        }
    }
}
