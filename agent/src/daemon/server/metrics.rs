//! Metrics for Prometheus: a status in its text format.
//!
//! Names and units follow Prometheus' conventions: `bulkhead_`, base units, `_total` for what only rises.

use std::sync::atomic::AtomicU64;

use bulkhead_abi::Action;
use bulkhead_api::event::{AlarmKind, Rule};
use bulkhead_api::quarantine::Entry;
use bulkhead_api::status::{Anchor, InventorySource, ReasonCount, RuleCount, Sink, State, Status};
use bulkhead_api::tls::{Began, Certificate, CertificateFile, ClientCertificate, Probe, Watched};
use bulkhead_engine::Reason;
use prometheus_client::encoding::prometheus_text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::version::VERSION;

type Labels = Vec<(&'static str, String)>;

const STATES: [State; 5] = [State::Enforced, State::Audit, State::Degraded, State::Mixed, State::Detached];

/// What a status does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sampled {
    /// Flows without a reply and flows with one, as they were counted last; none: nobody counts them.
    pub flows: Option<[usize; 2]>,
    /// Flows that the table has room for.
    pub flow_capacity: u32,
    /// When the policy was put in force, seconds since the Unix epoch; 0: not known.
    pub applied: u64,
}

/// Metrics of one moment.
#[derive(Default)]
struct Metrics(Registry);

impl Metrics {
    fn gauge(&mut self, name: &str, help: &str, values: impl IntoIterator<Item = (Labels, f64)>) {
        let family = Family::<Labels, Gauge<f64, AtomicU64>>::default();
        for (labels, value) in values {
            family.get_or_create(&labels).set(value);
        }
        self.0.register(name, help, family);
    }

    fn counter(&mut self, name: &str, help: &str, values: impl IntoIterator<Item = (Labels, f64)>) {
        let family = Family::<Labels, Counter<f64, AtomicU64>>::default();
        for (labels, value) in values {
            family.get_or_create(&labels).inc_by(value);
        }
        self.0.register(name, help, family);
    }
}

/// A status as metrics.
#[must_use]
pub fn render(status: &Status, sampled: &Sampled) -> String {
    let mut metrics = Metrics(Registry::with_prefix("bulkhead"));
    state(&mut metrics, status, sampled);
    packets(&mut metrics, status);
    losses(&mut metrics, status);
    sinks(&mut metrics, status);
    anchors(&mut metrics, status);
    alarms(&mut metrics, status);
    expiry(&mut metrics, status);
    identities(&mut metrics, status);
    sources(&mut metrics, status);
    fleet(&mut metrics, status);
    tls(&mut metrics, status);
    let mut text = String::new();
    // Writing into a string does not fail.
    let _ = prometheus_text::encode(&mut text, &metrics.0);
    text
}

fn state(metrics: &mut Metrics, status: &Status, sampled: &Sampled) {
    let version = VERSION.to_owned();
    metrics.gauge("build_info", "The agent's version", [(vec![("version", version)], 1.0)]);
    let states = STATES
        .map(|state| (vec![("state", state.name().to_owned())], f64::from(u8::from(state == status.state))));
    metrics.gauge("state", "What holds of all managed interfaces and the guard, asked of the kernel", states);
    metrics.gauge(
        "problems",
        "Problems that `bulkhead status` names",
        [(vec![], status.problems.len() as f64)],
    );
    let by = |who: &str| {
        let is_by = |entry: &Entry| match &entry.fleet {
            Some(_) => who == "fleet",
            None if entry.automatic => who == "agent",
            None => who == "operator",
        };
        let entries = status.quarantined.iter().filter(|of| is_by(&of.entry));
        (vec![("by", who.to_owned())], entries.count() as f64)
    };
    let quarantined = ["operator", "agent", "fleet"].map(by);
    metrics.gauge("quarantined", "Identities that are cut off, by whom", quarantined);
    metrics.gauge(
        "flow_table_capacity",
        "Flows that the table has room for",
        [(vec![], f64::from(sampled.flow_capacity))],
    );
    if let Some([unreplied, established]) = sampled.flows {
        let of = |name: &str, count: usize| (vec![("state", name.to_owned())], count as f64);
        let flows = [of("unreplied", unreplied), of("established", established)];
        metrics.gauge("flows", "Tracked flows, counted every half minute", flows);
    }
    let Some(agent) = &status.agent else { return };
    metrics.gauge("generation", "The enforced generation", [(vec![], f64::from(agent.generation))]);
    metrics.gauge("rules", "Rules that matter to this node", [(vec![], agent.rules as f64)]);
    if sampled.applied != 0 {
        let help = "When the policy was put in force, seconds since the Unix epoch";
        metrics.gauge("policy_applied_timestamp_seconds", help, [(vec![], sampled.applied as f64)]);
    }
    if let Some(look) = agent.read_back.as_ref().filter(|look| look.failure.is_none()) {
        let help =
            "Entries and programs in the kernel that were not what was approved, when it was last read back";
        metrics.gauge("live_differences", help, [(vec![], look.differences as f64)]);
    }
    let attached = agent.interfaces.iter().map(|attached| {
        let is_attached = attached.index != 0 && !attached.hooks.is_empty();
        (vec![("interface", attached.interface.clone())], f64::from(u8::from(is_attached)))
    });
    metrics.gauge("interface_attached", "Whether programs are on a managed interface", attached);
    let unenforced =
        agent.unenforced.iter().map(|(what, seconds)| (vec![("interface", what.clone())], *seconds));
    let help = "Time without enforcement since the agent started, in seconds; of the guard too";
    metrics.counter("unenforced_seconds", help, unenforced);
}

