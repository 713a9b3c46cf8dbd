//! Findings for people: the place, an excerpt, what to do. On standard error.

use std::io::IsTerminal as _;

use bulkhead_compiler::diagnostic::{Diagnostic, Findings, Location, Severity};
use bulkhead_compiler::source::{Source, is_unseen};
use miette::{
    GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteDiagnostic, NamedSource, Report, SourceSpan,
};

/// Prints every finding: excerpts, or one JSON object a line.
pub fn print(findings: &Findings, sources: &[Source], json: bool) {
    for diagnostic in &findings.0 {
        if json {
            // A finding is strings and numbers only: it always serialises.
            eprintln!("{}", serde_json::json!(diagnostic));
        } else {
            eprint!("{}", excerpt(diagnostic, sources));
        }
    }
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
    let mut report = Report::new(shown);
    if let Some(source) = sources.iter().find(|source| Some(source.name()) == file) {
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
    fn what_cannot_be_seen_is_not_written_to_a_terminal() {
        let text = "{\"a\u{7f}\u{9b}\u{202e}b\": 1} // \u{1b}[2J";
        let source = Source::new("f", text);
        let finding =
            Diagnostic::error(&source, bulkhead_compiler::source::Span { start: 1, end: 4 }, "\u{1b}[2J");
        let shown = excerpt(&finding, &[source]);
        assert!(!shown.contains(is_unseen), "{shown:?}");
        assert!(shown.contains("\\u{1b}[2J") && plain(text).len() == text.len());
    }
}
