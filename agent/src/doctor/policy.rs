//! The policy and the inventory: whether they hold, whom they are about, and how old they are.

use std::time::SystemTime;

use bulkhead_api::status::Status;
use bulkhead_policy::check::{Loaded, Scope};
use bulkhead_policy::diagnostic::Severity;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{Finding, Level, Patient, workloads};
use crate::input;

pub(super) fn examine(patient: &Patient, status: &Status) -> Vec<Finding> {
    let config = patient.config;
    let sources =
        input::read(&config.policy).and_then(|policy| Ok((policy, input::read(&config.inventory)?)));
    let (policy, inventory) = match sources {
        Ok(sources) => sources,
        Err(error) => return vec![Finding::said("policy", Level::Problem, error.to_string())],
    };
    let scope = Scope {
        dialect: patient.dialect,
        exemptions: config.exemptions(config.node.as_deref().unwrap_or_default()),
        has_exchange: config.has_exchange(),
    };
    let mut loaded = Loaded::new(policy, Some(inventory), &scope);
    let now = OffsetDateTime::now_utc().unix_timestamp_nanos();
    let answers = loaded.check(u64::try_from(now).unwrap_or_default());
    let mut findings = vec![checked(&loaded)];
    findings.extend(known(patient, &loaded));
    if let Some(inventory) = &loaded.inventory {
        findings.extend(workloads::examine(patient, inventory, status));
    }
    if answers.reach.unreachable != 0 {
        findings.push(Finding::new(
            "policy",
            Level::Warning,
            format!("{} rules never decide, because of earlier ones", answers.reach.unreachable),
            "`bulkhead check` names them",
        ));
    }
    findings.extend(age(patient, status));
    findings
}

fn checked(loaded: &Loaded) -> Finding {
    let (errors, warnings) =
        (loaded.findings.count(Severity::Error), loaded.findings.count(Severity::Warning));
    let next = "`bulkhead check` shows them";
    match (errors, warnings) {
        (0, 0) => Finding::ok("policy", "holds, without warnings"),
        (0, warnings) => Finding::new(
            "policy",
            Level::Warning,
            format!("holds, with {warnings} warnings, such as rules about nobody"),
            next,
        ),
        (errors, _) => {
            Finding::new("policy", Level::Problem, format!("{errors} errors: it cannot be applied"), next)
        }
    }
}

/// Whether the inventory knows this host.
fn known(patient: &Patient, loaded: &Loaded) -> Option<Finding> {
    let inventory = loaded.inventory.as_ref()?;
    let Some(node) = &patient.config.node else {
        let next = "set `node` in agent.toml, unless `run` is told by --node";
        return Some(Finding::new(
            "node",
            Level::Note,
            "agent.toml does not say which node this host is",
            next,
        ));
    };
    Some(match inventory.node(node) {
        Some(_) => Finding::ok("node", format!("this host is {node}")),
        None => Finding::new(
            "node",
            Level::Problem,
            format!("the inventory has no node {node}"),
            "add it, or correct `node`",
        ),
    })
}

/// A policy that was changed and not applied is not enforced.
fn age(patient: &Patient, status: &Status) -> Option<Finding> {
    let applied = status.agent.as_ref()?.applied.as_deref()?;
    let time = OffsetDateTime::parse(applied, &Rfc3339).ok()?;
    let files = [&patient.config.policy, &patient.config.inventory].into_iter();
    let mut changed = files.filter_map(|path| path.metadata().and_then(|data| data.modified()).ok());
    let is_newer = changed.any(|changed| changed > SystemTime::from(time));
    let days = (OffsetDateTime::now_utc() - time).whole_days();
    Some(if is_newer {
        Finding::new(
            "policy",
            Level::Warning,
            format!("a file has changed since the policy was put in force at {applied}"),
            "`bulkhead apply` enforces it",
        )
    } else {
        Finding::ok("policy", format!("in force for {days} days, and no file has changed since"))
    })
}
