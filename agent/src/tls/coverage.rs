//! What is known of each port, of rules, counters and probes.

use std::collections::BTreeMap;

use bulkhead_api::event::Timestamp;
use bulkhead_api::tls::{Began, ClientCertificate, Flows, Port, Probe, SeenBy, Wanted};
use bulkhead_policy::service::UDP;

use super::{Admitted, Listening, name};

/// What the kernel has counted, by rule.
pub type Counts = BTreeMap<u32, Flows>;

/// All ports; UDP ones only if a rule with `tls` names them.
#[must_use]
pub fn ports(
    listening: &[Listening],
    admitted: &[Admitted],
    counts: &Counts,
    probes: &[Probe],
    now: Timestamp,
) -> Vec<Port> {
    let all = listening.iter().map(|port| one(port, listening, admitted, counts, probes, now));
    all.filter(|port| port.protocol != name(UDP) || port.wanted.is_some()).collect()
}

fn names(admitted: &Admitted, port: &Listening) -> bool {
    port.addresses.iter().any(|address| admitted.matches(*address, port.protocol, port.port))
}

fn one(
    port: &Listening,
    all: &[Listening],
    admitted: &[Admitted],
    counts: &Counts,
    probes: &[Probe],
    now: Timestamp,
) -> Port {
    let rules: Vec<&Admitted> = admitted.iter().filter(|rule| names(rule, port)).collect();
    let asking = || rules.iter().filter(|rule| rule.wanted.is_some());
    let counted = asking().filter_map(|rule| counts.get(&rule.rule)).copied().reduce(sum);
    // What a rule counts of several ports is of none of them.
    let is_alone = asking().all(|rule| all.iter().filter(|other| names(rule, other)).count() == 1);
    let found: Vec<&Probe> = probes
        .iter()
        .filter(|probe| probe.address.port() == port.port && port.addresses.contains(&probe.address.ip()))
        .filter(|_| port.protocol != UDP)
        .collect();
    let (began, by, contradiction) = judge(counted.filter(|_| is_alone), &found);
    let presents = found.iter().find(|probe| !probe.chain.is_empty());
    let newest = found.iter().map(|probe| probe.time).max();
    let problem = || {
        let of = |probe: &&&Probe| Some(format!("{}: {}", probe.address, probe.problem.as_ref()?));
        found.iter().find_map(|probe| of(&probe))
    };
    let workload = || port.workload.as_ref().map(|name| format!("workload {name}: not probed from the host"));
    let why = contradiction.or_else(problem).or_else(|| {
        let is_unknown = began == Began::Unknown;
        is_unknown.then(|| workload().unwrap_or_else(|| "not probed, and not counted alone".to_owned()))
    });
    Port {
        protocol: name(port.protocol).to_owned(),
        addresses: port.addresses.clone(),
        port: port.port,
        is_wildcard: port.is_wildcard,
        workload: port.workload.clone(),
        process: port.process.as_ref().map(|owner| owner.name.clone()),
        unit: port.process.as_ref().and_then(|owner| crate::exposed::unit::of(owner.pid)),
        inodes: port.inodes.clone(),
        wanted: rules.iter().filter_map(|rule| rule.wanted).max(),
        is_required: !rules.is_empty() && rules.iter().all(|rule| rule.wanted == Some(Wanted::Required)),
        began,
        by,
        counted,
        looks_like: found.iter().find_map(|probe| probe.looks_like.clone()),
        client_certificate: client_certificate(&found),
        certificate: presents.and_then(|probe| probe.chain.first().cloned()),
        invalid: found.iter().find_map(|probe| probe.invalid(now)),
        holds_key: presents.and_then(|probe| probe.holds_key),
        untrusted: presents.and_then(|probe| probe.trust.as_ref()?.problem.clone()),
        probed: newest,
        why,
    }
}

fn sum(one: Flows, other: Flows) -> Flows {
    Flows {
        began: one.began.saturating_add(other.began),
        plaintext: one.plaintext.saturating_add(other.plaintext),
        unverified: one.unverified.saturating_add(other.unverified),
    }
}

/// The strictest that all of a port's sockets share: one that goes on without a certificate lets everybody in.
fn client_certificate(found: &[&Probe]) -> ClientCertificate {
    let seen: Vec<ClientCertificate> = found.iter().map(|probe| probe.client_certificate).collect();
    let weakest = [
        ClientCertificate::NotAsked,
        ClientCertificate::Optional,
        ClientCertificate::Unknown,
        ClientCertificate::Demanded,
    ];
    weakest.into_iter().find(|which| seen.contains(which)).unwrap_or_default()
}

/// What a port begins with: whatever has seen plaintext is believed, unless the counters have seen both, and a probe says what
/// holds now.
fn judge(counted: Option<Flows>, found: &[&Probe]) -> (Began, Option<SeenBy>, Option<String>) {
    let probed = match () {
        () if found.iter().any(|probe| probe.began == Began::Plaintext) => Began::Plaintext,
        () if found.iter().any(|probe| probe.began == Began::Tls) => Began::Tls,
        () => Began::Unknown,
    };
    let Flows { began, plaintext, .. } = counted.unwrap_or_default();
    let by_kernel = |which| (which, Some(SeenBy::Kernel), None);
    let by_probe = |which| (which, Some(SeenBy::Probe), None);
    match (began, plaintext, probed) {
        (0, 0, Began::Unknown) => (Began::Unknown, None, None),
        (0, 0, which) => by_probe(which),
        (_, 0, Began::Plaintext) => {
            let why = format!("a probe found plaintext, and {began} flows began as TLS");
            (Began::Plaintext, Some(SeenBy::Probe), Some(why))
        }
        (_, 0, _) => by_kernel(Began::Tls),
        (0, _, Began::Tls) => {
            let why = format!("{plaintext} flows began in plaintext; a probe found TLS");
            (Began::Plaintext, Some(SeenBy::Kernel), Some(why))
        }
        (_, _, Began::Tls) => {
            let why = format!("{plaintext} flows began in plaintext, {began} as TLS");
            (Began::Tls, Some(SeenBy::Probe), Some(why))
        }
        _ => by_kernel(Began::Plaintext),
    }
}