/// Whether a reason lets packets pass.
fn verdict(reason: &str) -> &'static str {
    let known = Reason::ALL.iter().find(|known| known.name() == reason);
    if known.is_some_and(|reason| reason.action() == Action::Pass) { "pass" } else { "drop" }
}

fn by_reason(count: &ReasonCount) -> Labels {
    let ReasonCount { direction, reason, .. } = count;
    vec![
        ("direction", direction.clone()),
        ("verdict", verdict(reason).to_owned()),
        ("reason", reason.clone()),
    ]
}

fn by_rule(rule: &Rule) -> Labels {
    vec![("rule", rule.number.to_string()), ("name", rule.name.clone().unwrap_or_default())]
}

/// How flows of a rule began, if it asks.
fn by_beginning(count: &RuleCount) -> impl Iterator<Item = (Labels, f64)> {
    let rule = by_rule(&count.rule);
    count.tls.iter().flat_map(move |tls| {
        let counts = [("tls", tls.began), ("plaintext", tls.plaintext), ("unverified", tls.unverified)];
        let rule = rule.clone();
        counts.map(move |(began, flows)| {
            let mut labels = rule.clone();
            labels.push(("began", began.to_owned()));
            (labels, flows as f64)
        })
    })
}

fn packets(metrics: &mut Metrics, status: &Status) {
    let reasons = &status.reasons;
    let counts = reasons.iter().map(|count| (by_reason(count), count.packets as f64));
    metrics.counter("packets", "Packets by direction, verdict and reason", counts);
    let counts = reasons.iter().map(|count| (by_reason(count), count.bytes as f64));
    metrics.counter("bytes", "Bytes by direction, verdict and reason", counts);
    let counts = status.guard.iter().map(|count| (by_reason(count), count.packets as f64));
    metrics.counter("guard_dropped_packets", "Packets that the nftables guard dropped", counts);
    let rules = status.agent.iter().flat_map(|agent| &agent.rule_counters);
    let counts = rules.clone().map(|count| (by_rule(&count.rule), count.packets as f64));
    metrics.counter("rule_packets", "Packets that a rule decided", counts);
    let counts = rules.clone().map(|count| (by_rule(&count.rule), count.bytes as f64));
    metrics.counter("rule_bytes", "Bytes that a rule decided", counts);
    let help = "Flows of a rule that asks for TLS, by how they began";
    metrics.counter("rule_tls_flows", help, rules.flat_map(by_beginning));
}

fn sinks(metrics: &mut Metrics, status: &Status) {
    let sinks = || status.agent.iter().flat_map(|agent| &agent.sinks);
    let of = |sink: &Sink, value: f64| (vec![("sink", sink.name.clone())], value);
    let up = sinks().map(|sink| of(sink, f64::from(u8::from(sink.problem.is_none()))));
    metrics.gauge("sink_up", "Whether a sink's receiver takes records", up);
    let help = "Records in the event log that a sink's receiver has not confirmed";
    metrics.gauge("sink_behind_records", help, sinks().map(|sink| of(sink, sink.behind as f64)));
    let help = "Records that a sink does not send: pruned before, or in an event log that was set aside";
    let skipped = sinks().flat_map(|sink| {
        [("pruned", sink.skipped), ("set_aside", sink.set_aside)].map(|(cause, count)| {
            (vec![("sink", sink.name.clone()), ("cause", cause.to_owned())], count as f64)
        })
    });
    metrics.counter("sink_skipped_records", help, skipped);
    let help = "Records that a sink's receiver has refused for good";
    metrics.counter("sink_refused_records", help, sinks().map(|sink| of(sink, sink.refused as f64)));
}

