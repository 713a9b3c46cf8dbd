//! The boundaries section.

use super::definitions::look_alike;
use super::fields::{complain, required};
use super::rules::{acl_destination, list, proto, selectors};
use super::selector::Malformed;
use super::venues::MOST;
use super::{Boundary, Exception, Selector};
use crate::Dialect;
use crate::frontend::json::{Object, Reader, Value};
use crate::frontend::source::Spanned;

/// The boundaries, each of a name of its own.
pub(super) fn boundaries(reader: &mut Reader<'_>, value: &Value<'_>, dialect: Dialect) -> Vec<Boundary> {
    let all = list(reader, value, "boundaries", |reader, object| boundary(reader, object, dialect))
        .unwrap_or_default();
    if all.len() > MOST {
        reader.error(value.span, format!("more than {MOST} boundaries"));
        return Vec::new();
    }
    for (index, boundary) in all.iter().enumerate() {
        if all[..index].iter().any(|other| other.name.value == boundary.name.value) {
            reader.error(boundary.name.span, format!("\"{}\" is given twice", boundary.name.value));
        }
    }
    all
}

fn boundary(reader: &mut Reader<'_>, object: &Object<'_>, dialect: Dialect) -> Option<Boundary> {
    let (mut name, mut between, mut only) = (None, None, Vec::new());
    for (field, property) in reader.fields(object, "a boundary", &["name", "between", "only"]) {
        let value = &property.value;
        match field {
            "name" => name = reader.string(value, field),
            "between" => between = Some(sides(reader, value, dialect)),
            _ => only = list(reader, value, "only", |r, v| exception(r, v, dialect)).unwrap_or_default(),
        }
    }
    let name = required(reader, object, name, "name", "the boundary");
    if let Some(name) = &name {
        look_alike(reader, &name.value, name.span);
    }
    let between = required(reader, object, between, "between", "the boundary");
    Some(Boundary { span: object.span, name: name?, sides: between?, only })
}

fn sides(reader: &mut Reader<'_>, value: &Value<'_>, dialect: Dialect) -> Vec<Vec<Spanned<Selector>>> {
    let Some(elements) = reader.array(value, "between") else { return Vec::new() };
    if elements.len() < 2 {
        let problem = Malformed::new("a boundary has two sides or more")
            .help("write \"between\": [[\"tag:a\"], [\"tag:b\"]]");
        complain(reader, value.span, problem);
    }
    let mut sides = Vec::new();
    for element in elements {
        let Some(words) = reader.strings(element, "each side of a boundary") else { continue };
        if words.is_empty() {
            reader.error(element.span, "a side of a boundary names nobody");
        }
        sides.push(selectors(reader, &words, dialect));
    }
    sides
}

fn exception(reader: &mut Reader<'_>, object: &Object<'_>, dialect: Dialect) -> Option<Exception> {
    let (mut sources, mut destinations, mut protocol) = (None, None, None);
    for (field, property) in reader.fields(object, "an entry of only", &["src", "dst", "proto"]) {
        let value = &property.value;
        match field {
            "src" => sources = reader.strings(value, field),
            "dst" => destinations = reader.strings(value, field),
            _ => protocol = reader.string(value, field),
        }
    }
    let sources = required(reader, object, sources, "src", "the entry");
    let destinations = required(reader, object, destinations, "dst", "the entry");
    let protocol = proto(reader, protocol.as_ref(), dialect)?;
    let sources = selectors(reader, &sources?, dialect);
    let destinations =
        destinations?.iter().filter_map(|word| acl_destination(reader, word, protocol, dialect)).collect();
    Some(Exception { sources, destinations })
}
