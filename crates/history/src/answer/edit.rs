//! A policy's text with rules replaced and removed, all else as it was.

use bulkhead_policy::policy::{Action, Policy};
use bulkhead_policy::source::Span;

use super::drift::Report;

/// The policy with each rule that is wider narrowed, and each that admits and was never used removed.
#[must_use]
pub fn narrower(policy: &Policy, report: &Report) -> String {
    let rules = policy.acls.iter().flatten().chain(policy.grants.iter().flatten());
    let spans: Vec<Span> = rules.map(|rule| rule.span).collect();
    let span = |number: u32| spans.get((number as usize).wrapping_sub(1)).copied();
    let text = policy.source.text();
    let mut changes: Vec<(Span, &str)> = Vec::new();
    for wider in &report.wider {
        changes.extend(span(wider.rule.number).map(|span| (span, wider.narrower.as_str())));
    }
    // Without a deny more would be admitted.
    for unused in report.unused.iter().filter(|rule| rule.action == Action::Accept) {
        changes.extend(span(unused.number).map(|span| (with_comma(text, span), "")));
    }
    changes.sort_by_key(|(span, _)| std::cmp::Reverse(span.start));
    let mut text = text.to_owned();
    changes.iter().for_each(|(span, new)| text.replace_range(span.start..span.end, new));
    text
}

/// A place and the comma that follows it, if one does.
fn with_comma(text: &str, span: Span) -> Span {
    let mut rest = &text[span.end..];
    loop {
        rest = rest.trim_start();
        let comment = match rest.get(..2) {
            Some("//") => rest.find('\n'),
            Some("/*") => rest.find("*/").map(|end| end + 2),
            _ => None,
        };
        match comment {
            Some(end) => rest = &rest[end..],
            None if rest.starts_with(',') => {
                return Span { start: span.start, end: text.len() - rest.len() + 1 };
            }
            None => return span,
        }
    }
}
