//! Entries of acls, grants and tests.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::fields::{complain, required};
use super::record;
use super::selector::Malformed;
use super::{
    Action, Autogroup, Destination, Rates, Record, Rule, Section, Selector, Tls, capability, ports, tls,
};
use crate::Dialect;
use crate::frontend::diagnostic::Diagnostic;
use crate::frontend::json::{Kind, Object, Reader, Value};
use crate::frontend::source::{Span, Spanned};
use crate::interval::Intervals;

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

/// What acls and grants have in common.
#[derive(Default)]
struct Parts {
    name: Option<Spanned<String>>,
    action: Option<Spanned<String>>,
    sources: Option<Vec<Spanned<String>>>,
    destinations: Option<Vec<Spanned<String>>>,
    protocol: Option<Spanned<String>>,
    ip: Option<Vec<Spanned<String>>>,
    app: Option<Vec<Spanned<String>>>,
    posture: Vec<Spanned<String>>,
    via: Vec<Spanned<String>>,
    expires: Option<Spanned<u64>>,
    rates: Rates,
    /// Where a rate is given.
    limited: Option<Span>,
    tls: tls::Fields,
    record: Record,
}

impl Parts {
    /// The rule. What could not be read leaves a deny, which is said and never used.
    fn rule(
        self,
        span: Span,
        section: Section,
        action: Option<Action>,
        (sources, destinations): (Vec<Spanned<Selector>>, Vec<Destination>),
        tls: Option<Tls>,
    ) -> Rule {
        Rule {
            span,
            section,
            name: self.name,
            action: action.unwrap_or(Action::Deny),
            sources,
            destinations,
            posture: self.posture,
            via: self.via,
            expires: self.expires,
            rates: self.rates,
            tls,
            record: self.record,
            grant: None,
        }
    }
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
    const OURS: [&str; 4] = ["name", "expires", "maxPacketsPerSecond", "maxNewPerSecond"];
    let ours: &[&str] = if dialect == Dialect::Bulkhead { &OURS } else { &[] };
    let recorded: &[&str] = if dialect == Dialect::Bulkhead { &record::FIELDS } else { &[] };
    let begun: &[&str] = if dialect == Dialect::Bulkhead { &tls::FIELDS } else { &[] };
    let known: Vec<&str> = known.iter().chain(ours).chain(begun).chain(recorded).copied().collect();
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
            "app" => {
                if let Some(object) = reader.object(value, name) {
                    let names = object.members.iter();
                    let names = names.map(|member| Spanned::new(member.name.to_string(), member.span));
                    parts.app = Some(names.collect());
                }
            }
            "srcPosture" => whole &= narrowing(reader.strings(value, name), &mut parts.posture),
            "via" if matches!(value.kind, Kind::Null) => {}
            "via" => whole &= narrowing(reader.strings(value, name), &mut parts.via),
            "maxPacketsPerSecond" => {
                parts.rates.packets = rate(reader, value, name);
                parts.limited = Some(property.span);
            }
            "maxNewPerSecond" => {
                parts.rates.new_flows = rate(reader, value, name);
                parts.limited = Some(property.span);
            }
            name if tls::FIELDS.contains(&name) => parts.tls.read(reader, name, value, property.span),
            name if record::FIELDS.contains(&name) => parts.record.read(reader, name, value),
            _ => parts.expires = expires(reader, value),
        }
    }
    whole.then_some(parts)
}

/// A field that narrows a rule: one that cannot be read leaves no rule, not a wider one.
pub(super) fn narrowing(read: Option<Vec<Spanned<String>>>, into: &mut Vec<Spanned<String>>) -> bool {
    let whole = read.is_some();
    into.extend(read.unwrap_or_default());
    whole
}

