//! What the recipe asks of the machine; a trait, so that tests can pose as a bare one.

use std::path::Path;
use std::process::{Command, Stdio};

/// The questions that recognising a toolchain needs answered. None of them changes anything.
pub trait System {
    /// Standard output of a program that ran and exited with 0; `None` if it is missing or failed.
    fn output(&self, program: &str, arguments: &[&str]) -> Option<String>;
    /// Whether a file or directory exists.
    fn exists(&self, path: &Path) -> bool;
    /// An environment variable, if set and valid UTF-8.
    fn variable(&self, name: &str) -> Option<String>;
}

/// The machine this runs on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Host;

impl System for Host {
    fn output(&self, program: &str, arguments: &[&str]) -> Option<String> {
        let output =
            Command::new(program).args(arguments).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
        if !output.status.success() {
            return None;
        }
        String::from_utf8(output.stdout).ok()
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }
}
