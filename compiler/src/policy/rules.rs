//! Entries of acls, grants and tests.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::target::Malformed;
use super::{Action, Destination, Rule, Selector, Test, TestTarget, ports};
use crate::Dialect;
use crate::diagnostic::Diagnostic;
use crate::interval::Intervals;
use crate::json::{Kind, Member, Object, Reader, Value};
use crate::source::{Span, Spanned};

type Service = (Option<u8>, Intervals<u16>);

/// A list of objects, each read by `read`.
pub(super) fn list<T>(
    reader: &mut Reader<'_>,
    value: &Value<'_>,
    section: &str,
    read: impl Fn(&mut Reader<'_>, &Object<'_>) -> Option<T>,
) -> Option<Vec<T>> {
    let elements = reader.array(value, section)?;
    let what = format!("each entry of {section}");
    let mut all = Vec::new();
    for element in elements {
        if let Some(object) = reader.object(element, &what) {
            all.extend(read(reader, object));
        }
    }
    Some(all)
}

fn complain(reader: &mut Reader<'_>, span: Span, problem: Malformed) {
    reader.findings.push(Diagnostic::error(reader.source, span, problem.message).maybe_help(problem.help));
}

/// What acls and grants have in common.
#[derive(Default)]
struct Parts {
    name: Option<Spanned<String>>,
    action: Option<Spanned<String>>,
    sources: Option<Vec<Spanned<String>>>,
    destinations: Option<Vec<Spanned<String>>>,
    protocol: Option<Spanned<String>>,
    ip: Option<Vec<Spanned<String>>>,
    app: bool,
    expires: Option<Spanned<u64>>,
}

/// Reads the fields of a rule. `None` if one of them makes the rule mean something else than
/// what we would enforce.
fn parts(
    reader: &mut Reader<'_>,
    object: &Object<'_>,
    what: &str,
    known: &[&str],
    dialect: Dialect,
) -> Option<Parts> {
    let ours: &[&str] = if dialect == Dialect::Bulkhead { &["name", "expires"] } else { &[] };
    let known: Vec<&str> = known.iter().chain(ours).copied().collect();
    let mut parts = Parts::default();
    let mut whole = true;
    for (name, property) in reader.fields(object, what, &known) {
        let value = &property.value;
        match name {
            "name" => parts.name = reader.string(value, "name"),
            "action" => parts.action = reader.string(value, "action"),
            // Tailscale's first names for src and dst, still accepted.
            "src" | "users" if parts.sources.is_none() => parts.sources = reader.strings(value, name),
            "dst" | "ports" if parts.destinations.is_none() => {
                parts.destinations = reader.strings(value, name);
            }
            "src" | "users" | "dst" | "ports" => {
                let both = if matches!(name, "src" | "users") { "src and users" } else { "dst and ports" };
                reader.error(property.span, format!("{both} are the same field: give one"));
            }
            "proto" => parts.protocol = reader.string(value, "proto"),
            "ip" => parts.ip = reader.strings(value, "ip"),
            "app" => parts.app = reader.object(value, "app").is_some(),
            "expires" => parts.expires = expires(reader, value),
            _ => whole &= unsupported(reader, name, property),
        }
    }
    whole.then_some(parts)
}

/// A field that narrows a rule and that is not supported: dropping it would admit more.
/// An empty one narrows nothing.
fn unsupported(reader: &mut Reader<'_>, name: &str, property: &Member<'_>) -> bool {
    if matches!(&property.value.kind, Kind::Array(elements) if elements.is_empty()) {
        return true;
    }
    reader.error(property.span, format!("\"{name}\" is not supported: leaving it out could admit more"));
    false
}

/// A time as RFC 3339, in ns since the Unix epoch.
pub(crate) fn expires(reader: &mut Reader<'_>, value: &Value<'_>) -> Option<Spanned<u64>> {
    let text = reader.string(value, "expires")?;
    let time = OffsetDateTime::parse(&text.value, &Rfc3339).ok();
    let nanoseconds = time.and_then(|time| u64::try_from(time.unix_timestamp_nanos()).ok());
    match nanoseconds {
        Some(nanoseconds) => Some(Spanned::new(nanoseconds, text.span)),
        None => {
            let error = Diagnostic::error(
                reader.source,
                text.span,
                format!("\"{}\" is no time that can be", text.value),
            );
            reader.findings.push(error.help("write RFC 3339 with a time zone: 2026-12-01T00:00:00Z"));
            None
        }
    }
}

