//! What every section says of its fields.

use super::selector::Malformed;
use crate::frontend::diagnostic::Diagnostic;
use crate::frontend::json::{Object, Reader};
use crate::frontend::source::Span;

/// A value that is none of its kind.
pub(super) fn complain(reader: &mut Reader<'_>, span: Span, problem: Malformed) {
    reader.findings.push(Diagnostic::error(reader.source, span, problem.message).maybe_help(problem.help));
}

/// A field that must be there.
pub(super) fn required<T>(
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
