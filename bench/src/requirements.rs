//! What Bulkhead must show: the table of ratios, each row with its bound.

use serde::{Deserialize, Serialize};

use crate::figure::Report;
use crate::groups::Group;
use crate::stats::Ratio;

/// Which side of the bound is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The value must not exceed the bound.
    AtMost,
    /// The value must reach the bound.
    AtLeast,
}

/// How a row is measured.
#[derive(Clone, Copy, Debug)]
enum Measure {
    /// One figure over another, median of the rounds' ratios.
    Ratio(&'static str, &'static str),
    /// The same, by the upper bound of the 95 % interval.
    UpperBound(&'static str, &'static str),
    /// One figure's median.
    Value(&'static str),
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Requirement {
    /// What is bounded, in words.
    pub what: &'static str,
    measure: Measure,
    side: Side,
    bound: f64,
}

/// How a row came out.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// The group that measures it.
    pub group: String,
    /// What is bounded.
    pub what: String,
    /// The good side.
    pub side: Side,
    /// The bound.
    pub bound: f64,
    /// What was measured; none if its group did not run or could not.
    pub measured: Option<f64>,
    /// Its 95 % interval, of a ratio.
    pub interval: Option<[f64; 2]>,
    /// Why a figure behind it is not to be relied on.
    pub unreliable: Option<String>,
}

impl Outcome {
    /// Whether it holds; none if it was not measured.
    #[must_use]
    pub fn met(&self) -> Option<bool> {
        let measured = self.measured?;
        Some(match self.side {
            AtMost => measured <= self.bound,
            AtLeast => measured >= self.bound,
        })
    }

    /// `met`, `missed` or `not measured`.
    #[must_use]
    pub fn verdict(&self) -> &'static str {
        match self.met() {
            Some(true) => "met",
            Some(false) => "missed",
            None => "not measured",
        }
    }
}

const fn row(what: &'static str, measure: Measure, side: Side, bound: f64) -> Requirement {
    Requirement { what, measure, side, bound }
}

use Measure::{Ratio as Over, UpperBound, Value};
use Side::{AtLeast, AtMost};

/// Every row.
pub const REQUIREMENTS: &[Requirement] = &[
    row(
        "TCP forward allow at 131,072 IPv4 identities, over one LRU hash look-up of that size",
        Over("decision/tc/ipv4/131072/forward", "decision/tc/ipv4/131072/lru"),
        AtMost,
        0.2,
    ),
    row(
        "the same, over address LPM + policy LPM",
        Over("decision/tc/ipv4/131072/forward", "decision/tc/ipv4/131072/lpm"),
        AtMost,
        0.03,
    ),
    row(
        "the same in IPv6, over one LRU hash look-up of that size",
        Over("decision/tc/ipv6/131072/forward", "decision/tc/ipv6/131072/lru"),
        AtMost,
        1.0,
    ),
    row(
        "the same in IPv4 at 1,000,000 identities, over 1,000",
        Over("decision/tc/ipv4/1000000/forward", "decision/tc/ipv4/1000/forward"),
        AtMost,
        5.0,
    ),
    row(
        "UDP forward (touches its flow), over one LRU hash look-up of that size",
        Over("decision/tc/ipv4/131072/udp", "decision/tc/ipv4/131072/lru"),
        AtMost,
        1.4,
    ),
    row(
        "reply by flow, over one LRU hash look-up of that size",
        Over("decision/tc/ipv4/131072/reply", "decision/tc/ipv4/131072/lru"),
        AtMost,
        1.4,
    ),
    row(
        "deny where nothing is admitted the other way, its event suppressed, over forward allow",
        Over("decision/tc/ipv4/131072/deny", "decision/tc/ipv4/131072/forward"),
        AtMost,
        1.5,
    ),
    row(
        "deny after a flow miss, its event suppressed, over one LRU hash look-up",
        Over("decision/tc/ipv4/131072/miss", "decision/tc/ipv4/131072/lru"),
        AtMost,
        1.5,
    ),
    row(
        "a reply of a flow that began as TLS, observed, over a reply",
        Over("decision/tc/ipv4/1000/tls-observed", "decision/tc/ipv4/1000/reply"),
        AtMost,
        1.1,
    ),
    row(
        "the same at 131,072 identities",
        Over("decision/tc/ipv4/131072/tls-observed", "decision/tc/ipv4/131072/reply"),
        AtMost,
        1.1,
    ),
    row(
        "TCP that began as TLS, required, over UDP forward, which looks up its flow as well",
        Over("decision/tc/ipv4/1000/tls-required", "decision/tc/ipv4/1000/udp"),
        AtMost,
        1.1,
    ),
    row(
        "the same at 131,072 identities",
        Over("decision/tc/ipv4/131072/tls-required", "decision/tc/ipv4/131072/udp"),
        AtMost,
        1.1,
    ),
    row(
        "native XDP drop rate over bare XDP_DROP, UDP, events suppressed: unknown sources",
        Over("drop/unknown", "drop/xdp_drop"),
        AtLeast,
        0.88,
    ),
    row("the same: known sources without a rule", Over("drop/known", "drop/xdp_drop"), AtLeast, 0.75),
    row(
        "the same, over xdp-filter's denying IPv4 and UDP",
        Over("drop/known", "drop/xdp-filter"),
        AtLeast,
        1.2,
    ),
    row(
        "added cost at TCX (TCP), over nftables' verdict map's added cost, 131,072 addresses: median",
        Over("forward/added/bulkhead-10", "forward/added/nft-map"),
        AtMost,
        0.33,
    ),
    row(
        "the same: upper bound of the 95 % interval",
        UpperBound("forward/added/bulkhead-10", "forward/added/nft-map"),
        AtMost,
        0.5,
    ),
    row(
        "added cost at 10,000 rules, over 10 rules",
        Over("forward/added/bulkhead-10000", "forward/added/bulkhead-10"),
        AtMost,
        1.2,
    ),
    row(
        "tunnel TCP throughput with, over without",
        Over("tunnel/tcp/with", "tunnel/tcp/without"),
        AtLeast,
        0.95,
    ),
    row(
        "tunnel UDP throughput with, over without",
        Over("tunnel/udp/with", "tunnel/udp/without"),
        AtLeast,
        0.95,
    ),
    row(
        "table memory, 1,000,000 IPv4 identities within one /10 (MiB)",
        Value("scale/memory/scattered/1000000"),
        AtMost,
        64.0,
    ),
    row("the same spread at random over IPv4 (MiB)", Value("scale/memory/everywhere/1000000"), AtMost, 128.0),
    row(
        "its forward allow, over one LRU look-up",
        Over("decision/tc/ipv4/1000000-everywhere/forward", "decision/tc/ipv4/1000000-everywhere/lru"),
        AtMost,
        1.0,
    ),
    row(
        "one identity added among 100,000, over a full compile",
        Over("compile/add", "compile/full"),
        AtMost,
        0.02,
    ),
    row("swap of a 100,000-identity generation: packets lost or wrong", Value("swap/wrong"), AtMost, 0.0),
    row("swap of a 100,000-identity generation: ms", Value("swap/generation"), AtMost, 250.0),
];