fn selectors(reader: &mut Reader<'_>, words: &[Spanned<String>], dialect: Dialect) -> Vec<Spanned<Selector>> {
    words.iter().filter_map(|word| selector(reader, &word.value, word.span, dialect)).collect()
}

fn selector(reader: &mut Reader<'_>, word: &str, span: Span, dialect: Dialect) -> Option<Spanned<Selector>> {
    match Selector::parse(word) {
        Ok(Selector::AnyTag) if dialect == Dialect::Tailscale => {
            complain(reader, span, Malformed::new("tag not found: \"tag:*\""));
            None
        }
        Ok(selector) => Some(Spanned::new(selector, span)),
        Err(problem) => {
            complain(reader, span, problem);
            None
        }
    }
}

fn required<T>(
    reader: &mut Reader<'_>,
    object: &Object<'_>,
    field: Option<T>,
    name: &str,
    what: &str,
) -> Option<T> {
    // A field of the wrong type was complained about already.
    if field.is_none() && object.get(name).is_none() {
        reader.error(object.span, format!("{what} has no \"{name}\""));
    }
    field
}

fn action(reader: &mut Reader<'_>, action: Option<&Spanned<String>>, dialect: Dialect) -> Option<Action> {
    match (action.map(|action| action.value.as_str()), dialect) {
        (Some("accept"), _) => Some(Action::Accept),
        (Some("deny"), Dialect::Bulkhead) => Some(Action::Deny),
        (Some(other), Dialect::Tailscale) => {
            reader.error(action?.span, format!("action=\"{other}\" is not supported"));
            None
        }
        (Some(other), Dialect::Bulkhead) => {
            let problem =
                Malformed::new(format!("unknown action \"{other}\"")).help("an action is accept or deny");
            complain(reader, action?.span, problem);
            None
        }
        (None, _) => None,
    }
}

fn proto(reader: &mut Reader<'_>, text: Option<&Spanned<String>>, dialect: Dialect) -> Option<Option<u8>> {
    let Some(text) = text.filter(|text| !text.value.is_empty()) else { return Some(None) };
    match ports::protocol(&text.value, dialect == Dialect::Bulkhead) {
        Ok(number) => Some(Some(number)),
        Err(problem) => {
            complain(reader, text.span, problem);
            None
        }
    }
}

/// One entry of acls. What is wrong with it is said; the rest of it still comes back, so that
/// resolving it can find more.
pub(super) fn acl(reader: &mut Reader<'_>, object: &Object<'_>, dialect: Dialect) -> Option<Rule> {
    const KNOWN: [&str; 7] = ["action", "src", "dst", "proto", "users", "ports", "srcPosture"];
    let parts = parts(reader, object, "a rule of acls", &KNOWN, dialect)?;
    required(reader, object, parts.action.as_ref(), "action", "the rule");
    let action = action(reader, parts.action.as_ref(), dialect);
    let legacy = object.get("users").is_some() || object.get("ports").is_some();
    let (src, dst) = if legacy { ("users", "ports") } else { ("src", "dst") };
    let sources = required(reader, object, parts.sources, src, "the rule");
    let destinations = required(reader, object, parts.destinations, dst, "the rule");
    let protocol = proto(reader, parts.protocol.as_ref(), dialect);
    let sources = selectors(reader, &sources.unwrap_or_default(), dialect);
    let destinations = destinations
        .unwrap_or_default()
        .iter()
        .filter_map(|word| acl_destination(reader, word, protocol.flatten(), dialect))
        .collect();
    let span = object.span;
    Some(Rule {
        span,
        name: parts.name,
        action: action.unwrap_or(Action::Deny),
        sources,
        destinations,
        expires: parts.expires,
    })
}

/// The refusal of a destination's ports, in Tailscale's words in its dialect.
fn target_problem(mut problem: Malformed, word: &str, dialect: Dialect) -> Malformed {
    if dialect == Dialect::Tailscale {
        problem.message = format!("dst=\"{word}\": {}", problem.message);
    }
    problem
}

fn acl_destination(
    reader: &mut Reader<'_>,
    word: &Spanned<String>,
    protocol: Option<u8>,
    dialect: Dialect,
) -> Option<Destination> {
    let parsed = ports::split(&word.value).and_then(|(selector, text)| {
        let set = ports::parse(text).map_err(|problem| target_problem(problem, &word.value, dialect))?;
        ports::portless(protocol, &set)?;
        Ok((selector, set))
    });
    match parsed {
        Ok((text, set)) => {
            let selector = selector(reader, text, word.span, dialect)?;
            Some(Destination { selector, services: vec![(protocol, set)] })
        }
        Err(problem) => {
            let forgotten = Selector::parse(&word.value).is_ok();
            let help = forgotten.then(|| format!("write \"{}:*\" for all ports", word.value));
            complain(reader, word.span, Malformed { help: help.or(problem.help), ..problem });
            None
        }
    }
}

