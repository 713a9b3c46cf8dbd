//! Cargo, called from here, and what it says it has built.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

/// The cargo that runs this.
pub fn command() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace());
    command
}

/// The root of the workspace.
pub fn workspace() -> &'static Path {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own)
}

/// A built agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// The `bulkhead` executable.
    pub binary: PathBuf,
    /// The BPF object that is embedded in it.
    pub object: PathBuf,
}

/// Builds the agent in one of cargo's profiles (`dev`, `release`), and with it the BPF object.
pub fn build_agent(profile: &str) -> Result<Agent> {
    let mut cargo = command();
    cargo.args(["build", "--package", "bulkhead", "--bin", "bulkhead", "--profile", profile]);
    cargo.arg("--message-format=json-render-diagnostics");
    let output = cargo.stderr(Stdio::inherit()).output().context("cargo could not be started")?;
    if !output.status.success() {
        bail!("building the agent failed ({}); cargo's messages are above", output.status);
    }
    agent_of(&String::from_utf8(output.stdout).context("cargo's messages are not UTF-8")?)
}

/// Builds, with these words behind `cargo`, and says where each target's executable is.
pub fn executables(words: &[&str]) -> Result<Vec<(String, PathBuf)>> {
    executables_by(words, |_| {})
}

/// The same with a command that is changed before it runs.
pub fn executables_by(words: &[&str], change: impl FnOnce(&mut Command)) -> Result<Vec<(String, PathBuf)>> {
    let mut cargo = command();
    cargo.args(words).arg("--message-format=json-render-diagnostics");
    change(&mut cargo);
    let output = cargo.stderr(Stdio::inherit()).output().context("cargo could not be started")?;
    if !output.status.success() {
        bail!("`cargo {}` failed ({}); cargo's messages are above", words.join(" "), output.status);
    }
    executables_of(&String::from_utf8(output.stdout).context("cargo's messages are not UTF-8")?)
}

fn executables_of(messages: &str) -> Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    for line in messages.lines() {
        let message: Message = serde_json::from_str(line).with_context(|| format!("cargo said: {line}"))?;
        if let (Some(target), Some(executable)) = (message.target, message.executable) {
            found.push((target.name, executable));
        }
    }
    Ok(found)
}

/// What a message is about.
#[derive(Deserialize)]
struct Target {
    name: String,
}

/// The two messages of cargo that are read; others have other fields.
#[derive(Deserialize)]
struct Message {
    reason: String,
    #[serde(default)]
    package_id: String,
    executable: Option<PathBuf>,
    target: Option<Target>,
    out_dir: Option<PathBuf>,
}

fn agent_of(messages: &str) -> Result<Agent> {
    let mut binary = None;
    let mut object = None;
    for line in messages.lines() {
        let message: Message = serde_json::from_str(line).with_context(|| format!("cargo said: {line}"))?;
        let is_of = |package: &str| message.package_id.contains(&format!("#{package}@"));
        match message.reason.as_str() {
            "compiler-artifact" if is_of("bulkhead") => binary = message.executable.or(binary),
            "build-script-executed" if is_of("bulkhead-dataplane") => {
                object = message.out_dir.map(|out| out.join("bulkhead-ebpf"));
            }
            _ => {}
        }
    }
    Ok(Agent {
        binary: binary.context("cargo named no `bulkhead` executable")?,
        object: object.context("cargo named no output of the data plane's build script")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agent_is_told_from_other_packages() {
        let messages = r#"{"reason":"build-script-executed","package_id":"registry+https://example.org#libc@0.2.1","out_dir":"/t/libc/out"}
{"reason":"build-script-executed","package_id":"path+file:///w/crates/dataplane#bulkhead-dataplane@0.1.0","out_dir":"/t/dataplane/out"}
{"reason":"compiler-artifact","package_id":"path+file:///w/agent#bulkhead@0.1.0","executable":null}
{"reason":"compiler-artifact","package_id":"path+file:///w/agent#bulkhead@0.1.0","executable":"/t/bulkhead"}
{"reason":"compiler-artifact","package_id":"path+file:///w/engine#bulkhead-engine@0.1.0","executable":null}
{"reason":"build-finished","success":true}"#;
        let expected =
            Agent { binary: "/t/bulkhead".into(), object: "/t/dataplane/out/bulkhead-ebpf".into() };
        assert_eq!(agent_of(messages).unwrap(), expected);
    }

    #[test]
    fn executables_are_told_by_their_target() {
        let messages = r#"{"reason":"compiler-artifact","package_id":"a","target":{"name":"build-script-build"},"executable":null}
{"reason":"compiler-artifact","package_id":"a","target":{"name":"wire"},"executable":"/t/wire-1"}
{"reason":"build-finished","success":true}"#;
        assert_eq!(executables_of(messages).unwrap(), [("wire".to_owned(), PathBuf::from("/t/wire-1"))]);
    }

    #[test]
    fn a_missing_executable_is_an_error() {
        let error = agent_of(r#"{"reason":"build-finished","success":true}"#).unwrap_err();
        assert!(error.to_string().contains("executable"), "{error}");
    }
}
