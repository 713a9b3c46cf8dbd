//! Findings for people: the place, an excerpt, what to do. On standard error.

use std::fmt::Write as _;
use std::io::IsTerminal as _;

use bulkhead_policy::diagnostic::{Diagnostic, Findings, Location, Severity};
use bulkhead_policy::source::{Source, is_unseen};
use miette::{
    GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteDiagnostic, NamedSource, Report, SourceSpan,
};

/// How many findings of each severity are written for people.
const MOST: usize = 50;

/// Bytes of a line, or of several that a finding is about, of which an excerpt is no help.
const LONGEST: usize = 1000;

/// Prints the findings: every one as a JSON object a line, or the first of each severity with excerpts.
pub fn print(findings: &Findings, sources: &[Source], json: bool) {
    if json {
        // A finding is strings and numbers only: it always serialises.
        findings.0.iter().for_each(|diagnostic| eprintln!("{}", serde_json::json!(diagnostic)));
    } else {
        eprint!("{}", text(findings, sources, MOST, "--json"));
    }
}

/// So many findings of each severity with excerpts; `all` prints all of them. Each excerpt costs a look at all of its file.
pub fn text(findings: &Findings, sources: &[Source], most: usize, all: &str) -> String {
    let mut text = String::new();
    let mut counts = [0; 3];
    for diagnostic in &findings.0 {
        let count = &mut counts[diagnostic.severity as usize];
        *count += 1;
        if *count <= most {
            text.push_str(&excerpt(diagnostic, sources));
        }
    }
    for (count, what) in counts.into_iter().zip(["errors", "warnings", "notes"]) {
        if count > most {
            let _ = writeln!(text, "and {} more {what}: {all} prints all of them", count - most);
        }
    }
    text
}

/// Whether what a finding is about is too long to be shown.
fn is_endless(location: &Location, source: &Source) -> bool {
    location.span.end - location.span.start > LONGEST || source.line(location.position.line).len() > LONGEST
}

/// Whether a text is one of ours with a mistake in it. Of another file, named by mistake, an excerpt is no help,
/// and might show a secret: the dump or the configuration of a WireGuard interface.
fn begins_as_json(text: &str) -> bool {
    let mut rest = text.trim_start();
    while let Some(comment) = rest.strip_prefix('/') {
        let end = if comment.starts_with('*') { "*/" } else { "\n" };
        rest = comment.split_once(end).map_or("", |(_, rest)| rest).trim_start();
    }
    // A list of nodes is a list of objects; `[Interface]` is none.
    let rest = rest.strip_prefix('[').map_or(rest, str::trim_start);
    rest.is_empty() || rest.starts_with(['{', '[', ']', '"'])
}

/// A file's text for a terminal: what cannot be seen has something in its place, of its length.
fn plain(text: &str) -> String {
    if !text.contains(is_unseen) {
        return text.to_string();
    }
    let place = |character: char| match character.len_utf8() {
        _ if !is_unseen(character) => character.to_string(),
        3 => "\u{fffd}".into(),
        length => "?".repeat(length),
    };
    text.chars().map(place).collect()
}

fn span(location: &Location) -> SourceSpan {
    (location.span.start, location.span.end.saturating_sub(location.span.start)).into()
}

/// One finding as text with an excerpt of its file.
pub fn excerpt(diagnostic: &Diagnostic, sources: &[Source]) -> String {
    let severity = match diagnostic.severity {
        Severity::Error => miette::Severity::Error,
        Severity::Warning => miette::Severity::Warning,
        Severity::Note => miette::Severity::Advice,
    };
    let file = diagnostic.location.as_ref().map(|location| &location.file);
    let mut rest = Vec::new();
    let mut labels: Vec<LabeledSpan> = diagnostic
        .location
        .iter()
        .map(|location| LabeledSpan::new_primary_with_span(Some("here".into()), span(location)))
        .collect();
    for related in &diagnostic.related {
        if Some(&related.location.file) == file {
            labels.push(LabeledSpan::new_with_span(Some(related.message.clone()), span(&related.location)));
        } else {
            rest.push(format!("{}: {}", related.location, related.message));
        }
    }
    rest.splice(0..0, diagnostic.help.clone());
    let mut shown = MietteDiagnostic::new(&diagnostic.message).with_severity(severity).with_labels(labels);
    if !rest.is_empty() {
        shown = shown.with_help(rest.join("\n"));
    }
    let source = sources.iter().find(|source| Some(source.name()) == file);
    let source = source.filter(|source| begins_as_json(source.text()));
    if let Some(location) = &diagnostic.location
        && source.is_none_or(|source| is_endless(location, source))
    {
        shown.message = format!("{location}: {}", diagnostic.message);
        shown.labels = None;
    }
    let mut report = Report::new(shown);
    if let Some(source) = source {
        let named = NamedSource::new(source.name(), plain(source.text()));
        report = report.with_source_code(named);
    }
    let theme = if std::io::stderr().is_terminal() {
        GraphicalTheme::unicode()
    } else {
        GraphicalTheme::unicode_nocolor()
    };
    let mut text = String::new();
    match GraphicalReportHandler::new_themed(theme).render_report(&mut text, report.as_ref()) {
        Ok(()) => text,
        Err(_) => format!("{diagnostic}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_bounded() {
        let line = format!("{{\"a\": [{}]}}", "\"tag:x\", ".repeat(5000));
        let source = Source::new("f", &line);
        let mut findings = Findings::default();
        for at in 0..70 {
            let span = bulkhead_policy::source::Span { start: at, end: at + 1 };
            findings.push(Diagnostic::error(&source, span, "wrong"));
            findings.push(Diagnostic::warning(&source, span, "odd"));
        }
        let printed = text(&findings, &[source], MOST, "--json");
        assert!(printed.len() < 20_000, "{}", printed.len());
        assert!(printed.contains("f:1:1: wrong") && !printed.contains("tag:x"), "{printed}");
        assert_eq!(printed.matches("wrong").count(), MOST);
        assert!(printed.contains("and 20 more errors: --json") && printed.contains("and 20 more warnings"));
    }

    #[test]
    fn other_files_that_are_named_by_mistake_are_not_shown() {
        let at = bulkhead_policy::source::Span { start: 3, end: 4 };
        let shown = |text: &str| {
            let source = Source::new("f", text);
            excerpt(&Diagnostic::error(&source, at, "wrong"), &[source])
        };
        for text in [
            "UHJpdmF0ZUtl\tAAAA\t51820\toff\n",
            "[Interface]\nPrivateKey = UHJpdmF0ZUtl\n",
            "x: UHJpdmF0ZUtl",
        ] {
            let shown = shown(text);
            assert!(shown.contains("f:1:4: wrong") && !shown.contains("UHJpdmF0"), "{shown}");
        }
        for text in [
            "{\"policy\": 1}",
            " /* a */ /**/ {\"policy\": 1}",
            "[ {\"policy\": 1}]",
            "{\"policy\": 1} // [Interface]",
        ] {
            assert!(shown(text).contains("policy"), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_seen_is_not_written_to_a_terminal() {
        let text = "{\"a\u{7f}\u{9b}\u{202e}b\": 1} // \u{1b}[2J";
        let source = Source::new("f", text);
        let finding =
            Diagnostic::error(&source, bulkhead_policy::source::Span { start: 1, end: 4 }, "\u{1b}[2J");
        let shown = excerpt(&finding, &[source]);
        assert!(!shown.contains(is_unseen), "{shown:?}");
        assert!(shown.contains("\\u{1b}[2J") && plain(text).len() == text.len());
    }
}
