//! What is wrong with a host, or may become so, and what to do about it. Nothing is changed by looking.

mod enforcement;
mod host;
mod network;
mod policy;
mod workloads;
mod xdp_sockets;

use serde::Serialize;

use crate::commands;
use crate::config::Config;
use crate::paths::Paths;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Worth knowing.
    Note,
    /// It may go wrong, or somebody may get around what is enforced.
    Warning,
    /// It is wrong.
    Problem,
}

impl Level {
    /// Its name, as in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub check: &'static str,
    /// How bad it is.
    pub level: Level,
    /// What was found.
    pub found: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, level: Level::Ok, found: found.into(), next: None }
    }

    fn new(check: &'static str, level: Level, found: impl Into<String>, next: &str) -> Self {
        Self { check, level, found: found.into(), next: Some(next.to_owned()) }
    }

    /// A message that says by itself what to do.
    fn said(check: &'static str, level: Level, found: impl Into<String>) -> Self {
        Self { check, level, found: found.into(), next: None }
    }
}

/// Whose host it is.
pub struct Patient<'a> {
    /// The instance.
    pub instance: &'a str,
    /// Its places.
    pub paths: &'a Paths,
    /// What agent.toml has, or its defaults.
    pub config: &'a Config,
    /// The policy's language.
    pub dialect: bulkhead_policy::Dialect,
}

/// Looks at everything.
///
/// # Errors
/// If the status cannot be read at all.
pub fn examine(patient: &Patient) -> anyhow::Result<Vec<Finding>> {
    let status = commands::status::ask(patient.instance, patient.paths)?;
    let mut findings = host::examine(patient);
    findings.extend(network::examine(patient));
    findings.extend(enforcement::examine(patient, &status));
    findings.extend(policy::examine(patient, &status));
    Ok(findings)
}
