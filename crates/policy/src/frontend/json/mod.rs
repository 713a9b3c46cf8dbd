//! HuJSON with positions: typed access that collects every problem and goes on.

mod parser;

use std::borrow::Cow;

use crate::frontend::diagnostic::{Diagnostic, Findings};
use crate::frontend::source::{Source, Span, Spanned, is_unseen};
use crate::suggest;
use parser::{Parser, Syntax};

/// A value and where it is written.
#[derive(Debug)]
pub struct Value<'a> {
    /// Where.
    pub span: Span,
    /// What.
    pub kind: Kind<'a>,
}

/// What a value is.
#[derive(Debug)]
pub enum Kind<'a> {
    String(Cow<'a, str>),
    /// As written.
    Number(&'a str),
    Boolean(bool),
    Null,
    Array(Vec<Value<'a>>),
    Object(Object<'a>),
}

/// An object.
#[derive(Debug)]
pub struct Object<'a> {
    /// Where it is written.
    pub span: Span,
    /// Its members, in the file's order; a name may be there twice.
    pub members: Vec<Member<'a>>,
}

/// A member of an object.
#[derive(Debug)]
pub struct Member<'a> {
    /// Its name.
    pub name: Cow<'a, str>,
    /// Where the name is written.
    pub span: Span,
    /// Its value.
    pub value: Value<'a>,
}

impl<'a> Object<'a> {
    /// The value of a name, in capitals or not, if it is not null.
    pub fn get(&self, name: &str) -> Option<&Value<'a>> {
        let named = self.members.iter().find(|member| member.name.eq_ignore_ascii_case(name));
        named.map(|member| &member.value).filter(|value| !matches!(value.kind, Kind::Null))
    }
}

/// Parses one file of any JSON. A syntax error is a finding.
pub fn value<'s>(source: &'s Source, findings: &mut Findings) -> Option<Value<'s>> {
    let whole = || {
        let mut parser = Parser::new(source.text())?;
        let value = parser.value()?;
        if parser.at_end() { Ok(value) } else { Err(parser.wrong("the end of the file")) }
    };
    match whole() {
        Ok(value) => Some(value),
        Err(Syntax { span, message }) => {
            findings.push(Diagnostic::error(source, span, format!("not valid JSON: {message}")));
            None
        }
    }
}

/// Parses one file and hands its top-level object to `read`. A syntax error, or anything but
/// an object, is a finding, and `read` is not called.
pub fn parse<T>(
    source: &Source,
    findings: &mut Findings,
    what: &str,
    read: impl FnOnce(&mut Reader<'_>, &Object<'_>) -> T,
) -> Option<T> {
    parse_streamed(source, findings, what, &[], |_, _, _| {}, read)
}

/// [`parse`], but the elements of the top-level lists named by `streamed` go to `element` one
/// by one, with the list's name, and are not kept: `read` finds those lists empty.
pub fn parse_streamed<T>(
    source: &Source,
    findings: &mut Findings,
    what: &str,
    streamed: &[&str],
    mut element: impl FnMut(&mut Reader<'_>, &str, &Value<'_>),
    read: impl FnOnce(&mut Reader<'_>, &Object<'_>) -> T,
) -> Option<T> {
    let mut reader = Reader { source, findings, any_case: false, null_is_absent: false };
    match top(&mut reader, what, streamed, &mut element) {
        Ok(object) => object.map(|object| read(&mut reader, &object)),
        Err(Syntax { span, message }) => {
            reader.error(span, format!("not valid HuJSON: {message}"));
            None
        }
    }
}