/// How many a second: the tables count in whole nanoseconds between two.
pub(super) fn rate(reader: &mut Reader<'_>, value: &Value<'_>, what: &str) -> Option<u32> {
    const MOST: u32 = 1_000_000_000;
    let number = match &value.kind {
        Kind::Number(digits) => digits.parse().ok().filter(|number| (1..=MOST).contains(number)),
        _ => None,
    };
    if number.is_none() {
        let problem = Malformed::new(format!("{what} must be a whole number from 1 to {MOST}"))
            .help("leave it out for no limit");
        complain(reader, value.span, problem);
    }
    number
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

pub(super) fn selectors(
    reader: &mut Reader<'_>,
    words: &[Spanned<String>],
    dialect: Dialect,
) -> Vec<Spanned<Selector>> {
    words.iter().filter_map(|word| selector(reader, &word.value, word.span, dialect)).collect()
}

pub(super) fn selector(
    reader: &mut Reader<'_>,
    word: &str,
    span: Span,
    dialect: Dialect,
) -> Option<Spanned<Selector>> {
    match Selector::parse(word) {
        Ok(Selector::AnyTag) if dialect == Dialect::Tailscale => {
            complain(reader, span, Malformed::new("tag not found: \"tag:*\""));
            None
        }
        Ok(Selector::Spiffe(_)) if dialect == Dialect::Tailscale => {
            let problem = Malformed::new(format!("\"{word}\": Tailscale's language has no SPIFFE IDs"));
            complain(
                reader,
                span,
                problem.help("without --dialect tailscale they are workloads of the inventory"),
            );
            None
        }
        Ok(selector) => Some(Spanned::new(selector, span)),
        Err(problem) => {
            complain(reader, span, problem);
            None
        }
    }
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

pub(super) fn proto(
    reader: &mut Reader<'_>,
    text: Option<&Spanned<String>>,
    dialect: Dialect,
) -> Option<Option<u8>> {
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
    let mut parts = parts(reader, object, "a rule of acls", &KNOWN, dialect)?;
    required(reader, object, parts.action.as_ref(), "action", "the rule");
    let action = action(reader, parts.action.as_ref(), dialect);
    let legacy = object.get("users").is_some() || object.get("ports").is_some();
    let (src, dst) = if legacy { ("users", "ports") } else { ("src", "dst") };
    let sources = required(reader, object, parts.sources.take(), src, "the rule");
    let destinations = required(reader, object, parts.destinations.take(), dst, "the rule");
    let protocol = proto(reader, parts.protocol.as_ref(), dialect);
    let sources = selectors(reader, &sources.unwrap_or_default(), dialect);
    let destinations: Vec<Destination> = destinations
        .unwrap_or_default()
        .iter()
        .filter_map(|word| acl_destination(reader, word, protocol.flatten(), dialect))
        .collect();
    unconditional(reader, action, &parts);
    let tls = std::mem::take(&mut parts.tls).of_rule(reader, action, &destinations);
    Some(parts.rule(object.span, Section::Acls, action, (sources, destinations), tls))
}

/// A deny binds every device, however it is reached: one that held only for devices of a
/// posture would be escaped by not reporting it.
fn unconditional(reader: &mut Reader<'_>, action: Option<Action>, parts: &Parts) {
    if action != Some(Action::Deny) {
        return;
    }
    for (field, word) in [("srcPosture", parts.posture.first()), ("via", parts.via.first())] {
        if let Some(word) = word {
            let problem = Malformed::new(format!("a deny has no {field}"))
                .help("put an accept with it before a deny without it");
            complain(reader, word.span, problem);
        }
    }
    if let Some(span) = parts.limited {
        reader.error(span, "a deny has no rate: it admits nothing");
    }
}

/// The refusal of a destination's ports, in Tailscale's words in its dialect.
fn target_problem(mut problem: Malformed, word: &str, dialect: Dialect) -> Malformed {
    if dialect == Dialect::Tailscale {
        problem.message = format!("dst=\"{word}\": {}", problem.message);
    }
    problem
}

pub(super) fn acl_destination(
    reader: &mut Reader<'_>,
    word: &Spanned<String>,
    protocol: Option<u8>,
    dialect: Dialect,
) -> Option<Destination> {
    let parsed = ports::split(&word.value).and_then(|(selector, text)| {
        let set =
            ports::parse(text, dialect).map_err(|problem| target_problem(problem, &word.value, dialect))?;
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

/// One entry of grants. One of app capabilities only has no service: its names are checked, and
/// there is nothing to enforce.
pub(super) fn grant(reader: &mut Reader<'_>, object: &Object<'_>, dialect: Dialect) -> Option<Rule> {
    const KNOWN: [&str; 6] = ["src", "dst", "ip", "app", "srcPosture", "via"];
    let ours: &[&str] = if dialect == Dialect::Bulkhead { &["action"] } else { &[] };
    let known: Vec<&str> = KNOWN.iter().chain(ours).copied().collect();
    let mut parts = parts(reader, object, "a grant", &known, dialect)?;
    let action = match &parts.action {
        None => Some(Action::Accept),
        Some(_) => action(reader, parts.action.as_ref(), dialect),
    };
    let sources = required(reader, object, parts.sources.take(), "src", "the grant");
    let destinations = required(reader, object, parts.destinations.take(), "dst", "the grant");
    let some_app = parts.app.as_ref().is_some_and(|app| !app.is_empty());
    for capability in parts.app.iter().flatten() {
        capability::check(reader, capability, dialect);
    }
    match &parts.ip {
        // App capabilities are not ours to enforce.
        None if some_app => {}
        Some(ip) if !ip.is_empty() || some_app => {}
        _ => {
            let problem = Malformed::new("ip and app can not both be empty")
                .help("write \"ip\": [\"*\"] for every port");
            complain(reader, object.span, problem);
        }
    }
    let ip = parts.ip.take();
    let sources = selectors(reader, &sources.unwrap_or_default(), dialect);
    let targets = selectors(reader, &destinations.unwrap_or_default(), dialect);
    for target in &targets {
        grant_target(reader, target, some_app, dialect);
    }
    for tag in parts.via.iter().filter(|tag| !matches!(Selector::parse(&tag.value), Ok(Selector::Tag(_)))) {
        complain(reader, tag.span, Malformed::new("via can only be a tag").help("write tag:NAME"));
    }
    let ip = ip.unwrap_or_default();
    let services: Vec<Service> = ip.iter().filter_map(|word| service(reader, word, dialect)).collect();
    let destinations: Vec<Destination> =
        targets.into_iter().map(|selector| Destination { selector, services: services.clone() }).collect();
    unconditional(reader, action, &parts);
    let tls = std::mem::take(&mut parts.tls).of_rule(reader, action, &destinations);
    Some(parts.rule(object.span, Section::Grants, action, (sources, destinations), tls))
}

/// What only grants refuse.
fn grant_target(reader: &mut Reader<'_>, target: &Spanned<Selector>, app: bool, dialect: Dialect) {
    match &target.value {
        Selector::Autogroup(Autogroup::Internet) if app => {
            reader.error(target.span, "cannot use app grants with autogroup:internet");
        }
        Selector::Prefix(net) if net.prefix_len() == 0 && dialect == Dialect::Tailscale => {
            let message =
                format!("dst \"{net}\": to allow all IP addresses, use \"*\" or \"autogroup:internet\"");
            reader.error(target.span, message);
        }
        _ => {}
    }
}

fn service(reader: &mut Reader<'_>, word: &Spanned<String>, dialect: Dialect) -> Option<Service> {
    match ports::grant(&word.value, dialect) {
        Ok(service) => Some(service),
        Err(problem) => {
            complain(reader, word.span, problem);
            None
        }
    }
}
