//! HuJSON with positions: typed access that collects every problem and goes on.

use jsonc_parser::ast::{Object, ObjectProp, Value};
use jsonc_parser::common::Ranged as _;
use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};

use crate::diagnostic::{Diagnostic, Findings};
use crate::source::{Source, Span, Spanned};
use crate::suggest;

/// HuJSON is JSON plus comments and trailing commas, and nothing else.
const HUJSON: ParseOptions = ParseOptions {
    allow_comments: true,
    allow_trailing_commas: true,
    allow_loose_object_property_names: false,
    allow_missing_commas: false,
    allow_single_quoted_strings: false,
    allow_hexadecimal_numbers: false,
    allow_unary_plus_numbers: false,
    allow_bare_decimal_point_numbers: false,
    allow_non_finite_numbers: false,
    allow_extended_string_escapes: false,
};

/// Parses one file and hands its top-level object to `read`. A syntax error, or anything but
/// an object, is a finding, and `read` is not called.
pub fn parse<T>(
    source: &Source,
    findings: &mut Findings,
    what: &str,
    read: impl FnOnce(&mut Reader<'_>, &Object<'_>) -> T,
) -> Option<T> {
    let parsed = match parse_to_ast(source.text(), &CollectOptions::default(), &HUJSON) {
        Ok(parsed) => parsed,
        Err(error) => {
            let range = error.range();
            let span = Span { start: range.start, end: range.end.max(range.start) };
            let message = error.kind().to_string();
            findings.push(Diagnostic::error(source, span, format!("not valid HuJSON: {message}")));
            return None;
        }
    };
    let mut reader = Reader { source, findings };
    match parsed.value {
        Some(Value::Object(object)) => Some(read(&mut reader, &object)),
        Some(other) => {
            reader.error(span(&other), format!("{what} is a JSON object, this is {}", kind(&other)));
            None
        }
        None => {
            let help = format!("{what} is a JSON object: {{ … }}");
            reader.findings.push(Diagnostic::error(source, Span::default(), "the file is empty").help(help));
            None
        }
    }
}

/// Where a value is written.
pub fn span(value: &Value<'_>) -> Span {
    let range = value.range();
    Span { start: range.start, end: range.end }
}

fn kind(value: &Value<'_>) -> &'static str {
    match value {
        Value::StringLit(_) => "a string",
        Value::NumberLit(_) => "a number",
        Value::BooleanLit(_) => "true or false",
        Value::Object(_) => "an object",
        Value::Array(_) => "a list",
        Value::NullKeyword(_) => "null",
    }
}

/// Reads one file's values.
pub struct Reader<'s> {
    /// The file.
    pub source: &'s Source,
    /// What was found wrong so far.
    pub findings: &'s mut Findings,
}

impl Reader<'_> {
    /// Adds an error.
    pub fn error(&mut self, span: Span, message: impl Into<String>) {
        self.findings.push(Diagnostic::error(self.source, span, message));
    }

    /// The fields of an object, each once. Fields that are none of `known`, and repeated
    /// ones, are errors and left out.
    pub fn fields<'v, 'a>(
        &mut self,
        object: &'v Object<'a>,
        what: &str,
        known: &[&str],
    ) -> Vec<(&'v str, &'v ObjectProp<'a>)> {
        let mut fields = self.entries(object);
        fields.retain(|(name, property)| {
            let found = known.contains(name);
            if !found {
                let error = Diagnostic::error(
                    self.source,
                    name_span(property),
                    format!("unknown field \"{name}\" in {what}"),
                );
                let help = suggest::did_you_mean(name, known.iter().copied())
                    .unwrap_or_else(|| format!("{what} has {}", known.join(", ")));
                self.findings.push(error.help(help));
            }
            found
        });
        fields
    }

    /// The entries of an object used as a map. Repeated keys are errors and left out.
    pub fn entries<'v, 'a>(&mut self, object: &'v Object<'a>) -> Vec<(&'v str, &'v ObjectProp<'a>)> {
        let mut seen = std::collections::HashMap::new();
        let mut entries = Vec::with_capacity(object.properties.len());
        for property in &object.properties {
            let name = property.name.as_str();
            let span = name_span(property);
            match seen.entry(name) {
                std::collections::hash_map::Entry::Vacant(entry) => {
                    entry.insert(span);
                    entries.push((name, property));
                }
                std::collections::hash_map::Entry::Occupied(entry) => {
                    let error = Diagnostic::error(self.source, span, format!("\"{name}\" is given twice"))
                        .related(self.source, *entry.get(), "first given here");
                    self.findings.push(error);
                }
            }
        }
        entries
    }

    fn wrong(&mut self, value: &Value<'_>, what: &str, wanted: &str) {
        self.error(span(value), format!("{what} must be {wanted}, this is {}", kind(value)));
    }

    /// A string.
    pub fn string(&mut self, value: &Value<'_>, what: &str) -> Option<Spanned<String>> {
        match value {
            Value::StringLit(text) => Some(Spanned::new(text.value.to_string(), span(value))),
            _ => {
                self.wrong(value, what, "a string");
                None
            }
        }
    }

    /// `true` or `false`.
    pub fn boolean(&mut self, value: &Value<'_>, what: &str) -> Option<bool> {
        match value {
            Value::BooleanLit(literal) => Some(literal.value),
            _ => {
                self.wrong(value, what, "true or false");
                None
            }
        }
    }

    /// A list.
    pub fn array<'v, 'a>(&mut self, value: &'v Value<'a>, what: &str) -> Option<&'v [Value<'a>]> {
        match value {
            Value::Array(array) => Some(&array.elements),
            _ => {
                self.wrong(value, what, "a list");
                None
            }
        }
    }

    /// An object.
    pub fn object<'v, 'a>(&mut self, value: &'v Value<'a>, what: &str) -> Option<&'v Object<'a>> {
        match value {
            Value::Object(object) => Some(object),
            _ => {
                self.wrong(value, what, "an object");
                None
            }
        }
    }

    /// A list of strings; what is none is an error and left out.
    pub fn strings(&mut self, value: &Value<'_>, what: &str) -> Option<Vec<Spanned<String>>> {
        let elements = self.array(value, what)?;
        let item = format!("each item of {what}");
        Some(elements.iter().filter_map(|element| self.string(element, &item)).collect())
    }
}

/// Where a field's name is written.
pub fn name_span(property: &ObjectProp<'_>) -> Span {
    let range = property.name.range();
    Span { start: range.start, end: range.end }
}

/// A value as serde_json's, for values that are kept as they are.
pub fn plain(value: &Value<'_>) -> serde_json::Value {
    match value {
        Value::StringLit(text) => text.value.to_string().into(),
        Value::NumberLit(number) => {
            serde_json::from_str(number.value).unwrap_or_else(|_| number.value.to_string().into())
        }
        Value::BooleanLit(literal) => literal.value.into(),
        Value::NullKeyword(_) => serde_json::Value::Null,
        Value::Array(array) => array.elements.iter().map(plain).collect(),
        Value::Object(object) => serde_json::Value::Object(
            object.properties.iter().map(|p| (p.name.as_str().to_string(), plain(&p.value))).collect(),
        ),
    }
}
