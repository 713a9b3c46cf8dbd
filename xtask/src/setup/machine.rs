//! The machine that setup fixes; a trait, so that tests can pose as a bare one.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use bulkhead_toolchain::System;

use super::fix::Fix;

/// A machine that can be asked (see [`System`]) and changed.
pub(super) trait Machine: System {
    /// Whether commands run as root.
    fn is_root(&self) -> bool;
    /// A text file, if it can be read.
    fn read(&self, path: &Path) -> Option<String>;
    /// Runs one command that changes the machine.
    fn fix(&mut self, fix: &Fix) -> Result<()>;
    /// Tells the user what happens.
    fn say(&mut self, line: &str);
}

/// The machine this runs on.
pub(super) struct Host;

impl System for Host {
    fn output(&self, program: &str, arguments: &[&str]) -> Option<String> {
        bulkhead_toolchain::Host.output(program, arguments)
    }

    fn exists(&self, path: &Path) -> bool {
        bulkhead_toolchain::Host.exists(path)
    }

    fn variable(&self, name: &str) -> Option<String> {
        bulkhead_toolchain::Host.variable(name)
    }
}

impl Machine for Host {
    fn is_root(&self) -> bool {
        rustix::process::geteuid().is_root()
    }

    fn read(&self, path: &Path) -> Option<String> {
        std::fs::read_to_string(path).ok()
    }

    fn fix(&mut self, fix: &Fix) -> Result<()> {
        let status = Command::new(fix.program)
            .args(&fix.arguments)
            .envs(fix.environment.iter().copied())
            .status()
            .with_context(|| format!("`{fix}` could not be started"))?;
        if !status.success() {
            bail!(
                "`{fix}` failed ({status}); its messages are above. Fix that, then run `cargo xtask setup` again"
            );
        }
        Ok(())
    }

    fn say(&mut self, line: &str) {
        eprintln!("{line}");
    }
}
