//! Entries of the tests section.

use super::definitions::attributes;
use super::fields::{complain, required};
use super::rules::{proto, selector};
use super::selector::Malformed;
use super::{Autogroup, Selector, Test, TestTarget, ports};
use crate::Dialect;
use crate::frontend::diagnostic::Diagnostic;
use crate::frontend::json::{Kind, Object, Reader, Value};
use crate::frontend::source::Spanned;
use crate::interval::Intervals;
use crate::service;

/// Tailscale's words before whatever is wrong with a test, in its dialect.
pub(crate) const FAILED: &str = "test(s) failed: ";

/// What is wrong with a destination of many addresses there.
pub(crate) const ONE_HOST: &str = "a test names one host, not a range";

/// One entry of tests.
pub(super) fn test(reader: &mut Reader<'_>, object: &Object<'_>, dialect: Dialect) -> Option<Test> {
    let known = reader.findings.0.len();
    let test = entry(reader, object, dialect);
    if dialect == Dialect::Tailscale {
        reader.findings.prefix_errors(known, FAILED);
    }
    test
}

fn entry(reader: &mut Reader<'_>, object: &Object<'_>, dialect: Dialect) -> Option<Test> {
    const KNOWN: [&str; 7] = ["src", "user", "proto", "accept", "allow", "deny", "srcPostureAttrs"];
    let (mut source, mut protocol) = (None, None);
    let (mut accept, mut deny) = (None, None);
    let (mut given, mut whole) = (None, true);
    for (name, property) in reader.fields(object, "a test", &KNOWN) {
        let value = &property.value;
        match name {
            "src" | "user" => source = reader.string(value, name),
            "proto" => protocol = reader.string(value, name),
            "accept" | "allow" => accept = Some((name, value)),
            "deny" => deny = Some((name, value)),
            _ => {
                given = attributes(reader, value, name);
                whole &= given.is_some();
            }
        }
    }
    let source = required(reader, object, source, "src", "the test")?;
    let source = selector(reader, &source.value, source.span, dialect);
    let number = proto(reader, protocol.as_ref(), dialect)?;
    let portless = number.is_some_and(|number| !service::has_ports(number));
    let mut read = |field: Option<(&str, &Value<'_>)>| {
        field.map_or_else(Vec::new, |(name, value)| targets(reader, value, name, portless, dialect))
    };
    let targets = (read(accept), read(deny));
    match dialect {
        Dialect::Tailscale => {
            let is_empty = |field: Option<(&str, &Value<'_>)>| {
                field.is_none_or(|(_, value)| matches!(&value.kind, Kind::Array(list) if list.is_empty()))
            };
            if is_empty(accept) && is_empty(deny) {
                reader.error(object.span, "a test must have at least one of \"accept\" or \"deny\"");
            }
        }
        Dialect::Bulkhead
            if object.get("accept").or(object.get("allow")).or(object.get("deny")).is_none() =>
        {
            let message = "the test tests nothing: no accept, no deny";
            reader.findings.push(Diagnostic::warning(reader.source, object.span, message));
        }
        Dialect::Bulkhead => {}
    }
    if !whole {
        return None;
    }
    let (accept, deny) = targets;
    Some(Test { span: object.span, source: source?, attributes: given, protocol: number, accept, deny })
}

fn targets(
    reader: &mut Reader<'_>,
    value: &Value<'_>,
    name: &str,
    portless: bool,
    dialect: Dialect,
) -> Vec<TestTarget> {
    let words = reader.strings(value, name).unwrap_or_default();
    words.into_iter().filter_map(|word| target(reader, &word, portless, dialect)).collect()
}

/// A destination. For protocols without ports it names port 0.
fn target(
    reader: &mut Reader<'_>,
    word: &Spanned<String>,
    portless: bool,
    dialect: Dialect,
) -> Option<TestTarget> {
    let set = |port: &str| match (port, dialect) {
        ("0", _) if portless => Ok(Intervals::new(vec![(0, 0)])),
        (_, Dialect::Tailscale) if portless => {
            let problem = Malformed::new(format!("\"{}\": the protocol has no ports", word.value));
            Err(problem.help("write port 0"))
        }
        _ => ports::parse(port, dialect),
    };
    let parts = ports::split(&word.value).and_then(|(text, port)| Ok((text, set(port)?)));
    let (text, set) = match parts {
        Ok(parts) => parts,
        Err(problem) => {
            complain(reader, word.span, problem);
            return None;
        }
    };
    let port = match set.as_slice() {
        [(first, last)] if first == last => *first,
        _ => {
            reader.error(word.span, format!("\"{}\": a test names one port", word.value));
            return None;
        }
    };
    let selector = selector(reader, text, word.span, dialect)?;
    match &selector.value {
        Selector::Autogroup(Autogroup::Internet) if dialect == Dialect::Tailscale => {
            reader.error(word.span, "autogroup:internet not valid as a test destination");
        }
        Selector::Prefix(_) if text.contains('/') && dialect == Dialect::Tailscale => {
            reader.error(word.span, format!("\"{}\": {ONE_HOST}", word.value));
        }
        _ => return Some(TestTarget { selector, port }),
    }
    None
}
