//! What the agent reports, as people and programs read it: drops, and times without enforcement.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// One line of the event file, and of what `watch` is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Report {
    /// Drops, or what a staged candidate would decide otherwise.
    Drop(Box<DropReport>),
    /// A time without enforcement.
    Unenforced(Box<UnenforcedReport>),
}

impl Report {
    /// How many drops it tells of. A difference of a staged candidate is none.
    #[must_use]
    pub fn drops(&self) -> u64 {
        match self {
            Self::Drop(report) if report.enforced.is_none() => report.count,
            _ => 0,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Drop(report) => report.fmt(f),
            Self::Unenforced(report) => report.fmt(f),
        }
    }
}

/// What became of packets while an interface was not enforced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// The programs judged them all the same.
    None,
    /// The guard dropped them.
    Closed,
    /// They may have passed unjudged.
    Open,
}

/// The kind of [`UnenforcedReport`], the one word by which it is told from a drop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unenforced {
    /// The only one.
    Unenforced,
}

/// A time in which an interface, or the guard, was not as the policy needs it. It ends when the kernel says
/// that it is so again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnenforcedReport {
    /// When enforcement was restored, RFC 3339, UTC.
    pub time: String,
    /// Always `unenforced`.
    pub kind: Unenforced,
    /// The interface, or `guard`.
    pub interface: String,
    /// Since when at the earliest: the last time that the kernel said it was enforced.
    pub since: String,
    /// How long, milliseconds.
    pub milliseconds: u64,
    /// What was found.
    pub cause: String,
    /// What became of packets.
    pub effect: Effect,
    /// The generation that is enforced.
    pub generation: u32,
    /// Whether an agent ran all the time.
    pub agent: bool,
}

impl fmt::Display for UnenforcedReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let effect = match self.effect {
            Effect::Open => "packets may have passed",
            Effect::Closed => "the guard dropped what came",
            Effect::None => "the programs went on",
        };
        let without = if self.agent { "" } else { ", without an agent" };
        let Self { time, interface, since, milliseconds, cause, .. } = self;
        write!(
            f,
            "{time} unenforced {interface} since {since} for {milliseconds} ms{without}: {cause}; {effect}"
        )
    }
}

/// One or more drops of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DropReport {
    /// When: the last of them, RFC 3339, UTC.
    pub time: String,
    /// `ingress` or `egress`, seen from this host.
    pub direction: String,
    /// Source address; none if the packet could not be parsed that far.
    pub source: Option<IpAddr>,
    /// Who has it.
    pub source_name: Option<String>,
    /// Source port of the first; 0 for a summary of later ones.
    pub source_port: u16,
    /// Destination address.
    pub destination: Option<IpAddr>,
    /// Who has it.
    pub destination_name: Option<String>,
    /// Destination port; 0 for protocols without ports.
    pub port: u16,
    /// Protocol: `tcp`, `udp`, …, or its number.
    pub protocol: String,
    /// Of a frame that is not IP: its EtherType, such as `0x88cc`; below `0x0600` it is a length (IEEE 802.3).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ethertype: Option<String>,
    /// The reason's name.
    pub reason: String,
    /// Number of the deny rule that did it.
    pub rule: Option<u32>,
    /// Its name, if it has one.
    pub rule_name: Option<String>,
    /// Its position in the policy.
    pub position: Option<String>,
    /// Interface.
    pub interface: String,
    /// Drops.
    pub count: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// The generation that decided.
    pub generation: u32,
    /// Audit mode: it would have been dropped, and passed.
    pub audit: bool,
    /// Drops of more than one kind that have the source, interface and reason in common: destinations, ports
    /// and protocols were too many to tell each.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub many: bool,
    /// Of a staged candidate that decides otherwise: what the enforced policy did. Reason, rule
    /// and generation are then the candidate's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enforced: Option<Enforced>,
}

/// What the enforced policy decided where a staged candidate would not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enforced {
    /// The reason's name.
    pub reason: String,
    /// Whether the packet passed.
    pub passed: bool,
    /// Number of the rule that decided.
    pub rule: Option<u32>,
    /// Its name, if it has one.
    pub rule_name: Option<String>,
    /// Its position in the policy.
    pub position: Option<String>,
}

