//! A merged inventory as a file: a line for each node and user, so that changes show in a diff.

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{Merged, base64};
use crate::frontend::inventory::{Node, Owner, User};

/// The file's text.
#[must_use]
pub fn write(merged: &Merged) -> String {
    let nodes: Vec<String> = merged.nodes.iter().map(node).collect();
    let users: Vec<String> = merged.users.iter().map(user).collect();
    let list = |items: &[String]| {
        if items.is_empty() { "[]".to_owned() } else { format!("[\n    {}\n  ]", items.join(",\n    ")) }
    };
    format!("{{\n  \"nodes\": {},\n  \"users\": {}\n}}\n", list(&nodes), list(&users))
}

fn line(fields: Vec<(&str, Value)>) -> String {
    let fields: Vec<String> =
        fields.into_iter().map(|(name, value)| format!("{}: {value}", Value::from(name))).collect();
    format!("{{{}}}", fields.join(", "))
}

fn node(node: &Node) -> String {
    let mut fields = vec![("name", json!(node.name))];
    fields.extend(node.key.map(|key| ("key", json!(base64(&key)))));
    if !node.keys.is_empty() {
        fields.push(("keys", json!(node.keys.iter().map(base64).collect::<Vec<_>>())));
    }
    fields.push(("addresses", json!(node.addresses)));
    match &node.owner {
        Owner::User(login) => fields.push(("user", json!(login))),
        Owner::Tags(tags) => fields.push(("tags", json!(tags))),
    }
    if !node.underlay.is_empty() {
        fields.push(("underlay", json!(node.underlay)));
    }
    if !node.routes.is_empty() {
        fields.push(("routes", json!(node.routes)));
    }
    if !node.posture.is_empty() {
        fields.push(("posture", json!(node.posture)));
    }
    let expires = node.expires.and_then(|time| OffsetDateTime::from_unix_timestamp_nanos(time.into()).ok());
    if let Some(time) = expires.and_then(|time| time.format(&Rfc3339).ok()) {
        fields.push(("expires", json!(time)));
    }
    if node.jailed {
        fields.push(("jailed", json!(true)));
    }
    line(fields)
}

fn user(user: &User) -> String {
    let mut fields = vec![("login", json!(user.login))];
    if !user.roles.is_empty() {
        fields.push(("roles", json!(user.roles)));
    }
    if !user.aliases.is_empty() {
        fields.push(("aliases", json!(user.aliases)));
    }
    line(fields)
}
