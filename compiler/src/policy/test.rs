//! Entries of the tests section.

use super::definitions::{attributes, complain};
use super::rules::{proto, required, selector};
use super::target::Malformed;
use super::{Autogroup, Selector, Test, TestTarget, ports};
use crate::Dialect;
use crate::diagnostic::Diagnostic;
use crate::json::{Object, Reader, Value};
use crate::service::{SCTP, TCP, UDP};
use crate::source::{Span, Spanned};

/// Tailscale's words before whatever is wrong with a test.
const FAILED: &str = "test(s) failed";

/// One entry of tests.
pub(super) fn test(reader: &mut Reader<'_>, object: &Object<'_>, dialect: Dialect) -> Option<Test> {
    const KNOWN: [&str; 7] = ["src", "user", "proto", "accept", "allow", "deny", "srcPostureAttrs"];
    let (mut source, mut protocol) = (None, None);
    let (mut accept, mut deny) = (Vec::new(), Vec::new());
    let (mut given, mut whole) = (None, true);
    for (name, property) in reader.fields(object, "a test", &KNOWN) {
        let value = &property.value;
        match name {
            "src" | "user" => source = reader.string(value, name),
            "proto" => protocol = reader.string(value, name),
            "accept" | "allow" => accept = targets(reader, value, name, dialect),
            "deny" => deny = targets(reader, value, name, dialect),
            _ => {
                given = attributes(reader, value, name);
                whole &= given.is_some();
            }
        }
    }
    let source = required(reader, object, source, "src", "the test")?;
    let source = selector(reader, &source.value, source.span, dialect);
    let number = proto(reader, protocol.as_ref(), dialect)?;
    match dialect {
        Dialect::Tailscale => {
            tailscale_shape(reader, object, (&accept, &deny), protocol.as_ref().zip(number));
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
    Some(Test { span: object.span, source: source?, attributes: given, protocol: number, accept, deny })
}

fn tailscale_shape(
    reader: &mut Reader<'_>,
    object: &Object<'_>,
    (accept, deny): (&[TestTarget], &[TestTarget]),
    protocol: Option<(&Spanned<String>, u8)>,
) {
    let given = object.get("accept").or(object.get("allow")).or(object.get("deny")).is_some();
    if !given || (accept.is_empty() && deny.is_empty()) {
        let message = format!("{FAILED}: a test must have at least one of \"accept\" or \"deny\"");
        reader.error(object.span, message);
    }
    if let Some((text, number)) = protocol
        && ![TCP, UDP, SCTP].contains(&number)
    {
        reader.error(text.span, format!("{FAILED}: a test's protocol is tcp, udp, sctp, or none"));
    }
}

fn targets(reader: &mut Reader<'_>, value: &Value<'_>, name: &str, dialect: Dialect) -> Vec<TestTarget> {
    let words = reader.strings(value, name).unwrap_or_default();
    words.into_iter().filter_map(|word| target(reader, &word, dialect)).collect()
}

fn target(reader: &mut Reader<'_>, word: &Spanned<String>, dialect: Dialect) -> Option<TestTarget> {
    let refuse = |reader: &mut Reader<'_>, span: Span, mut problem: Malformed| {
        if dialect == Dialect::Tailscale {
            problem.message = format!("{FAILED}: {}", problem.message);
        }
        complain(reader, span, problem);
    };
    let (text, set) = match ports::split(&word.value).and_then(|(text, port)| Ok((text, ports::parse(port)?)))
    {
        Ok(parts) => parts,
        Err(problem) => {
            refuse(reader, word.span, problem);
            return None;
        }
    };
    let port = match set.as_slice() {
        [(first, last)] if first == last => *first,
        _ => {
            let message = format!("\"{}\": a test names one port", word.value);
            refuse(reader, word.span, Malformed::new(message));
            return None;
        }
    };
    let selector = selector(reader, text, word.span, dialect)?;
    match &selector.value {
        Selector::Autogroup(Autogroup::Internet) if dialect == Dialect::Tailscale => {
            let message = "autogroup:internet not valid as a test destination";
            refuse(reader, word.span, Malformed::new(message));
        }
        Selector::Prefix(_) if text.contains('/') && dialect == Dialect::Tailscale => {
            let message = format!("\"{}\": a test names one host, not a range", word.value);
            refuse(reader, word.span, Malformed::new(message));
        }
        _ => return Some(TestTarget { selector, port }),
    }
    None
}
