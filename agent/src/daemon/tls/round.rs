//! One round of probes.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use bulkhead_api::event::Timestamp;
use bulkhead_api::tls::{Began, Certificate, Probe, Probing};
use bulkhead_policy::service::TCP;
use bulkhead_probe::{Limits, Prober, Roots, Target};

use super::files::LONGEST;
use super::host::{self, Known};
use crate::daemon::clock::wall_time;
use crate::daemon::regular;
use crate::daemon::state::{Enforcer, held};
use crate::exposed::sockets;
use crate::tls::{Listening, listening};

/// Ports of one round.
const PORTS: usize = 256;

/// Probes what is to be probed, one after the other.
pub(super) fn probe(enforcer: &Enforcer) {
    let config = &enforcer.setup.config.tls;
    let known = host::look(enforcer);
    let (sockets, mut problems) = sockets::all();
    let mut targets = targets(&listening(&sockets, &Default::default(), &known.host), &known, config.probing);
    let mut unasked = Vec::new();
    if targets.len() > PORTS {
        problems
            .push(format!("{} sockets are too many for a round: {PORTS} of them are probed", targets.len()));
        // Whoever opens many ports must not have others forgotten.
        let presented = &held(&enforcer.tls.0).presented;
        targets.sort_by_key(|target| !presented.contains_key(&target.address));
        unasked = targets.split_off(PORTS).into_iter().map(|target| target.address).collect();
    }
    let roots = match &config.ca {
        None => Roots::system(),
        Some(path) => {
            let name = path.display().to_string();
            let read = regular::read_bytes(path, LONGEST);
            let roots = read.and_then(|text| Roots::of_pem(&name, &text).map_err(|error| error.to_string()));
            roots.unwrap_or_else(|error| {
                problems.push(format!("ca: {error}"));
                Roots::none(&name)
            })
        }
    };
    let prober = Prober::new(roots, Limits::default());
    let mut probes = Vec::with_capacity(targets.len());
    for target in &targets {
        if enforcer.live().detached {
            return;
        }
        probes.push(prober.probe(target));
    }
    let kept = &mut *held(&enforcer.tls.0);
    keep(&mut kept.presented, &probes, &unasked);
    let found = &mut kept.watched;
    tell(&found.probes, &probes);
    for problem in problems.iter().filter(|problem| !found.problems.contains(problem)) {
        tracing::warn!("TLS probes: {problem}");
    }
    found.probes = probes;
    found.problems = problems;
    found.last = Some(Timestamp::from_unix(wall_time()));
}

/// Where probes go: each socket of a port once. Sockets of workloads are left out: what the host says to them is judged, and
/// told of, as what anybody says.
fn targets(listening: &[Listening], known: &Known, probing: Probing) -> Vec<Target> {
    let mut targets = Vec::new();
    for port in listening.iter().filter(|port| port.protocol == TCP && port.workload.is_none()) {
        for address in &port.sockets {
            let naming = known.admitted.iter().filter(|rule| rule.matches(*address, TCP, port.port));
            let asking: Vec<_> = naming.filter(|rule| rule.wanted.is_some()).collect();
            if probing == Probing::All || !asking.is_empty() {
                targets.push(Target {
                    address: (*address, port.port).into(),
                    starttls: asking.iter().find_map(|rule| rule.starttls),
                    name: None,
                });
            }
        }
    }
    targets
}

/// Keeps what ports have presented, while they listen and say nothing else; `unasked` were not probed this time.
fn keep(presented: &mut BTreeMap<SocketAddr, Certificate>, probes: &[Probe], unasked: &[SocketAddr]) {
    let is_silent = |address: &SocketAddr| {
        let probe = probes.iter().find(|probe| probe.address == *address);
        probe.map_or_else(|| unasked.contains(address), |probe| probe.began == Began::Unknown)
    };
    presented.retain(|address, _| is_silent(address));
    let own = probes.iter().filter_map(|probe| Some((probe.address, probe.chain.first()?.clone())));
    presented.extend(own);
}

/// Says what is new.
fn tell(before: &[Probe], now: &[Probe]) {
    for probe in now {
        let known = before.iter().find(|known| known.address == probe.address);
        let of = |probe: &Probe| {
            let own = probe.chain.first().map(|own| own.sha256.clone());
            (probe.began, probe.client_certificate, own, probe.problem.clone())
        };
        if known.map(of) == Some(of(probe)) {
            continue;
        }
        let own = probe.chain.first();
        tracing::info!(
            address = %probe.address,
            client_certificate = probe.client_certificate.words(),
            presented = own.map(|own| own.title()).unwrap_or("nothing"),
            until = own.map(|own| own.not_after.milliseconds()).unwrap_or_default(),
            problem = probe.problem.as_deref().unwrap_or("none"),
            "TLS probe: {}",
            probe.began.words()
        );
    }
}

#[cfg(test)]
mod tests {
    use bulkhead_api::event::Timestamp;
    use bulkhead_api::tls::{Began, Probe};

    use super::keep;
    use crate::daemon::tls::endings::tests::certificate;

    #[test]
    fn a_port_that_is_silent_keeps_what_it_presented_and_no_other_does() {
        let probe = |port: u16, began, name: Option<&str>| {
            let probe = Probe::new(([100, 64, 0, 1], port).into(), Timestamp::from_unix(0), None);
            Probe { began, chain: name.map(|name| certificate(name, name)).into_iter().collect(), ..probe }
        };
        let mut kept = Default::default();
        let first = [1, 2, 3, 4].map(|port| probe(port, Began::Tls, Some("a")));
        keep(&mut kept, &first, &[]);
        let then = [
            probe(1, Began::Unknown, None),
            probe(2, Began::Plaintext, None),
            probe(3, Began::Tls, Some("b")),
        ];
        keep(&mut kept, &then, &[([100, 64, 0, 1], 4).into()]);
        let known: Vec<(u16, &str)> =
            kept.iter().map(|(address, own)| (address.port(), &*own.sha256)).collect();
        assert_eq!(known, [(1, "a"), (3, "b"), (4, "a")]);
        keep(&mut kept, &then, &[]);
        assert!(!kept.contains_key(&([100, 64, 0, 1], 4).into()), "it listens no more");
    }
}
