//! Drop events as `bulkhead watch --json` prints them, one object a line.

use std::fmt::Write as _;

use bulkhead_abi::Direction;
use bulkhead_testkit::lab::Protocol;
use serde::Deserialize;

use super::plan::{Attempt, Drop};

/// The fields of an event that the demo reads.
#[derive(Clone, Debug, Deserialize)]
pub struct Event {
    pub direction: String,
    #[serde(default)]
    pub source: End,
    #[serde(default)]
    pub destination: End,
    #[serde(default)]
    pub destination_port: Option<u16>,
    #[serde(default)]
    pub protocol: String,
    pub reason: String,
    #[serde(default)]
    pub rule: Rule,
    #[serde(default)]
    pub interface: Option<String>,
    pub count: u64,
}

/// One end of a packet.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct End {
    #[serde(default)]
    pub name: Option<String>,
}

/// The rule that decided.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Rule {
    #[serde(default)]
    pub position: Option<String>,
}

/// An event that must have come: on which host, and about what.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Seen {
    /// The host whose `watch` shows it.
    pub host: String,
    egress: bool,
    from: String,
    to: String,
    port: u16,
    protocol: Protocol,
}

impl Seen {
    /// The event that a denied attempt causes.
    pub fn of(attempt: &Attempt, drop: &Drop) -> Seen {
        Seen {
            host: drop.host.clone(),
            egress: drop.direction == Direction::Egress,
            from: attempt.from.clone(),
            to: attempt.to.clone(),
            port: attempt.port,
            protocol: attempt.protocol,
        }
    }

    /// What an event is about, if it names both hosts and a port of TCP or UDP.
    pub fn from_event(host: &str, event: &Event) -> Option<Seen> {
        let egress = match event.direction.as_str() {
            "egress" => true,
            "ingress" => false,
            _ => return None,
        };
        let protocol = [Protocol::Tcp, Protocol::Udp].into_iter().find(|&protocol| event.is(protocol))?;
        Some(Seen {
            host: host.to_owned(),
            egress,
            from: event.source.name.clone()?,
            to: event.destination.name.clone()?,
            port: event.destination_port?,
            protocol,
        })
    }
}

impl Event {
    /// Protocols come by name.
    fn is(&self, protocol: Protocol) -> bool {
        self.protocol.eq_ignore_ascii_case(&protocol.to_string())
    }

    /// One line for people.
    pub fn line(&self, host: &str) -> String {
        let name = |name: &Option<String>| name.clone().unwrap_or_else(|| "?".into());
        let protocol = &self.protocol;
        let port = self.destination_port.map(|port| format!(":{port}")).unwrap_or_default();
        let mut line = format!(
            "dropped on {host:<14} {:<8} {:>14} → {}{port}/{protocol}  {}",
            self.direction,
            name(&self.source.name),
            name(&self.destination.name),
            self.reason
        );
        // Writing to a string does not fail.
        let _ = self.rule.position.as_ref().map(|position| write!(line, " {position}"));
        let _ = self.interface.as_ref().map(|interface| write!(line, " on {interface}"));
        if self.count > 1 {
            let _ = write!(line, " ×{}", self.count);
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_counts_only_with_both_names() {
        let event = |source: &str, protocol: &str| -> Event {
            serde_json::from_str(&format!(
                r#"{{"time":"x","node":"oms-1","kind":"drop","direction":"egress","source":{source},
                    "destination":{{"address":"100.64.0.2","name":"oms-1"}},"destination_port":8080,
                    "protocol":{protocol},"reason":"no_rule","interface":"wg0","count":2}}"#
            ))
            .unwrap()
        };
        let backup = r#"{"address":"100.64.0.9","name":"backup-1"}"#;
        let unknown = r#"{"address":"100.64.0.9"}"#;
        let seen = Seen::from_event("backup-1", &event(backup, "\"tcp\"")).unwrap();
        assert!(seen.egress && seen.from == "backup-1" && seen.to == "oms-1" && seen.port == 8080);
        assert_eq!(None, Seen::from_event("backup-1", &event(unknown, "\"tcp\"")));
        assert_eq!(None, Seen::from_event("backup-1", &event(backup, "\"icmp\"")));
        let line = event(unknown, "\"udp\"").line("backup-1");
        assert!(line.contains("? → oms-1:8080/udp") && line.ends_with("×2"), "{line}");
    }
}
