//! A running agent of this bench, in the namespace of a wire's receiving end.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use bulkhead_abi::Direction;
use bulkhead_dataplane::{Pins, State};
use bulkhead_engine::Reason;
use bulkhead_testkit::lab::{Namespace, PREFIX, Process, run_within};

use crate::world::{NODE, Texts};

/// What the agent may take until it enforces, with the largest policy measured.
const START_LIMIT: Duration = Duration::from_secs(120);
/// What a command may take.
const COMMAND_LIMIT: Duration = Duration::from_secs(60);

/// Where an instance keeps what outlives it.
const KEPT: [&str; 3] = [PINS, "/run/bulkhead", "/var/lib/bulkhead"];
const PINS: &str = "/sys/fs/bpf/bulkhead";

/// Policy and inventory as files, removed when dropped.
pub struct Files {
    directory: PathBuf,
}

impl Files {
    /// Writes them.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn new(label: &str, texts: &Texts) -> Result<Self> {
        let directory = std::env::temp_dir().join(format!("{PREFIX}{}-{label}", std::process::id()));
        fs::create_dir(&directory).with_context(|| format!("make {}", directory.display()))?;
        let files = Self { directory };
        files.write(texts)?;
        Ok(files)
    }

    /// Puts others in their place.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn write(&self, texts: &Texts) -> Result<()> {
        fs::write(self.policy(), &texts.policy)?;
        fs::write(self.inventory(), &texts.inventory)?;
        Ok(())
    }

    /// The policy's path.
    #[must_use]
    pub fn policy(&self) -> PathBuf {
        self.directory.join("policy.hujson")
    }

    /// The inventory's path.
    #[must_use]
    pub fn inventory(&self) -> PathBuf {
        self.directory.join("inventory.json")
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.directory) {
            eprintln!("bench: cannot remove {}: {error}", self.directory.display());
        }
    }
}

/// The agent. Dropping it ends enforcement and removes what it kept.
pub struct Agent {
    process: Process,
    bulkhead: PathBuf,
    instance: String,
    /// Its pins.
    pub pins: Pins,
    files: Files,
}

impl Agent {
    /// Starts it on an interface; returns when it enforces.
    ///
    /// # Errors
    /// If it ends or does not enforce in time, with what it said.
    pub fn start(bulkhead: &Path, namespace: &Namespace, interface: &str, files: Files) -> Result<Self> {
        let instance = format!("{PREFIX}{}-{}", std::process::id(), namespace.label());
        let mut command = Command::new(bulkhead);
        command.args([
            "--instance",
            &instance,
            "run",
            "--guard",
            "off",
            "--node",
            NODE,
            "--interface",
            interface,
        ]);
        command.arg(files.policy()).arg("--inventory").arg(files.inventory());
        let log = files.directory.join("run.log");
        let process = Process::spawn(namespace, &mut command, &log)?;
        let pins = Pins::new(Path::new(PINS), &instance);
        let mut agent = Self { process, bulkhead: bulkhead.to_owned(), instance, pins, files };
        let deadline = Instant::now() + START_LIMIT;
        while !agent.enforces()? {
            if let Some(status) = agent.process.ended()? {
                bail!("the agent ended ({status}):\n{}", agent.process.log());
            }
            ensure!(Instant::now() < deadline, "the agent does not enforce:\n{}", agent.process.log());
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(agent)
    }

    fn enforces(&self) -> Result<bool> {
        let Ok(text) = self.command(&["--json", "status"]) else { return Ok(false) };
        let status: serde_json::Value = serde_json::from_str(&text).context("read `bulkhead status`")?;
        let attached = status["links"].as_array().is_some_and(|links| !links.is_empty());
        Ok(attached && !status["agent"].is_null())
    }

    /// The files that it reads.
    #[must_use]
    pub fn files(&self) -> &Files {
        &self.files
    }

    /// Runs a `bulkhead` command against it.
    ///
    /// # Errors
    /// If it fails, with what it said.
    pub fn command(&self, words: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.bulkhead);
        let output = run_within(command.args(["--instance", &self.instance]).args(words), COMMAND_LIMIT)?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "`bulkhead {}` failed: {}", words.join(" "), said.trim());
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Err(error) = self.command(&["detach"]) {
            eprintln!("bench: {error:#}");
        }
        if let Err(error) = self.process.stop(COMMAND_LIMIT) {
            eprintln!("bench: the agent: {error}");
        }
        for base in KEPT {
            let path = Path::new(base).join(&self.instance);
            if path.exists()
                && let Err(error) = fs::remove_dir_all(&path)
            {
                eprintln!("bench: cannot remove {}: {error}", path.display());
            }
        }
    }
}

/// Packets that pinned counters hold for a reason at ingress.
///
/// # Errors
/// If the kernel refuses.
pub fn counted(state: &State, reason: Reason) -> Result<u64> {
    let counts = state.reasons()?;
    let mine =
        counts.iter().filter(|(direction, found, _)| *direction == Direction::Ingress && *found == reason);
    Ok(mine.map(|(_, _, counter)| counter.packets).sum())
}