fn top<'s>(
    reader: &mut Reader<'s>,
    what: &str,
    streamed: &[&str],
    element: &mut impl FnMut(&mut Reader<'_>, &str, &Value<'_>),
) -> Result<Option<Object<'s>>, Syntax> {
    let mut parser = Parser::new(reader.source.text())?;
    if parser.at_end() {
        let error = Diagnostic::error(reader.source, Span::default(), "the file is empty");
        reader.findings.push(error.help(format!("{what} is a JSON object: {{ … }}")));
        return Ok(None);
    }
    let mut members: Vec<Member<'_>> = Vec::new();
    let value = if parser.at_object() {
        let span = parser.members(|parser, name, span| {
            let is_streamed = parser.at_list()
                && streamed.contains(&&*name)
                && members.iter().all(|member| member.name != name);
            let value = if is_streamed {
                let kept = parser.kept();
                let span = parser.elements(|parser, value| {
                    element(reader, &name, &value);
                    parser.forget(kept);
                })?;
                Value { span, kind: Kind::Array(Vec::new()) }
            } else {
                parser.value()?
            };
            members.push(Member { name, span, value });
            Ok(())
        })?;
        Value { span, kind: Kind::Object(Object { span, members }) }
    } else {
        parser.value()?
    };
    if !parser.at_end() {
        return Err(parser.wrong("the end of the file"));
    }
    match value.kind {
        Kind::Object(object) => Ok(Some(object)),
        _ => {
            let message = format!("{what} is a JSON object, this is {}", kind(&value));
            reader.error(value.span, message);
            Ok(None)
        }
    }
}

fn kind(value: &Value<'_>) -> &'static str {
    match value.kind {
        Kind::String(_) => "a string",
        Kind::Number(_) => "a number",
        Kind::Boolean(_) => "true or false",
        Kind::Object(_) => "an object",
        Kind::Array(_) => "a list",
        Kind::Null => "null",
    }
}

/// Reads one file's values.
pub struct Reader<'s> {
    /// The file.
    pub source: &'s Source,
    /// What was found wrong so far.
    pub findings: &'s mut Findings,
    /// Whether the names of fields may be in capitals, as Tailscale takes them.
    pub any_case: bool,
    /// Whether a field that is null is one that is not there, as in Tailscale's language.
    pub null_is_absent: bool,
}

