//! The agent's socket as an OpenAPI document, from the types that travel there.

mod routes;
mod texts;

use schemars::generate::{SchemaGenerator, SchemaSettings};
use serde_json::{Map, Value, json};

use self::routes::Content;
pub use self::routes::{ROUTES, Route};
use crate::route::{Right, VERSION};

/// Makes schemas of what is asked, which may leave out what has a default, and of what is answered.
struct Generators {
    asked: SchemaGenerator,
    answered: SchemaGenerator,
}

/// The document (OpenAPI 3.1).
///
/// # Panics
/// If two types of one name differ, which a test finds.
#[must_use]
pub fn document() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut generators = Generators {
        asked: settings.clone().into_generator(),
        answered: settings.for_serialize().into_generator(),
    };
    let mut paths = Map::new();
    for route in ROUTES {
        let method = if route.right == Right::Read { "get" } else { "post" };
        paths.insert(route.path.to_owned(), json!({ method: operation(route, &mut generators) }));
    }
    let mut schemas = generators.answered.take_definitions(true);
    for (name, schema) in generators.asked.take_definitions(true) {
        let other = schemas.get(&name);
        assert!(other.is_none_or(|other| *other == schema), "two schemas are called {name}");
        schemas.insert(name, schema);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Bulkhead agent",
            "version": VERSION.to_string(),
            "description": "What the agent's socket is asked and answers. Errors are text for people. A route that \
                is not known is answered 404. The socket is /run/bulkhead/agent.sock.",
            "license": { "name": "Apache-2.0 OR MIT", "identifier": "Apache-2.0 OR MIT" },
        },
        "servers": [{ "url": "http://localhost", "description": "HTTP/1.1 over the Unix socket" }],
        "paths": paths,
        "components": { "schemas": schemas, "responses": refusals() },
    })
}

/// The document as it is written to a file.
#[must_use]
pub fn text() -> String {
    format!("{:#}\n", document())
}

/// Why a request is refused, by the name of its response.
const REFUSALS: [(u16, &str, &str); 5] = [
    (400, "BadRequest", "What was asked for is wrong, or the request broke off."),
    (403, "Forbidden", "Whoever asks has no right to it."),
    (413, "TooLong", "The body is longer than 64 KiB."),
    (500, "Failed", "The system refused; the text says what was tried."),
    (503, "NoPlace", "The user, or all together, have too many connections."),
];

fn refusals() -> Value {
    let text = json!({ "text/plain": { "schema": { "type": "string" } } });
    let refusal =
        |(_, name, why): (u16, &str, &str)| (name.to_owned(), json!({ "description": why, "content": text }));
    REFUSALS.into_iter().map(refusal).collect::<Map<_, _>>().into()
}

fn operation(route: &Route, generators: &mut Generators) -> Value {
    let mut responses = Map::new();
    let mut answer = json!({ "description": route.answer });
    if let Some((kind, schema)) = content(&route.answered, &mut generators.answered) {
        answer["content"] = json!({ kind: { "schema": schema } });
    }
    responses.insert("200".to_owned(), answer);
    for (code, name, _) in REFUSALS.iter().filter(|(code, ..)| route.refuses(*code)) {
        let reference = format!("#/components/responses/{name}");
        responses.insert(code.to_string(), json!({ "$ref": reference }));
    }
    let right = if route.right == Right::Read { "read" } else { "change" };
    let id = route.path.rsplit('/').next();
    let mut operation =
        json!({ "operationId": id, "summary": route.summary, "x-right": right, "responses": responses });
    if let Some(query) = route.query {
        operation["parameters"] = parameters(query(&mut generators.asked).as_value());
    }
    if let Some((kind, schema)) = content(&route.asked, &mut generators.asked) {
        let is_required = !matches!(route.asked, Content::Optional(_));
        let mut body = json!({ "required": is_required, "content": { kind: { "schema": schema } } });
        if let Some(words) = route.body {
            body["description"] = words.into();
        }
        operation["requestBody"] = body;
    }
    operation
}

fn content(content: &Content, generator: &mut SchemaGenerator) -> Option<(&'static str, Value)> {
    Some(match content {
        Content::Nothing => return None,
        Content::Json(schema) | Content::Optional(schema) => {
            ("application/json", schema(generator).to_value())
        }
        Content::Lines(schema) => ("application/x-ndjson", schema(generator).to_value()),
        Content::Change(head) => {
            // A string of bytes, whose first line this describes.
            let head = head(generator).to_value();
            ("application/octet-stream", json!({ "x-first-line": head }))
        }
        Content::Text => ("text/plain", json!({ "type": "string" })),
    })
}

/// The fields of an object as parameters of a query, none of which must be there.
fn parameters(object: &Value) -> Value {
    let fields = object["properties"].as_object().into_iter().flatten();
    let parameter = |(name, schema): (&String, &Value)| {
        let mut schema = without_null(schema.clone());
        let description = schema.as_object_mut().and_then(|schema| schema.remove("description"));
        json!({ "name": name, "in": "query", "description": description, "schema": schema })
    };
    fields.map(parameter).collect()
}

/// The schema of what is there, of what may be null.
fn without_null(mut schema: Value) -> Value {
    if let Some(types) = schema["type"].as_array() {
        let some = types.iter().find(|kind| **kind != "null").cloned();
        schema["type"] = some.unwrap_or_default();
    }
    let is_null = |schema: &Value| schema["type"] == "null";
    let some = schema["anyOf"].as_array().and_then(|any| any.iter().find(|one| !is_null(one)).cloned());
    if let (Some(some), Some(fields)) = (some, schema.as_object_mut()) {
        fields.remove("anyOf");
        fields.extend(some.as_object().cloned().into_iter().flatten());
    }
    // A null in the whole is none of a parameter's values.
    if let Some(fields) = schema.as_object_mut() {
        fields.retain(|name, value| name != "default" || !value.is_null());
        fields.retain(|name, value| name != "type" || !value.is_null());
        fields.retain(|name, value| name != "anyOf" || !value.is_null());
    }
    schema
}