fn anchors(metrics: &mut Metrics, status: &Status) {
    let anchors = || status.agent.iter().flat_map(|agent| &agent.anchors);
    let of = |anchor: &Anchor, value: f64| (vec![("anchor", anchor.name.clone())], value);
    let up = anchors().map(|anchor| of(anchor, f64::from(u8::from(anchor.problem.is_none()))));
    metrics.gauge("anchor_up", "Whether an anchor takes the event log's checkpoints", up);
    let help = "Records under the last checkpoint that an anchor has taken since the agent started";
    metrics.gauge("anchor_records", help, anchors().map(|anchor| of(anchor, anchor.records as f64)));
    let help = "Time since an anchor has taken a checkpoint";
    let ages = anchors().filter_map(|anchor| Some(of(anchor, anchor.age_seconds? as f64)));
    metrics.gauge("anchor_age_seconds", help, ages);
}

fn alarms(metrics: &mut Metrics, status: &Status) {
    let Some(alarms) = status.agent.as_ref().and_then(|agent| agent.alarms.as_ref()) else { return };
    let of = |kind: &AlarmKind, count: u64| (vec![("alarm", kind.name().to_owned())], count as f64);
    let on = |kind: &AlarmKind| alarms.active.iter().filter(|active| active.alarm == *kind).count() as u64;
    let active = AlarmKind::ALL.iter().map(|kind| of(kind, on(kind)));
    metrics.gauge("alarms_active", "Alarms that are on", active);
    let raised = |kind: &AlarmKind| alarms.raised.get(kind.name()).copied().unwrap_or(0);
    let counts = AlarmKind::ALL.iter().map(|kind| of(kind, raised(kind)));
    metrics.counter("alarms", "Alarms that were raised since the agent started", counts);
    let help = "Alarms that were not raised, since too many of their kind are on";
    metrics.counter("alarms_suppressed", help, [(vec![], alarms.suppressed as f64)]);
}

fn expiry(metrics: &mut Metrics, status: &Status) {
    let Some(expiry) = status.agent.as_ref().map(|agent| &agent.expiry) else { return };
    let help = "When something ends, seconds since the Unix epoch: the nearest ends alone";
    let times = expiry.nearest.iter().map(|found| {
        let labels = vec![("kind", found.kind.name().to_owned()), ("name", found.name.clone())];
        (labels, found.ends.unix() as f64 / 1e9)
    });
    metrics.gauge("expiry_timestamp_seconds", help, times);
    let counts = expiry.counts.iter().flat_map(|(kind, levels)| {
        let of = |(level, count): (&String, &u64)| {
            (vec![("kind", kind.clone()), ("level", level.clone())], *count as f64)
        };
        levels.iter().map(of)
    });
    metrics.gauge("expiring", "What ends at a known time, by how near that is", counts);
}

fn identities(metrics: &mut Metrics, status: &Status) {
    let Some(found) = status.agent.as_ref().and_then(|agent| agent.identities.as_ref()) else { return };
    let of = |state: &str, count: u64| (vec![("state", state.to_owned())], count as f64);
    let counts = found.count.iter().map(|(state, count)| of(state, *count)).chain([of("stale", found.stale)]);
    let help = "Addresses of identities by whether their own keys route them; stale ones are bound as well";
    metrics.gauge("identities", help, counts);
}

fn sources(metrics: &mut Metrics, status: &Status) {
    let sources = status.agent.as_ref().map_or(&[][..], |agent| &agent.sources);
    let of = |source: &InventorySource, value: f64| (vec![("source", source.name.clone())], value);
    let is_heard = |source: &InventorySource| f64::from(u8::from(source.problem.is_none()));
    let heard = sources.iter().map(|source| of(source, is_heard(source)));
    metrics.gauge("source_up", "Whether a source of the inventory answers and is believed", heard);
    let nodes = sources.iter().filter_map(|source| Some(of(source, source.nodes? as f64)));
    metrics.gauge("source_nodes", "Nodes of a source's last answer that was believed", nodes);
    let age = sources.iter().filter_map(|source| Some(of(source, source.answered_seconds? as f64)));
    metrics.gauge("source_answer_age_seconds", "Time since that answer", age);
}

