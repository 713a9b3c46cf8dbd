//! What is enforced, and whether an agent watches it.

use bulkhead_api::status::{State, Status};

use super::{Finding, Level, Patient};

pub(super) fn examine(patient: &Patient, status: &Status) -> Vec<Finding> {
    let mut findings = Vec::new();
    match &status.agent {
        Some(agent) => {
            findings.push(Finding::ok("agent", format!("process {}, version {}", agent.pid, agent.version)));
        }
        None => findings.push(Finding::new(
            "agent",
            Level::Problem,
            "no agent answers: what is enforced stays so, and nobody watches it",
            "`systemctl start bulkhead`, or `bulkhead run`",
        )),
    }
    findings.push(match status.state {
        State::Enforced => {
            Finding::ok("enforcement", "every managed interface and the guard are as they should be")
        }
        State::Audit => Finding::new(
            "enforcement",
            Level::Warning,
            "audit mode: nothing is dropped",
            "`bulkhead apply --mode enforce` ends it",
        ),
        state => Finding::new(
            "enforcement",
            Level::Problem,
            state.name(),
            "see the problems below; a running agent restores what it can",
        ),
    });
    findings
        .extend(status.problems.iter().map(|problem| Finding::said("enforcement", Level::Problem, problem)));
    let lost = status.lost.ring + status.lost.budget;
    if lost != 0 {
        findings.push(Finding::new(
            "events",
            Level::Warning,
            format!("{lost} drops are in no report"),
            "raise `event_budget` or `ring_bytes` in agent.toml, or find who sends so much",
        ));
    }
    if status.lost.flows != 0 {
        findings.push(Finding::new(
            "events",
            Level::Warning,
            format!("{} flows that rules let begin are in no report", status.lost.flows),
            "raise `allowed_budget` in agent.toml, or sample them",
        ));
    }
    if let Some(agent) = status.agent.as_ref().filter(|agent| agent.events.unwritten != 0) {
        let found = format!("{} events are not in the event log", agent.events.unwritten);
        findings.push(Finding::new("events", Level::Warning, found, "make room in the state directory"));
    }
    findings
        .extend(patient.config.lockout().map(|warning| Finding::said("lockout", Level::Warning, warning)));
    findings
}
