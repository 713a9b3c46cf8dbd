//! Grants that run, as a section of the policy that they run under.
//!
//! They stand behind the last section, so that no place of the file moves, and are taken out again to the byte.

use serde_json::json;

use crate::frontend::diagnostic::Findings;
use crate::frontend::json::{self, Kind, Object};
use crate::frontend::source::Source;

/// The section.
const SECTION: &str = "granted";

/// One grant, as the agent has verified it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// Its id.
    pub id: String,
    /// Who begins: a selector.
    pub source: String,
    /// To whom: `SELECTOR:PORTS`.
    pub destination: String,
    /// The protocol, by name or number.
    pub protocol: String,
    /// Its end, RFC 3339.
    pub expires: String,
    /// Where it was asked for.
    pub ticket: String,
    /// What for.
    pub reason: String,
    /// Who has asked.
    pub requester: String,
    /// Who has approved.
    pub approvers: Vec<String>,
    /// It was an emergency.
    pub break_glass: bool,
}

/// A policy with these grants in place of those that it has. What is no object stays as it is.
#[must_use]
pub fn compose(policy: &Source, running: &[Running]) -> Source {
    let base = without(policy).unwrap_or_else(|| policy.clone());
    if running.is_empty() {
        return base;
    }
    let text = base.text();
    let Some((at, begin)) = place(&base) else { return base };
    let entries: Vec<String> = running.iter().map(|running| entry(running).to_string()).collect();
    let (before, after) = text.split_at(at);
    Source::new(base.name(), &format!("{before}{begin}\"{SECTION}\": [\n{}\n]{after}", entries.join(",\n")))
}

/// A policy without the section; none: it has none.
#[must_use]
pub fn without(policy: &Source) -> Option<Source> {
    let text = policy.text();
    let found = object(policy, |object| {
        let found = object.members.iter().find(|member| member.name.eq_ignore_ascii_case(SECTION));
        found.map(|member| (member.span.start, member.value.span.end))
    });
    let (start, end) = found??;
    let before = &text[..start];
    let before = before.strip_suffix("\n,").or_else(|| before.strip_suffix('\n')).unwrap_or(before);
    Some(Source::new(policy.name(), &format!("{before}{}", &text[end..])))
}

fn entry(running: &Running) -> serde_json::Value {
    let Running { id, source, destination, protocol, expires, ticket, reason, requester, .. } = running;
    let mut entry = json!({
        "id": id, "src": [source], "dst": [destination], "proto": protocol, "expires": expires, "ticket": ticket,
        "reason": reason, "requester": requester, "approvers": running.approvers,
    });
    if running.break_glass {
        entry["breakGlass"] = true.into();
    }
    entry
}

fn object<T>(source: &Source, ask: impl FnOnce(&Object<'_>) -> T) -> Option<T> {
    match json::value(source, &mut Findings::default())?.kind {
        Kind::Object(object) => Some(ask(&object)),
        _ => None,
    }
}

/// Where the section goes, and what comes before it there.
fn place(source: &Source) -> Option<(usize, &'static str)> {
    let text = source.text();
    let end = object(source, |object| match object.members.last() {
        Some(member) => (member.value.span.end, true),
        None => (object.span.start + 1, false),
    });
    match end? {
        (at, false) => Some((at, "")),
        (at, true) => Some(match at + blank(&text[at..]) {
            comma if text[comma..].starts_with(',') => (comma + 1, "\n"),
            _ => (at, "\n,"),
        }),
    }
}

/// The length of white space and comments that a text begins with.
fn blank(text: &str) -> usize {
    let mut rest = text;
    loop {
        let trimmed = rest.trim_start();
        let after = if let Some(line) = trimmed.strip_prefix("//") {
            line.split_once('\n').map_or("", |(_, after)| after)
        } else if let Some(comment) = trimmed.strip_prefix("/*") {
            comment.split_once("*/").map_or("", |(_, after)| after)
        } else {
            return text.len() - trimmed.len();
        };
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::{Running, compose, without};
    use crate::Dialect;
    use crate::frontend::diagnostic::Findings;
    use crate::frontend::policy::parse;
    use crate::frontend::source::Source;

    fn running(id: char) -> Running {
        Running {
            id: id.to_string().repeat(32),
            source: "tag:sre".to_owned(),
            destination: "tag:db:22".to_owned(),
            protocol: "tcp".to_owned(),
            expires: "2026-12-01T00:00:00Z".to_owned(),
            ticket: "OPS-\"1\"".to_owned(),
            reason: "a // reason, }".to_owned(),
            requester: "alice".to_owned(),
            approvers: vec!["bob".to_owned(), "carol".to_owned()],
            break_glass: id == 'b',
        }
    }

    #[test]
    fn grants_are_put_in_and_taken_out_to_the_byte() {
        for text in [
            "{}",
            "{ // nothing\n}",
            "{\"acls\": []}",
            "{\"acls\": [],}",
            "{\n  \"acls\": [], // the last\n}\n",
            "{\n  \"acls\": [] // no comma, here\n}\n// end\n",
            "{\n  \"acls\": [] /* , */ , /* after */\n}\n",
        ] {
            let policy = Source::new("p", text);
            assert!(without(&policy).is_none(), "{text}");
            let one = compose(&policy, &[running('a')]);
            let two = compose(&one, &[running('a'), running('b')]);
            let mut findings = Findings::default();
            let read = parse(&two, Dialect::Bulkhead, &mut findings).unwrap();
            assert!(!findings.has_errors(), "{}: {:?}", two.text(), findings.0);
            assert_eq!(read.granted.len(), 2, "{}", two.text());
            let grant = read.granted[1].grant.as_ref().unwrap();
            assert_eq!(
                (grant.requester.as_str(), grant.approvers.len(), grant.break_glass),
                ("alice", 2, true)
            );
            assert_eq!(read.granted[0].record.ticket.as_deref(), Some("OPS-\"1\""));
            for with in [&one, &two] {
                assert_eq!(without(with).unwrap().text(), text);
                assert_eq!(compose(with, &[]).text(), text);
            }
        }
        // What is no policy is left to whoever reads it.
        assert_eq!(compose(&Source::new("p", "[1"), &[running('a')]).text(), "[1");
    }
}