impl Reader<'_> {
    /// Adds an error.
    pub fn error(&mut self, span: Span, message: impl Into<String>) {
        self.findings.push(Diagnostic::error(self.source, span, message));
    }

    /// The fields of an object, each once, by their known names. Fields that are none of
    /// `known`, and repeated ones, are errors and left out; a policy's `#…` are only left out.
    pub fn fields<'v, 'a, 'k>(
        &mut self,
        object: &'v Object<'a>,
        what: &str,
        known: &[&'k str],
    ) -> Vec<(&'k str, &'v Member<'a>)> {
        self.fields_but(object, what, known, &std::collections::HashSet::new())
    }

    /// [`Reader::fields`] without those of `passed_over`.
    pub fn fields_but<'v, 'a, 'k>(
        &mut self,
        object: &'v Object<'a>,
        what: &str,
        known: &[&'k str],
        passed_over: &std::collections::HashSet<&str>,
    ) -> Vec<(&'k str, &'v Member<'a>)> {
        let mut fields: Vec<(&'k str, &'v Member<'a>)> = Vec::with_capacity(object.members.len());
        for member in &object.members {
            // What Tailscale's editor notes beside the fields of a policy.
            if self.any_case && member.name.starts_with('#') {
                continue;
            }
            if self.null_is_absent && matches!(member.value.kind, Kind::Null) {
                continue;
            }
            let same = |field: &&&str| {
                **field == member.name || (self.any_case && field.eq_ignore_ascii_case(&member.name))
            };
            let Some(name) = known.iter().find(same) else {
                if passed_over.contains(&*member.name) {
                    continue;
                }
                self.unknown(member, what, known);
                continue;
            };
            match fields.iter().find(|(given, _)| given == name) {
                Some((_, first)) => self.twice(member, first.span),
                None => fields.push((name, member)),
            }
        }
        fields
    }

    fn unknown(&mut self, member: &Member<'_>, what: &str, known: &[&str]) {
        let name = &*member.name;
        // Looking for what was meant takes longer than all the rest.
        let close =
            if self.findings.is_full() { None } else { suggest::did_you_mean(name, known.iter().copied()) };
        let help = close.unwrap_or_else(|| format!("{what} has {}", known.join(", ")));
        let error =
            Diagnostic::error(self.source, member.span, format!("unknown field \"{name}\" in {what}"));
        self.findings.push(error.help(help));
    }

    fn twice(&mut self, member: &Member<'_>, first: Span) {
        let error =
            Diagnostic::error(self.source, member.span, format!("\"{}\" is given twice", member.name))
                .related(self.source, first, "first given here");
        self.findings.push(error);
    }

    /// The entries of an object used as a map. Repeated keys are errors and left out.
    pub fn entries<'v, 'a>(&mut self, object: &'v Object<'a>) -> Vec<(&'v str, &'v Member<'a>)> {
        const FEW: usize = 16;
        let mut entries: Vec<(&'v str, &'v Member<'a>)> = Vec::with_capacity(object.members.len());
        // Searching a few names costs less than hashing them.
        let mut known = std::collections::HashMap::new();
        for property in &object.members {
            let name: &str = &property.name;
            let first = if object.members.len() <= FEW {
                entries.iter().find(|(known, _)| *known == name).map(|(_, first)| first.span)
            } else {
                let span = *known.entry(name).or_insert(property.span);
                (span != property.span).then_some(span)
            };
            match first {
                None if !self.seen(name, property.span) => {}
                None => entries.push((name, property)),
                Some(first) => self.twice(property, first),
            }
        }
        entries
    }

    fn wrong(&mut self, value: &Value<'_>, what: &str, wanted: &str) {
        self.error(value.span, format!("{what} must be {wanted}, this is {}", kind(value)));
    }

    /// Refuses characters that are not seen: what is read must be what people see.
    fn seen(&mut self, text: &str, span: Span) -> bool {
        let Some(character) = text.chars().find(|character| is_unseen(*character)) else { return true };
        let message = format!("U+{:04X} cannot be seen: no name or text has it", u32::from(character));
        self.error(span, message);
        false
    }

    /// A string.
    pub fn string(&mut self, value: &Value<'_>, what: &str) -> Option<Spanned<String>> {
        match &value.kind {
            Kind::String(text) => {
                self.seen(text, value.span).then(|| Spanned::new(text.to_string(), value.span))
            }
            _ => {
                self.wrong(value, what, "a string");
                None
            }
        }
    }

    /// `true` or `false`.
    pub fn boolean(&mut self, value: &Value<'_>, what: &str) -> Option<bool> {
        match &value.kind {
            Kind::Boolean(value) => Some(*value),
            _ => {
                self.wrong(value, what, "true or false");
                None
            }
        }
    }

    /// A list.
    pub fn array<'v, 'a>(&mut self, value: &'v Value<'a>, what: &str) -> Option<&'v [Value<'a>]> {
        match &value.kind {
            Kind::Array(elements) => Some(elements),
            _ => {
                self.wrong(value, what, "a list");
                None
            }
        }
    }

    /// An object.
    pub fn object<'v, 'a>(&mut self, value: &'v Value<'a>, what: &str) -> Option<&'v Object<'a>> {
        match &value.kind {
            Kind::Object(object) => Some(object),
            _ => {
                self.wrong(value, what, "an object");
                None
            }
        }
    }

    /// A list of strings; what is none is an error and left out.
    pub fn strings(&mut self, value: &Value<'_>, what: &str) -> Option<Vec<Spanned<String>>> {
        let elements = self.array(value, what)?;
        let mut all = Vec::with_capacity(elements.len());
        for element in elements {
            match &element.kind {
                Kind::String(text) => {
                    self.seen(text, element.span);
                    all.push(Spanned::new(text.to_string(), element.span));
                }
                _ => self.wrong(element, &format!("each item of {what}"), "a string"),
            }
        }
        Some(all)
    }
}

/// Reads again the value at `span` of a file that was read before, for places that were not
/// kept. Spans in it count from the start of `span`.
pub fn again(source: &Source, span: Span) -> Option<Value<'_>> {
    Parser::new(source.text().get(span.start..span.end)?).ok()?.value().ok()
}

/// A value as serde_json's, for values that are kept as they are.
pub fn plain(value: &Value<'_>) -> serde_json::Value {
    match &value.kind {
        Kind::String(text) => text.to_string().into(),
        Kind::Number(digits) => serde_json::from_str(digits).unwrap_or_else(|_| (*digits).to_string().into()),
        Kind::Boolean(value) => (*value).into(),
        Kind::Null => serde_json::Value::Null,
        Kind::Array(elements) => elements.iter().map(plain).collect(),
        Kind::Object(object) => serde_json::Value::Object(
            object.members.iter().map(|member| (member.name.to_string(), plain(&member.value))).collect(),
        ),
    }
}
