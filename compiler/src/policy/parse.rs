//! The sections of a policy file.

use super::rules;
use super::target::prefix;
use super::{Policy, Selector};
use crate::Dialect;
use crate::diagnostic::{Diagnostic, Findings};
use crate::json::{self, Object, Reader, Value};
use crate::source::{Source, Spanned};

/// A section that is Tailscale's and not ours to enforce, and the shape it must have.
#[derive(Clone, Copy)]
enum Shape {
    Object,
    List,
    Boolean,
    Text,
}

const NOT_ENFORCED: [(&str, Shape); 9] = [
    ("ssh", Shape::List),
    ("sshTests", Shape::List),
    ("nodeAttrs", Shape::List),
    ("autoApprovers", Shape::Object),
    ("derpMap", Shape::Object),
    ("disableIPv4", Shape::Boolean),
    ("randomizeClientPort", Shape::Boolean),
    ("OneCGNATRoute", Shape::Text),
    ("extraDNSRecords", Shape::List),
];

/// Sections that narrow or redefine what rules mean. Leaving one out would admit more than
/// the file says, so a file that has one is refused.
const UNSUPPORTED: [&str; 3] = ["ipsets", "postures", "defaultSrcPosture"];

const SECTIONS: [&str; 6] = ["acls", "grants", "groups", "tagOwners", "hosts", "tests"];

/// Reads a policy file. What is wrong with it goes to `findings`; a policy comes back whenever
/// the text is an object, so that resolving it can find more.
pub fn parse(source: &Source, dialect: Dialect, findings: &mut Findings) -> Option<Policy> {
    json::parse(source, findings, "a policy", |reader, object| policy(reader, object, dialect))
}

fn policy(reader: &mut Reader<'_>, object: &Object<'_>, dialect: Dialect) -> Policy {
    let mut policy = Policy {
        source: reader.source.clone(),
        acls: None,
        grants: None,
        groups: Vec::new(),
        tag_owners: Vec::new(),
        hosts: Vec::new(),
        tests: Vec::new(),
        not_enforced: Vec::new(),
    };
    let known: Vec<&str> =
        SECTIONS.into_iter().chain(NOT_ENFORCED.map(|(name, _)| name)).chain(UNSUPPORTED).collect();
    for (name, property) in reader.fields(object, "a policy", &known) {
        let value = &property.value;
        match name {
            "acls" => policy.acls = rules::list(reader, value, "acls", |r, v| rules::acl(r, v, dialect)),
            "grants" => {
                policy.grants = rules::list(reader, value, "grants", |r, v| rules::grant(r, v, dialect));
            }
            "tests" => {
                policy.tests = rules::list(reader, value, "tests", |r, v| rules::test(r, v, dialect))
                    .unwrap_or_default();
            }
            "groups" => policy.groups = members(reader, value, "groups", "group:"),
            "tagOwners" => policy.tag_owners = members(reader, value, "tagOwners", "tag:"),
            "hosts" => policy.hosts = hosts(reader, value),
            unsupported if UNSUPPORTED.contains(&unsupported) => {
                let message = format!("\"{unsupported}\" is not supported: leaving it out could admit more");
                reader.error(property.span, message);
            }
            other => {
                let shape = NOT_ENFORCED.iter().find(|(name, _)| *name == other).map(|(_, shape)| *shape);
                shape_check(reader, other, value, shape);
                policy.not_enforced.push(Spanned::new(other.to_string(), property.span));
            }
        }
    }
    policy
}

fn shape_check(reader: &mut Reader<'_>, name: &str, value: &Value<'_>, shape: Option<Shape>) {
    match shape {
        Some(Shape::Object) => drop(reader.object(value, name).map(|_| ())),
        Some(Shape::List) => drop(reader.array(value, name).map(|_| ())),
        Some(Shape::Boolean) => drop(reader.boolean(value, name)),
        Some(Shape::Text) => drop(reader.string(value, name)),
        None => {}
    }
}

/// A map from names with a prefix to lists of strings.
fn members(
    reader: &mut Reader<'_>,
    value: &Value<'_>,
    section: &str,
    prefix: &str,
) -> Vec<(Spanned<String>, Vec<Spanned<String>>)> {
    let Some(object) = reader.object(value, section) else { return Vec::new() };
    let mut all = Vec::new();
    for (name, property) in reader.entries(object) {
        let span = property.span;
        let bare = name.strip_prefix(prefix);
        if bare.is_none_or(|bare| bare.is_empty() || bare == "*") {
            let error =
                Diagnostic::error(reader.source, span, format!("\"{name}\" is no name for {section}"))
                    .help(format!("names in {section} are {prefix}NAME"));
            reader.findings.push(error);
            continue;
        }
        let what = format!("\"{name}\"");
        if let Some(list) = reader.strings(&property.value, &what) {
            all.push((Spanned::new(name.to_string(), span), list));
        }
    }
    all
}

fn hosts(reader: &mut Reader<'_>, value: &Value<'_>) -> Vec<(Spanned<String>, ipnet::IpNet)> {
    let Some(object) = reader.object(value, "hosts") else { return Vec::new() };
    let mut all = Vec::new();
    for (name, property) in reader.entries(object) {
        let span = property.span;
        if !matches!(Selector::parse(name), Ok(Selector::Host(_))) {
            let help = "a host's name must not look like an address, a login or a tag: or group: name";
            let error = Diagnostic::error(reader.source, span, format!("\"{name}\" is no name for a host"));
            reader.findings.push(error.help(help));
            continue;
        }
        let Some(text) = reader.string(&property.value, &format!("\"{name}\"")) else { continue };
        match prefix(&text.value) {
            Ok(Some(net)) => all.push((Spanned::new(name.to_string(), span), net)),
            Ok(None) => {
                let message = format!("\"{}\" is no address and no prefix", text.value);
                let error = Diagnostic::error(reader.source, text.span, message);
                reader.findings.push(error.help("write, for instance, 10.1.2.3 or 10.0.0.0/8"));
            }
            Err(problem) => {
                let error = Diagnostic::error(reader.source, text.span, problem.message);
                reader.findings.push(error.maybe_help(problem.help));
            }
        }
    }
    all
}
