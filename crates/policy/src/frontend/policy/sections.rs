//! Sections that nobody here knows: Tailscale adds some. What restricts must not be passed over.

use std::collections::HashMap;
use std::ops::ControlFlow;

use crate::frontend::diagnostic::Diagnostic;
use crate::frontend::json::{Kind, Object, Reader, Value};
use crate::frontend::source::Spanned;
use crate::suggest;

/// The sections that can be passed over, each warned of. One whose name is close to a known one, or
/// that may deny something, is left for the reader, which refuses it.
pub(super) fn unknown(
    reader: &mut Reader<'_>,
    object: &Object<'_>,
    known: &[&str],
    ours: &[&str],
) -> Vec<Spanned<String>> {
    let mut all = Vec::new();
    let mut given: HashMap<&str, usize> = HashMap::new();
    for member in &object.members {
        *given.entry(&member.name).or_default() += 1;
    }
    for member in &object.members {
        let name = &*member.name;
        let all_known = known.iter().chain(ours).copied();
        // Given twice, one may hide the other.
        if given[name] != 1
            || name.starts_with('#')
            || name.chars().any(crate::frontend::source::is_unseen)
            || suggest::closest(name, all_known).is_some()
            || is_about_denying(name)
            || denies(&member.value).is_break()
        {
            continue;
        }
        let message = format!("unknown section \"{name}\": nothing of it is enforced, and it admits nothing");
        let warning = Diagnostic::warning(reader.source, member.span, message);
        reader.findings.push(warning.help("remove it if it is not one of Tailscale's"));
        all.push(Spanned::new(name.to_string(), member.span));
    }
    all
}

/// How words begin that may deny.
const DENYING: [&str; 16] = [
    "deny",
    "denie",
    "block",
    "reject",
    "isolat",
    "drop",
    "exclu",
    "except",
    "forbid",
    "prohibit",
    "refus",
    "restrict",
    "quarantin",
    "revo",
    "disabl",
    "disallow",
];

/// Whether a name has a word for denying in it.
fn is_about_denying(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    DENYING.iter().chain(&["between"]).any(|word| name.contains(word))
}

/// Whether a text is a word for denying, or a few words with one: not a sentence that tells of it.
fn says_deny(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    let begins = |word: &str| DENYING.iter().any(|denying| word.starts_with(denying));
    text.split_whitespace().count() <= 3 && text.split(|c: char| !c.is_ascii_alphabetic()).any(begins)
}

/// Whether something in it may deny: an action that is neither accept nor check, a word for it, or leave
/// that is not given.
fn denies(value: &Value<'_>) -> ControlFlow<()> {
    match &value.kind {
        Kind::Array(elements) => elements.iter().try_for_each(denies),
        Kind::Object(object) => object.members.iter().try_for_each(|member| {
            let is = |names: &[&str]| names.iter().any(|name| member.name.eq_ignore_ascii_case(name));
            let admits = match &member.value.kind {
                Kind::String(text) => ["accept", "check"].contains(&text.trim()),
                _ => false,
            };
            let refuses = is(&["accept", "allow", "permit", "pass"])
                && matches!(member.value.kind, Kind::Boolean(false));
            if (is(&["action"]) && !admits) || refuses || is_about_denying(&member.name) {
                return ControlFlow::Break(());
            }
            denies(&member.value)
        }),
        Kind::String(text) if says_deny(text) => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    }
}
