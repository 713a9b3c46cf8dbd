//! Sections that nobody here knows: Tailscale adds some. What restricts must not be passed over.

use std::collections::HashMap;
use std::ops::ControlFlow;

use crate::diagnostic::Diagnostic;
use crate::json::{Kind, Object, Reader, Value};
use crate::source::Spanned;
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
            || name.chars().any(crate::source::is_unseen)
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

fn is_about_denying(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["deny", "denied", "denies", "block", "reject", "between", "isolat", "drop"]
        .iter()
        .any(|word| name.contains(word))
}

/// Whether something in it may deny: an action that is neither accept nor check, or a word for it.
fn denies(value: &Value<'_>) -> ControlFlow<()> {
    match &value.kind {
        Kind::Array(elements) => elements.iter().try_for_each(denies),
        Kind::Object(object) => object.members.iter().try_for_each(|member| {
            let action = member.name.eq_ignore_ascii_case("action");
            let admits = match &member.value.kind {
                Kind::String(text) => ["accept", "check"].contains(&text.trim()),
                _ => false,
            };
            if (action && !admits) || is_about_denying(&member.name) {
                return ControlFlow::Break(());
            }
            denies(&member.value)
        }),
        _ => ControlFlow::Continue(()),
    }
}
