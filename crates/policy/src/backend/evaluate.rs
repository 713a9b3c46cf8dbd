//! A probe through compiled tables, with the engine's own look-ups.

use std::net::IpAddr;

use bulkhead_abi::{
    Direction, FEATURE_IPV6_LPM, INTERFACE_BARE_IP, NO_RULE, Settings, TIMEOUTS, Timeouts, from_ip,
};
use bulkhead_engine::memory::{Memory, Tables};
use bulkhead_engine::{Reason, judge, leaf_of, local_check};

use crate::analysis::reference::{Probe, TOLD};

/// What the tables say of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evaluation {
    /// Why; it implies the verdict.
    pub reason: Reason,
    /// The rule that decided: its number among the node's rules.
    pub rule: Option<u32>,
    /// It is not admitted, and whoever asks is told so.
    pub rejects: bool,
}

/// The engine's environment over a node's tables, at a time in ns since the Unix epoch.
#[must_use]
pub fn environment(tables: &Tables, now: u64) -> Memory<'_> {
    let features = if tables.prefixes6.is_empty() { 0 } else { FEATURE_IPV6_LPM };
    let settings = Settings {
        fixed_clock: now,
        generation: 1,
        features,
        locals: tables.locals,
        remotes: tables.remotes,
        timeouts: Timeouts([u32::MAX; TIMEOUTS]),
        zone: 0,
        interface: INTERFACE_BARE_IP,
        ..Settings::UNSET
    };
    Memory::new(tables, settings)
}

/// Looks a probe up: both ends' classes, the local check, the cell. Flows play no part.
#[must_use]
pub fn evaluate(environment: &Memory<'_>, direction: Direction, probe: &Probe) -> Evaluation {
    match look_up(environment, direction, probe) {
        Ok(evaluation) => evaluation,
        Err(reason) => Evaluation { reason, rule: None, rejects: false },
    }
}

fn look_up(environment: &Memory<'_>, direction: Direction, probe: &Probe) -> Result<Evaluation, Reason> {
    let leaf =
        |address: IpAddr| leaf_of(environment, if address.is_ipv4() { 4 } else { 6 }, &from_ip(address));
    let (source, destination) = (leaf(probe.source)?, leaf(probe.destination)?);
    if source.quarantined() || destination.quarantined() {
        return Err(Reason::Quarantined);
    }
    let sides = local_check(direction, source, destination)?;
    let judgement = judge(environment, direction, [sides.local, sides.remote], probe.protocol, probe.port);
    let reason = match judgement.reason {
        Reason::NoRule if sides.remote == 0 => Reason::UnknownAddress,
        reason => reason,
    };
    let rule = (judgement.rule != NO_RULE).then_some(judgement.rule);
    let rejects = judgement.rejects() && sides.remote != 0 && TOLD.contains(&probe.protocol);
    Ok(Evaluation { reason, rule, rejects })
}