impl Requirement {
    /// How it came out in a run.
    #[must_use]
    pub fn outcome(&self, report: &Report) -> Outcome {
        let (ids, ratio): (Vec<&str>, Option<Ratio>) = match self.measure {
            Over(id, over) | UpperBound(id, over) => (vec![id, over], report.ratio(id, over)),
            Value(id) => (vec![id], None),
        };
        let measured = match self.measure {
            Over(..) => ratio.map(|ratio| ratio.median),
            UpperBound(..) => ratio.map(|ratio| ratio.high),
            Value(id) => report.figure(id).map(|figure| figure.summary.median),
        };
        let doubts = ids.iter().filter_map(|id| {
            let why = report.figure(id)?.unreliable.as_ref()?;
            Some(format!("{id}: {why}"))
        });
        let doubts: Vec<String> = doubts.collect();
        Outcome {
            group: ids[0].split('/').next().unwrap_or_default().to_owned(),
            what: self.what.to_owned(),
            side: self.side,
            bound: self.bound,
            measured: measured.filter(|value| value.is_finite()),
            interval: ratio.map(|ratio| [ratio.low, ratio.high]),
            unreliable: (!doubts.is_empty()).then(|| doubts.join("; ")),
        }
    }
}

/// How every row came out.
#[must_use]
pub fn outcomes(report: &Report) -> Vec<Outcome> {
    REQUIREMENTS.iter().map(|requirement| requirement.outcome(report)).collect()
}

/// Whether all hold that the groups should have measured; of no groups, all.
#[must_use]
pub fn hold(outcomes: &[Outcome], groups: &[Group]) -> bool {
    let asked =
        |outcome: &&Outcome| groups.is_empty() || groups.iter().any(|group| outcome.group == group.name());
    outcomes.iter().filter(asked).all(|outcome| outcome.met() == Some(true))
}

#[cfg(test)]
mod tests {
    use super::{AtLeast, AtMost, Over, Value, row};
    use crate::figure::{Figure, Report, Unit};
    use crate::machine::Machine;

    fn report() -> Report {
        let mut report = Report::new(Machine::here(), String::new(), true);
        for (id, rounds) in [("a", [2.0; 5]), ("b", [10.0; 5])] {
            report.add(Figure::new(id, "", Unit::Nanoseconds, rounds.to_vec()), &[]);
        }
        report
    }

    #[test]
    fn both_sides_of_a_bound_are_judged() {
        let met = |requirement: super::Requirement| requirement.outcome(&report()).met();
        assert_eq!(met(row("", Over("a", "b"), AtMost, 0.2)), Some(true));
        assert_eq!(met(row("", Over("a", "b"), AtMost, 0.19)), Some(false));
        assert_eq!(met(row("", Over("b", "a"), AtLeast, 5.0)), Some(true));
        assert_eq!(met(row("", Over("b", "a"), AtLeast, 5.1)), Some(false));
        assert_eq!(met(row("", Value("b"), AtMost, 9.0)), Some(false));
    }

    #[test]
    fn what_was_not_measured_is_neither_met_nor_missed() {
        let outcome = row("", Over("a", "c"), AtMost, 1.0).outcome(&report());
        assert_eq!((outcome.met(), outcome.verdict()), (None, "not measured"));
    }

    #[test]
    fn a_doubt_about_either_figure_is_carried_on() {
        let mut report = report();
        report.figures[1].doubt("noise");
        let doubt = row("", Over("a", "b"), AtMost, 1.0).outcome(&report).unreliable.unwrap_or_default();
        assert_eq!(doubt, "b: noise");
    }
}
