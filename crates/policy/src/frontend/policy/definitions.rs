//! Sections that give names to things: groups, tagOwners, hosts, ipsets, postures.

use super::Selector;
use super::fields::{complain, required};
use super::ipset::Step;
use super::posture::{Assertion, Attributes};
use super::selector::{Malformed, prefix};
use crate::Dialect;
use crate::frontend::diagnostic::Diagnostic;
use crate::frontend::json::{self, Kind, Reader, Value};
use crate::frontend::source::{Span, Spanned};

/// A name and what it stands for.
type Named<T> = Vec<(Spanned<String>, Vec<T>)>;

/// A map from names with a prefix to lists of strings.
pub(super) fn members(
    reader: &mut Reader<'_>,
    value: &Value<'_>,
    section: &str,
    prefix: &str,
) -> Named<Spanned<String>> {
    named(reader, value, section, prefix, |reader, name, value| reader.strings(value, &format!("\"{name}\"")))
}

/// `tagOwners`. Tags are written in a few characters only: nobody must mistake one for another.
pub(super) fn tag_owners(
    reader: &mut Reader<'_>,
    value: &Value<'_>,
    dialect: Dialect,
) -> Named<Spanned<String>> {
    let more = if dialect == Dialect::Tailscale { "-" } else { "-_." };
    let mut owners = members(reader, value, "tagOwners", "tag:");
    owners.retain(|(name, _)| {
        let bare = name.value.trim_start_matches("tag:");
        let problem = match bare.chars().find(|c| !c.is_ascii_alphanumeric() && !more.contains(*c)) {
            _ if !bare.starts_with(|c: char| c.is_ascii_alphabetic()) => {
                Malformed::new("tag names must start with a letter, after 'tag:'")
            }
            Some(wrong) => Malformed::new("tag names can only contain numbers, letters, or dashes")
                .help(format!("{} is none of them", described(wrong))),
            None => return true,
        };
        let message = format!("tagOwners[\"{}\"]: {}", name.value, problem.message);
        complain(reader, name.span, Malformed { message, ..problem });
        false
    });
    owners
}

/// A character by its number: what it looks like may be another's look.
fn described(character: char) -> String {
    format!("U+{:04X}", u32::from(character))
}

/// Names of letters beyond ASCII stand, and are seen: one may look like another that is ASCII.
pub(super) fn look_alike(reader: &mut Reader<'_>, name: &str, span: Span) {
    if let Some(wrong) = name.chars().find(|character| !character.is_ascii()) {
        let message = format!("\"{name}\" has characters that are not ASCII: {}", described(wrong));
        let warning = Diagnostic::warning(reader.source, span, message);
        reader.findings.push(warning.help("it may look like another name and be none: write it in ASCII"));
    }
}

/// A map from names with a prefix to lists, each read by `read`.
fn named(
    reader: &mut Reader<'_>,
    value: &Value<'_>,
    section: &str,
    prefix: &str,
    read: impl Fn(&mut Reader<'_>, &str, &Value<'_>) -> Option<Vec<Spanned<String>>>,
) -> Named<Spanned<String>> {
    let Some(object) = reader.object(value, section) else { return Vec::new() };
    let mut all = Vec::new();
    for (name, property) in reader.entries(object) {
        let bare = name.strip_prefix(prefix);
        if bare.is_none_or(|bare| bare.is_empty() || bare == "*") {
            let problem = Malformed::new(format!("\"{name}\" is no name for {section}"))
                .help(format!("names in {section} are {prefix}NAME"));
            complain(reader, property.span, problem);
            continue;
        }
        if prefix != "tag:" {
            look_alike(reader, name, property.span);
        }
        if let Some(list) = read(reader, name, &property.value) {
            all.push((Spanned::new(name.to_string(), property.span), list));
        }
    }
    all
}

