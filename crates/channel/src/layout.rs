//! What is where at the broker: streams, subjects, names.

use serde_json::{Value, json};

/// The stream of a fleet's files.
pub const FILES: &str = "BULKHEAD_FLEET";

/// Which subjects it has.
pub(crate) const FILES_SUBJECTS: &str = "fleet.files.>";

/// Where the head is stored: what files there are now.
pub(crate) const HEAD: &str = "fleet.files.head";

/// Where the server says it again once it is stored, to whoever listens.
pub const NEWS: &str = "fleet.head";

/// The stream of hosts' evidence.
pub const EVENTS: &str = "BULKHEAD_EVENTS";

/// The stream of enrolments: which invitation was used by which key.
pub const ENROLMENTS: &str = "BULKHEAD_ENROLMENTS";

/// Where a part of a stored thing is; `of` is its digest, or two of them.
pub(crate) fn part(of: &str, number: u32) -> String {
    format!("fleet.files.parts.{of}.{number}")
}

/// Where all parts of a stored thing are.
pub(crate) fn parts(of: &str) -> String {
    format!("fleet.files.parts.{of}.*")
}

/// Where a host's evidence goes.
#[must_use]
pub fn events_of(token: &str) -> String {
    format!("ev.{token}")
}

/// Where all invitations are used.
pub(crate) const INVITED: &str = "enrol.*";

/// Where an invitation is used.
pub(crate) fn enrol(id: &str) -> String {
    format!("enrol.{id}")
}

/// Where it is recorded who has used an invitation.
pub(crate) fn used(id: &str) -> String {
    format!("enrolled.invitation.{id}")
}

/// Where it is recorded which key a node has.
pub(crate) fn enrolled(token: &str) -> String {
    format!("enrolled.node.{token}")
}

/// What answers to somebody begin with. Nobody may listen to another's.
pub(crate) fn inbox(token: &str) -> String {
    format!("_INBOX_{token}")
}

/// A node's name as one word of a subject. Letters, digits, `-` and `_` stay, any other byte becomes `=` and two
/// hexadecimal digits, so no two nodes have the same, and none is a pattern.
#[must_use]
pub fn token(node: &str) -> String {
    let mut token = String::with_capacity(node.len());
    for byte in node.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_".contains(&byte) {
            token.push(byte.into());
        } else {
            token.push_str(&format!("={byte:02x}"));
        }
    }
    token
}

/// Whether a name is one word of a subject, and no pattern.
pub(crate) fn is_token(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_=".contains(&byte);
    !name.is_empty() && name.len() <= 512 && name.bytes().all(fits)
}

/// Batches of one host that are kept, the newest; a host that means harm pushes out its own alone. A busy host makes one
/// a second, so this is for how long the collector may be away: over an hour.
const MOST_BATCHES: i64 = 4_096;

/// For how long they are kept, in nanoseconds: 30 days.
const OLDEST_BATCH: i64 = 30 * 24 * 60 * 60 * 1_000_000_000;

/// No batch is longer, in bytes.
const LONGEST_BATCH: i64 = 1_000_000;

/// The streams as they are to be, with so many copies.
pub(crate) fn streams(copies: u8) -> [(&'static str, Value); 3] {
    let stream = |name: &str, subjects: &str, more: Value| {
        let mut stream = json!({
            "name": name, "subjects": [subjects], "num_replicas": copies, "retention": "limits", "storage": "file",
            "discard": "old", "max_consumers": -1, "max_msgs": -1, "max_bytes": -1, "max_age": 0, "max_msg_size": -1,
            "allow_direct": true,
        });
        if let (Some(stream), Some(more)) = (stream.as_object_mut(), more.as_object()) {
            stream.extend(more.clone());
        }
        stream
    };
    [
        (
            FILES,
            stream(
                FILES,
                FILES_SUBJECTS,
                json!({ "max_msgs_per_subject": 1, "republish": { "src": HEAD, "dest": NEWS } }),
            ),
        ),
        (
            EVENTS,
            stream(
                EVENTS,
                "ev.*",
                json!({
                    "deny_delete": true, "deny_purge": true, "max_msgs_per_subject": MOST_BATCHES,
                    "max_age": OLDEST_BATCH, "max_msg_size": LONGEST_BATCH,
                }),
            ),
        ),
        (
            ENROLMENTS,
            stream(
                ENROLMENTS,
                "enrolled.*.*",
                json!({ "deny_delete": true, "deny_purge": true, "max_msgs_per_subject": 1 }),
            ),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::{is_token, token};

    #[test]
    fn tokens_tell_nodes_apart_and_are_no_patterns() {
        let nodes = ["oms-9", "oms.9", "oms=2e9", "oms 9", "*", ">", "a.>", "ü", "OMS-9", "oms_9"];
        let tokens: Vec<String> = nodes.iter().map(|node| token(node)).collect();
        assert_eq!(tokens[..5], ["oms-9", "oms=2e9", "oms=3d2e9", "oms=209", "=2a"]);
        for (at, token) in tokens.iter().enumerate() {
            assert!(is_token(token), "{token}");
            assert!(!tokens[..at].contains(token), "{token}");
        }
        assert!(!is_token("a.b") && !is_token("") && !is_token("*"));
    }
}
