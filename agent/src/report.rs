//! A drop, as people and programs read it.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

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
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        58 => "icmpv6".to_owned(),
        132 => "sctp".to_owned(),
        number => number.to_string(),
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
        write!(
            f,
            "{} {verb} {} {} → {} {}/{} {} on {}",
            self.time,
            self.direction,
            end(self.source_name.as_deref(), self.source),
            end(self.destination_name.as_deref(), self.destination),
            self.port,
            self.protocol,
            self.reason,
            self.interface,
        )?;
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