pub(super) fn hosts(reader: &mut Reader<'_>, value: &Value<'_>) -> Vec<(Spanned<String>, ipnet::IpNet)> {
    let Some(object) = reader.object(value, "hosts") else { return Vec::new() };
    let mut all = Vec::new();
    for (name, property) in reader.entries(object) {
        if !matches!(Selector::parse(name), Ok(Selector::Host(_))) {
            let problem = Malformed::new(format!("\"{name}\" is no name for a host"))
                .help("a host's name must not look like an address, a login or a tag: or group: name");
            complain(reader, property.span, problem);
            continue;
        }
        look_alike(reader, name, property.span);
        let Some(text) = reader.string(&property.value, &format!("\"{name}\"")) else { continue };
        match prefix(&text.value) {
            Ok(Some(net)) => all.push((Spanned::new(name.to_string(), property.span), net)),
            Ok(None) => {
                let problem = Malformed::new(format!("\"{}\" is no address and no prefix", text.value))
                    .help("write, for instance, 10.1.2.3 or 10.0.0.0/8");
                complain(reader, text.span, problem);
            }
            Err(problem) => complain(reader, text.span, problem),
        }
    }
    all
}

pub(super) fn ipsets(reader: &mut Reader<'_>, value: &Value<'_>) -> Named<Spanned<Step>> {
    let lists = members(reader, value, "ipsets", "ipset:");
    let step = |reader: &mut Reader<'_>, text: Spanned<String>| match Step::parse(&text.value) {
        Ok(step) => Some(Spanned::new(step, text.span)),
        Err(problem) => {
            complain(reader, text.span, problem);
            None
        }
    };
    lists
        .into_iter()
        .map(|(name, list)| (name, list.into_iter().filter_map(|text| step(reader, text)).collect()))
        .collect()
}

/// A posture's assertions: a list, or an object that also says what to tell whoever fails, which
/// is not ours to do.
fn posture(reader: &mut Reader<'_>, name: &str, value: &Value<'_>) -> Option<Vec<Spanned<String>>> {
    if !matches!(value.kind, Kind::Object(_)) {
        return reader.strings(value, &format!("\"{name}\""));
    }
    let object = reader.object(value, name)?;
    let mut assertions = None;
    for (field, property) in reader.fields(object, "a posture", &["assertions", "onFailure"]) {
        match field {
            "assertions" => assertions = reader.strings(&property.value, field),
            _ => drop(reader.object(&property.value, field).map(|_| ())),
        }
    }
    required(reader, object, assertions, "assertions", &format!("\"{name}\""))
}

/// A posture with an assertion that cannot be read is left out: a rule that names it is then
/// refused, never widened.
pub(super) fn postures(reader: &mut Reader<'_>, value: &Value<'_>) -> Named<Assertion> {
    let mut all = Vec::new();
    for (name, list) in named(reader, value, "postures", "posture:", posture) {
        if list.is_empty() {
            reader
                .error(name.span, format!("\"{}\" asserts nothing: every device would meet it", name.value));
        }
        let mut assertions = Vec::new();
        for text in list {
            match Assertion::parse(&text.value) {
                Ok(assertion) => assertions.push(assertion),
                Err(problem) => complain(reader, text.span, problem),
            }
        }
        all.push((name, assertions));
    }
    all
}

/// A device's attributes: each a string, a number, or true or false.
pub(crate) fn attributes(reader: &mut Reader<'_>, value: &Value<'_>, what: &str) -> Option<Attributes> {
    let object = reader.object(value, what)?;
    let mut all = Attributes::new();
    for (name, property) in reader.entries(object) {
        if matches!(property.value.kind, Kind::String(_) | Kind::Number(_) | Kind::Boolean(_)) {
            all.insert(name.to_string(), json::plain(&property.value));
        } else {
            reader.error(
                property.value.span,
                format!("the attribute \"{name}\" must be a string, a number, true or false"),
            );
        }
    }
    Some(all)
}
