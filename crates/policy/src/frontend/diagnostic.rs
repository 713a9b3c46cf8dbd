//! What is wrong with a file, where, and what to do about it.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use crate::frontend::source::{Position, Source, Span, is_unseen};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The policy is refused.
    Error,
    /// The policy holds, but probably not as meant.
    Warning,
    /// Worth knowing.
    Note,
}

/// A place in a named file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Location {
    /// The file's name.
    pub file: Arc<str>,
    /// The bytes meant.
    pub span: Span,
    /// Their first line and column.
    #[serde(flatten)]
    pub position: Position,
}

impl Location {
    /// A place in a file.
    #[must_use]
    pub fn new(source: &Source, span: Span) -> Self {
        Self { file: source.name().clone(), span, position: source.position(span.start) }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.position.line, self.position.column)
    }
}

/// A text that names what files hold, for a terminal: what cannot be seen there is escaped.
fn shown(text: String) -> String {
    if !text.contains(is_unseen) {
        return text;
    }
    let escaped = |character: char| match is_unseen(character) {
        true => character.escape_unicode().to_string(),
        false => character.to_string(),
    };
    text.chars().map(escaped).collect()
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// How bad.
    pub severity: Severity,
    /// What.
    pub message: String,
    /// Where; none if no place in a file is to blame.
    #[serde(flatten)]
    pub location: Option<Location>,
    /// What to do next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// Other places that belong to it, each with what it is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub related: Vec<Related>,
    /// Earlier agents did not find this error, and what they enforced can still be: it keeps new files out only.
    #[serde(skip)]
    pub is_recent: bool,
}

/// Another place that belongs to a finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Related {
    /// What is there.
    pub message: String,
    /// Where.
    #[serde(flatten)]
    pub location: Location,
}

impl Diagnostic {
    /// A finding without a place.
    pub fn global(severity: Severity, message: impl Into<String>) -> Self {
        let message = shown(message.into());
        Self { severity, message, location: None, help: None, related: Vec::new(), is_recent: false }
    }

    /// A finding at a place.
    pub fn at(severity: Severity, source: &Source, span: Span, message: impl Into<String>) -> Self {
        Self { location: Some(Location::new(source, span)), ..Self::global(severity, message) }
    }

    /// An error at a place.
    pub fn error(source: &Source, span: Span, message: impl Into<String>) -> Self {
        Self::at(Severity::Error, source, span, message)
    }

    /// A warning at a place.
    pub fn warning(source: &Source, span: Span, message: impl Into<String>) -> Self {
        Self::at(Severity::Warning, source, span, message)
    }

    /// With what to do next.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(shown(help.into()));
        self
    }

    /// With what to do next, if anything is known.
    #[must_use]
    pub fn maybe_help(mut self, help: Option<String>) -> Self {
        self.help = help.map(shown).or(self.help);
        self
    }

    /// As one that keeps new files out, and not those that an earlier agent enforced.
    #[must_use]
    pub const fn recent(mut self) -> Self {
        self.is_recent = true;
        self
    }

    /// With another place.
    #[must_use]
    pub fn related(mut self, source: &Source, span: Span, message: impl Into<String>) -> Self {
        self.related.push(Related { message: shown(message.into()), location: Location::new(source, span) });
        self
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(location) = &self.location {
            write!(f, "{location}: ")?;
        }
        f.write_str(&self.message)?;
        if let Some(help) = &self.help {
            write!(f, " ({help})")?;
        }
        Ok(())
    }
}

/// The findings of one run. All of them are collected; nothing stops at the first. Of each
/// severity only the first [`Findings::MOST`] are kept: nobody fixes more at once, and a file
/// of nothing but mistakes must not fill the memory.
#[derive(Clone, Debug, Default)]
pub struct Findings(pub Vec<Diagnostic>, [usize; 3]);

impl Findings {
    /// How many of a severity are kept.
    pub const MOST: usize = 1000;

    /// Adds one.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        let severity = diagnostic.severity;
        let count = &mut self.1[severity as usize];
        *count += 1;
        match (*count).cmp(&(Self::MOST + 1)) {
            Ordering::Less => self.0.push(diagnostic),
            Ordering::Equal => {
                let message = format!("there are more than {} findings like these", Self::MOST);
                let more = Diagnostic::global(severity, message);
                self.0.push(more.help("fix what is shown and check again"));
            }
            Ordering::Greater => {}
        }
    }

    /// Whether no further error is kept.
    pub(crate) fn is_full(&self) -> bool {
        self.1[Severity::Error as usize] > Self::MOST
    }

    /// Puts words before each error that was added after the first `known` findings.
    pub(crate) fn prefix_errors(&mut self, known: usize, words: &str) {
        let added = self.0.iter_mut().skip(known);
        for error in added.filter(|finding| finding.severity == Severity::Error) {
            error.message.insert_str(0, words);
        }
    }

    /// Whether any is an error.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.0.iter().any(|diagnostic| diagnostic.severity == Severity::Error)
    }

    /// Whether any is an error that keeps out even what was enforced before.
    #[must_use]
    pub fn refuse_enforced(&self) -> bool {
        self.0.iter().any(|diagnostic| diagnostic.severity == Severity::Error && !diagnostic.is_recent)
    }

    /// How many of a severity there are.
    #[must_use]
    pub fn count(&self, severity: Severity) -> usize {
        self.0.iter().filter(|diagnostic| diagnostic.severity == severity).count()
    }

    /// In the order of the files' text, errors without a place first. Repeated findings go.
    pub fn sort(&mut self) {
        let key = |d: &Diagnostic| d.location.as_ref().map(|l| (l.file.clone(), l.span));
        self.0.sort_by(|a, b| key(a).cmp(&key(b)).then(a.severity.cmp(&b.severity)));
        self.0
            .dedup_by(|a, b| (a.severity, &a.message, &a.location) == (b.severity, &b.message, &b.location));
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{diagnostic}")?;
        }
        Ok(())
    }
}
impl std::error::Error for Findings {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_found_behind_any_number_of_warnings() {
        let mut findings = Findings::default();
        for _ in 0..3 * Findings::MOST {
            findings.push(Diagnostic::global(Severity::Warning, "w"));
        }
        assert!(!findings.has_errors());
        findings.push(Diagnostic::global(Severity::Error, "e"));
        assert!(findings.has_errors());
        for _ in 0..3 * Findings::MOST {
            findings.push(Diagnostic::global(Severity::Error, "e"));
        }
        assert_eq!(findings.count(Severity::Warning), Findings::MOST + 1);
        assert_eq!(findings.count(Severity::Error), Findings::MOST + 1);
        assert!(findings.0.iter().any(|finding| finding.message.contains("more than 1000")));
    }
}