fn fleet(metrics: &mut Metrics, status: &Status) {
    let Some(fleet) = status.agent.as_ref().and_then(|agent| agent.fleet.as_ref()) else { return };
    let one = |value: f64| [(Vec::new(), value)];
    metrics.gauge(
        "fleet_up",
        "Whether the fleet's files come and are verified",
        one(is(fleet.problem.is_none())),
    );
    metrics.gauge("fleet_local", "Whether what runs is not the fleet's", one(is(fleet.local.is_some())));
    for (name, help, bundles) in [
        ("fleet_version", "Version of the fleet's bundle that is enforced", &fleet.enforced),
        ("fleet_verified_version", "Version of the fleet's bundle that was verified last", &fleet.verified),
    ] {
        let both = bundles
            .iter()
            .flat_map(|of| [("policy", of.policy.version), ("inventory", of.inventory.version)]);
        metrics.gauge(
            name,
            help,
            both.map(|(what, version)| (vec![("bundle", what.to_owned())], version as f64)),
        );
    }
    let age = fleet.checked_seconds.into_iter().map(|seconds| (Vec::new(), seconds as f64));
    metrics.gauge("fleet_check_age_seconds", "Time since all of the fleet was verified", age);
    let fresh = fleet.fresh_seconds.into_iter().map(|seconds| (Vec::new(), seconds as f64));
    metrics.gauge("fleet_fresh_seconds", "Time until the fleet's freshness expires", fresh);
    let refused = fleet.refusals.iter().map(|(cause, count)| (vec![("cause", cause.clone())], *count as f64));
    metrics.gauge("fleet_refusals", "What was refused of the fleet since the agent began, by cause", refused);
}

fn is(what: bool) -> f64 {
    f64::from(u8::from(what))
}

fn tls(metrics: &mut Metrics, status: &Status) {
    let Some(Watched { probes, files, .. }) = status.agent.as_ref().map(|agent| &agent.tls) else { return };
    let of = |probe: &Probe, value: f64| (vec![("address", probe.address.to_string())], value);
    let is = |what: bool| f64::from(u8::from(what));
    let began = |which: Began| probes.iter().map(move |probe| of(probe, is(probe.began == which)));
    metrics.gauge("tls_probe_began", "Whether a probed port began as TLS", began(Began::Tls));
    metrics.gauge(
        "tls_probe_plaintext",
        "Whether a probed port began with something else",
        began(Began::Plaintext),
    );
    let help = "Whether a probed port did neither: it did not answer";
    metrics.gauge("tls_probe_failed", help, began(Began::Unknown));
    let demands = |probe: &Probe| is(probe.client_certificate == ClientCertificate::Demanded);
    let help = "Whether a probed port demands a certificate of its client";
    metrics.gauge(
        "tls_client_certificate_demanded",
        help,
        probes.iter().map(|probe| of(probe, demands(probe))),
    );
    let seconds = |certificate: &Certificate| (certificate.not_after.unix() / 1_000_000_000) as f64;
    let ends = probes.iter().filter_map(|probe| Some(of(probe, seconds(probe.chain.first()?))));
    let help =
        "Until when the certificate that a probed port presents is valid, seconds since the Unix epoch";
    metrics.gauge("tls_not_after_timestamp_seconds", help, ends);
    let of = |file: &CertificateFile, value: f64| (vec![("file", file.file.clone())], value);
    let first = |file: &CertificateFile| file.certificates.iter().map(seconds).reduce(f64::min);
    let ends = files.iter().filter_map(|file| Some(of(file, first(file)?)));
    let help = "Until when all certificates of a file are valid, seconds since the Unix epoch";
    metrics.gauge("tls_file_not_after_timestamp_seconds", help, ends);
    let read = files.iter().map(|file| of(file, is(file.problem.is_none())));
    metrics.gauge("tls_file_up", "Whether a file of certificates can be read", read);
}

fn losses(metrics: &mut Metrics, status: &Status) {
    let of = |cause: &str, count: u64| (vec![("cause", cause.to_owned())], count as f64);
    let lost = [of("ring", status.lost.ring), of("budget", status.lost.budget)];
    metrics.counter("unreported_drops", "Drops that no event and no summary tells of", lost);
    let lost = [(vec![], status.lost.flows as f64)];
    metrics.counter("unreported_flows", "Flows that rules let begin and that were to be told of", lost);
    metrics.counter(
        "evicted_flows",
        "Flows that made room for others before they had expired",
        [(vec![], status.evicted_flows as f64)],
    );
    let Some(agent) = &status.agent else { return };
    let events = &agent.events;
    metrics.counter("events_written", "Events in the event log", [(vec![], events.written as f64)]);
    let lost = [
        of("disk", events.unwritten.saturating_sub(events.overflowed)),
        of("queue", events.overflowed),
        of("watcher", events.missed_by_watchers),
    ];
    metrics.counter(
        "events_lost",
        "Events that the event log could not take, or watchers were too slow for",
        lost,
    );
}
