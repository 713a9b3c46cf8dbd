//! Drop events as `bulkhead watch --json` prints them, one object a line.

use std::fmt::Write as _;

use bulkhead_abi::Direction;
use bulkhead_testkit::lab::Protocol;
use serde::Deserialize;

use super::plan::{Attempt, Drop, number};

/// The fields of an event that the demo reads.
#[derive(Clone, Debug, Deserialize)]
pub struct Event {
    pub direction: String,
    pub source_name: Option<String>,
    pub destination_name: Option<String>,
    #[serde(default)]
    pub port: Option<u16>,
    pub protocol: serde_json::Value,
    pub reason: String,
    #[serde(default)]
    pub position: Option<String>,
    #[serde(default)]
    pub interface: Option<String>,
    pub count: u64,
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
            from: event.source_name.clone()?,
            to: event.destination_name.clone()?,
            port: event.port?,
            protocol,
        })
    }
}

impl Event {
    /// Protocols come by name or by number.
    fn is(&self, protocol: Protocol) -> bool {
        match &self.protocol {
            serde_json::Value::String(name) => name.eq_ignore_ascii_case(&protocol.to_string()),
            value => value.as_u64() == Some(number(protocol).into()),
        }
    }

    /// One line for people.
    pub fn line(&self, host: &str) -> String {
        let name = |name: &Option<String>| name.clone().unwrap_or_else(|| "?".into());
        let protocol = match &self.protocol {
            serde_json::Value::String(name) => name.clone(),
            other => other.to_string(),
        };
        let port = self.port.map(|port| format!(":{port}")).unwrap_or_default();
        let mut line = format!(
            "dropped on {host:<14} {:<8} {:>14} → {}{port}/{protocol}  {}",
            self.direction,
            name(&self.source_name),
            name(&self.destination_name),
            self.reason
        );
        // Writing to a string does not fail.
        let _ = self.position.as_ref().map(|position| write!(line, " {position}"));
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
                r#"{{"time":"x","direction":"egress","source_name":{source},"destination_name":"oms-1","port":8080,
                    "protocol":{protocol},"reason":"no_rule","rule":null,"position":null,"interface":"wg0","count":2}}"#
            ))
            .unwrap()
        };
        let seen = Seen::from_event("backup-1", &event("\"backup-1\"", "\"tcp\"")).unwrap();
        assert!(seen.egress && seen.from == "backup-1" && seen.to == "oms-1" && seen.port == 8080);
        assert_eq!(Some(seen), Seen::from_event("backup-1", &event("\"backup-1\"", "6")));
        assert_eq!(None, Seen::from_event("backup-1", &event("null", "6")));
        assert_eq!(None, Seen::from_event("backup-1", &event("\"backup-1\"", "1")));
        let line = event("null", "17").line("backup-1");
        assert!(line.contains("? → oms-1:8080/17") && line.ends_with("×2"), "{line}");
    }
}
