//! Syslog messages (RFC 5424), and their framing on streams.
//!
//! The message is a line of JSON. Structured data has what a collector filters by without reading JSON.

use std::fmt::Write as _;

use bulkhead_api::event::Kind;

use crate::{Exported, Format, PRODUCT};

/// Facility 13: log audit.
const FACILITY: u8 = 13;

/// The longest HOSTNAME, bytes.
const LONGEST_HOST: usize = 255;

/// The SD-ID of what is not registered. 32473 is the number that IANA keeps for examples (RFC 5612): this project
/// has none of its own.
const OWN: &str = "bulkhead@32473";

/// A message, without framing: what a datagram holds.
#[must_use]
pub fn message(exported: &Exported, format: Format) -> Vec<u8> {
    let priority = FACILITY * 8 + exported.severity().syslog();
    let mut head = format!("<{priority}>1 ");
    match exported.record() {
        Some(record) => {
            // TIME-SECFRAC has six digits at most.
            let time = record.event.time.to_string();
            let _ = write!(head, "{}Z {}", &time[..time.len() - 4], host(&record.host));
        }
        None => head.push_str("- -"),
    }
    let _ = write!(head, " {PRODUCT} - {} {} ", exported.kind(), structured(exported));
    let mut message = head.into_bytes();
    message.extend(exported.line(format));
    message
}

/// A message on a stream: octet counting (RFC 6587, 3.4.1; RFC 5425, 4.3).
#[must_use]
pub fn framed(exported: &Exported, format: Format) -> Vec<u8> {
    let message = message(exported, format);
    let mut framed = format!("{} ", message.len()).into_bytes();
    framed.extend(message);
    framed
}

/// PRINTUSASCII, or `-`.
fn host(name: &str) -> String {
    let printable = name.chars().filter(char::is_ascii_graphic).take(LONGEST_HOST);
    let name: String = printable.collect();
    if name.is_empty() { "-".to_owned() } else { name }
}

fn structured(exported: &Exported) -> String {
    // 1 to 2147483647, and 1 again.
    let sequence = exported.sequence % 2_147_483_647 + 1;
    let mut data = format!(r#"[meta sequenceId="{sequence}"]"#);
    let version = env!("CARGO_PKG_VERSION");
    let _ = write!(data, r#"[origin software="{PRODUCT}" swVersion="{version}"]"#);
    if let Some(record) = exported.record() {
        let clock = &record.clock;
        let _ = write!(data, r#"[timeQuality tzKnown="1" isSynced="{}""#, u8::from(clock.synchronized));
        if clock.synchronized {
            // Microseconds.
            let _ = write!(data, r#" syncAccuracy="{}""#, clock.error.unsigned_abs() / 1000);
        }
        data.push(']');
    }
    let _ = write!(data, "[{OWN}");
    for (name, value) in parameters(exported) {
        let _ = write!(data, " {name}=\"{}\"", escaped(&value));
    }
    data.push(']');
    data
}

/// What to filter by.
fn parameters(exported: &Exported) -> Vec<(&'static str, String)> {
    let mut parameters = vec![("uid", exported.uid())];
    let Some(record) = exported.record() else { return parameters };
    let (drop, audit) = match &record.event.kind {
        Kind::Drop(drop) => (&**drop, drop.audit),
        Kind::WouldDiffer(differs) => (&differs.staged, differs.staged.audit),
        Kind::Allowed(allowed) => (&allowed.first, false),
        Kind::Control(control) => {
            parameters.push(("action", control.action.name().to_owned()));
            parameters.push(("outcome", control.outcome.name().to_owned()));
            return parameters;
        }
        _ => return parameters,
    };
    let mut add = |name, value: Option<String>| parameters.extend(value.map(|value| (name, value)));
    add("direction", Some(drop.direction.name().to_owned()));
    add("reason", Some(drop.reason.to_string()));
    for (name, address, end) in [("src", "src_ip", &drop.source), ("dst", "dst_ip", &drop.destination)] {
        add(name, end.as_ref().and_then(|end| end.name.clone()));
        add(address, end.as_ref().map(|end| end.address.to_string()));
    }
    add("dst_port", drop.destination_port.map(|port| port.to_string()));
    add("proto", drop.protocol.map(|protocol| protocol.to_string()));
    add("rule", drop.rule.as_ref().map(|rule| rule.number.to_string()));
    add("count", Some(drop.count.to_string()));
    add("audit", audit.then(|| "1".to_owned()));
    parameters
}

/// PARAM-VALUE: `"`, `\` and `]` must be escaped, and a control character has no business there.
fn escaped(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for character in value.chars() {
        if matches!(character, '"' | '\\' | ']') {
            escaped.push('\\');
        }
        escaped.push(if character.is_control() { '?' } else { character });
    }
    escaped
}