/// The name of an IP protocol number, where it has a usual one.
#[must_use]
pub fn protocol_name(number: u8) -> String {
    match number {
        1 => "icmp".to_owned(),
        2 => "igmp".to_owned(),
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        58 => "icmpv6".to_owned(),
        112 => "vrrp".to_owned(),
        132 => "sctp".to_owned(),
        number => number.to_string(),
    }
}

/// What an EtherType stands for, where it is usual on a link of hosts (IANA, IEEE 802 numbers).
fn ethertype_name(ethertype: &str) -> &'static str {
    match ethertype {
        "0x8809" => " (lacp)",
        "0x8847" | "0x8848" => " (mpls)",
        "0x8863" | "0x8864" => " (pppoe)",
        "0x888e" => " (eapol)",
        "0x88cc" => " (lldp)",
        "0x88e5" => " (macsec)",
        "0x88f7" => " (ptp)",
        "0x8906" => " (fcoe)",
        length if length < "0x0600" => " (802.3)",
        _ => "",
    }
}

fn end(name: Option<&str>, address: Option<IpAddr>) -> String {
    match (name, address) {
        (Some(name), Some(address)) => format!("{name} ({address})"),
        (None, Some(address)) => format!("unknown ({address})"),
        _ => "unparsed".to_owned(),
    }
}

fn write_rule(
    f: &mut fmt::Formatter<'_>,
    rule: Option<u32>,
    name: Option<&str>,
    position: Option<&str>,
) -> fmt::Result {
    let (Some(rule), Some(position)) = (rule, position) else { return Ok(()) };
    match name {
        Some(name) => write!(f, " by {name} at {position}"),
        None => write!(f, " by rule {rule} at {position}"),
    }
}

impl fmt::Display for DropReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = match &self.enforced {
            Some(enforced) if enforced.passed => "staged would drop",
            Some(_) => "staged would pass",
            None if self.audit => "would drop",
            None => "drop",
        };
        let Self { time, direction, interface, reason, .. } = self;
        write!(f, "{time} {verb} {direction} ")?;
        if let Some(kind) = &self.ethertype {
            write!(f, "frame {kind}{}", ethertype_name(kind))?;
        } else {
            write!(f, "{} → ", end(self.source_name.as_deref(), self.source))?;
            if self.many {
                f.write_str("many")?;
            } else {
                let destination = end(self.destination_name.as_deref(), self.destination);
                write!(f, "{destination} {}/{}", self.port, self.protocol)?;
            }
        }
        write!(f, " {reason} on {interface}")?;
        write_rule(f, self.rule, self.rule_name.as_deref(), self.position.as_deref())?;
        if let Some(enforced) = &self.enforced {
            write!(f, "; {} now, {}", if enforced.passed { "passed" } else { "dropped" }, enforced.reason)?;
            write_rule(f, enforced.rule, enforced.rule_name.as_deref(), enforced.position.as_deref())?;
        }
        if self.count > 1 {
            write!(f, " ×{}", self.count)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{DropReport, Report};

    #[test]
    fn drops_of_many_kinds_name_their_sender_alone() {
        let line = r#"{"time": "T", "direction": "ingress", "source": "100.64.0.9", "source_name": "stranger",
            "source_port": 0, "destination": null, "destination_name": null, "port": 0, "protocol": "any",
            "reason": "no_rule", "rule": null, "rule_name": null, "position": null, "interface": "wg0",
            "count": 3742, "bytes": 1, "generation": 1, "audit": false, "many": true}"#;
        let report: DropReport = serde_json::from_str(line).expect("a report");
        let shown = "T drop ingress stranger (100.64.0.9) → many no_rule on wg0 ×3742";
        assert_eq!(Report::Drop(Box::new(report)).to_string(), shown);
        // An agent before this one wrote no such field.
        let earlier = line.replace(", \"many\": true", "");
        assert!(!serde_json::from_str::<DropReport>(&earlier).expect("a report").many);
    }
}