/// One entry of grants. `None` also for a grant of app capabilities only.
pub(super) fn grant(reader: &mut Reader<'_>, object: &Object<'_>, dialect: Dialect) -> Option<Rule> {
    const KNOWN: [&str; 6] = ["src", "dst", "ip", "app", "srcPosture", "via"];
    let ours: &[&str] = if dialect == Dialect::Bulkhead { &["action"] } else { &[] };
    let known: Vec<&str> = KNOWN.iter().chain(ours).copied().collect();
    let parts = parts(reader, object, "a grant", &known, dialect)?;
    let action = match &parts.action {
        None => Some(Action::Accept),
        Some(_) => action(reader, parts.action.as_ref(), dialect),
    };
    let sources = required(reader, object, parts.sources, "src", "the grant");
    let destinations = required(reader, object, parts.destinations, "dst", "the grant");
    if parts.ip.is_none() && parts.app {
        return None;
    }
    let ip = required(reader, object, parts.ip, "ip", "the grant");
    let sources = selectors(reader, &sources.unwrap_or_default(), dialect);
    let targets = selectors(reader, &destinations.unwrap_or_default(), dialect);
    let ip = ip.unwrap_or_default();
    let services: Vec<Service> = ip.iter().filter_map(|word| service(reader, word, dialect)).collect();
    let destinations =
        targets.into_iter().map(|selector| Destination { selector, services: services.clone() }).collect();
    let span = object.span;
    Some(Rule {
        span,
        name: parts.name,
        action: action.unwrap_or(Action::Deny),
        sources,
        destinations,
        expires: parts.expires,
    })
}

fn service(reader: &mut Reader<'_>, word: &Spanned<String>, dialect: Dialect) -> Option<Service> {
    match ports::grant(&word.value, dialect == Dialect::Bulkhead) {
        Ok(service) => Some(service),
        Err(problem) => {
            complain(reader, word.span, problem);
            None
        }
    }
}

/// One entry of tests.
pub(super) fn test(reader: &mut Reader<'_>, object: &Object<'_>, dialect: Dialect) -> Option<Test> {
    const KNOWN: [&str; 7] = ["src", "user", "proto", "accept", "allow", "deny", "srcPostureAttrs"];
    let (mut source, mut protocol, mut accept, mut deny) = (None, None, Vec::new(), Vec::new());
    let mut whole = true;
    for (name, property) in reader.fields(object, "a test", &KNOWN) {
        let value = &property.value;
        match name {
            "src" | "user" => source = reader.string(value, name),
            "proto" => protocol = reader.string(value, name),
            "accept" | "allow" => accept = targets(reader, value, name, dialect),
            "deny" => deny = targets(reader, value, name, dialect),
            _ => whole &= unsupported(reader, name, property),
        }
    }
    let source = required(reader, object, source, "src", "the test")?;
    let source = selector(reader, &source.value, source.span, dialect);
    let protocol = proto(reader, protocol.as_ref(), dialect)?;
    let span = object.span;
    if accept.is_empty() && deny.is_empty() {
        let warning = Diagnostic::warning(reader.source, span, "the test tests nothing: no accept, no deny");
        reader.findings.push(warning);
    }
    if !whole {
        return None;
    }
    Some(Test { span, source: source?, protocol, accept, deny })
}

fn targets(reader: &mut Reader<'_>, value: &Value<'_>, name: &str, dialect: Dialect) -> Vec<TestTarget> {
    let Some(words) = reader.strings(value, name) else { return Vec::new() };
    let mut all = Vec::new();
    for word in words {
        match ports::split(&word.value).and_then(|(text, port)| Ok((text, ports::parse(port)?))) {
            Ok((text, set)) => match set.as_slice() {
                [(first, last)] if first == last => {
                    if let Some(selector) = selector(reader, text, word.span, dialect) {
                        all.push(TestTarget { selector, port: *first });
                    }
                }
                _ => reader.error(word.span, format!("\"{}\": a test names one port", word.value)),
            },
            Err(problem) => complain(reader, word.span, problem),
        }
    }
    all
}
