//! A merged inventory as a file: a line for each node and user, so that changes show in a diff.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{Merged, base64};
use crate::frontend::inventory::{Annotation, Node, Owner, User, Workload};

/// The file's text.
#[must_use]
pub fn write(merged: &Merged) -> String {
    text(&merged.nodes, Some(&merged.users), &[])
}

/// The text of an inventory; sections that may be left out are, if there are none.
pub(in super::super) fn text(nodes: &[Node], users: Option<&[User]>, annotations: &[Annotation]) -> String {
    let mut parts: HashMap<&str, Vec<&Node>> = HashMap::new();
    for node in nodes.iter().filter(|node| node.workload.is_some()) {
        parts.entry(node.host()).or_default().push(node);
    }
    let hosts = nodes.iter().filter(|node| node.workload.is_none());
    let lines = hosts.map(|host| line(fields(host, parts.get(&*host.name).map_or(&[], Vec::as_slice))));
    let mut sections = vec![section("nodes", lines)];
    sections.extend(users.map(|users| section("users", users.iter().map(user))));
    let annotated = !annotations.is_empty();
    sections.extend(annotated.then(|| section("annotations", annotations.iter().map(annotation))));
    format!("{{\n  {}\n}}\n", sections.join(",\n  "))
}

fn section(name: &str, items: impl Iterator<Item = String>) -> String {
    let items: Vec<String> = items.collect();
    if items.is_empty() {
        format!("\"{name}\": []")
    } else {
        format!("\"{name}\": [\n    {}\n  ]", items.join(",\n    "))
    }
}

fn annotation(annotation: &Annotation) -> String {
    let mut fields = vec![("key", json!(base64(&annotation.key)))];
    if !annotation.underlay.is_empty() {
        fields.push(("underlay", json!(annotation.underlay)));
    }
    if !annotation.posture.is_empty() {
        fields.push(("posture", json!(annotation.posture)));
    }
    line(fields)
}

fn line(fields: Vec<(&str, Value)>) -> String {
    let fields: Vec<String> =
        fields.into_iter().map(|(name, value)| format!("{}: {value}", Value::from(name))).collect();
    format!("{{{}}}", fields.join(", "))
}

/// A node's line, without its workloads, or what a workload's host has of it.
pub(in super::super) fn line_of(node: &Node) -> String {
    node.workload.as_ref().map_or_else(|| line(fields(node, &[])), |own| part(node, own).to_string())
}

/// A workload, as its host has it.
fn part(node: &Node, own: &Workload) -> Value {
    let mut part = json!({"name": own.name, "addresses": node.addresses, "tags": node.tags()});
    if let Some(id) = &own.spiffe {
        part["spiffe"] = json!(id.as_str());
    }
    for (name, texts) in [("unit", &own.matches.units), ("cgroup", &own.matches.cgroups)] {
        if !texts.is_empty() {
            part["match"][name] = json!(texts);
        }
    }
    if let Some(time) = own.expires.and_then(rfc3339) {
        part["expires"] = json!(time);
    }
    part
}

/// A time in ns since the Unix epoch.
fn rfc3339(time: u64) -> Option<String> {
    OffsetDateTime::from_unix_timestamp_nanos(time.into()).ok()?.format(&Rfc3339).ok()
}

fn fields<'n>(node: &'n Node, parts: &[&Node]) -> Vec<(&'n str, Value)> {
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
    if !node.posture_expires.is_empty() {
        let times = node.posture_expires.iter().map(|(name, time)| (name, rfc3339(*time)));
        fields.push(("postureExpires", json!(times.collect::<BTreeMap<_, _>>())));
    }
    if let Some(time) = node.expires.and_then(rfc3339) {
        fields.push(("expires", json!(time)));
    }
    if node.jailed {
        fields.push(("jailed", json!(true)));
    }
    fields.extend(node.source.as_ref().map(|source| ("source", json!(source))));
    let parts: Vec<Value> =
        parts.iter().filter_map(|node| node.workload.as_ref().map(|own| part(node, own))).collect();
    if !parts.is_empty() {
        fields.push(("workloads", json!(parts)));
    }
    fields
}

fn user(user: &User) -> String {
    let mut fields = vec![("login", json!(user.login))];
    if !user.roles.is_empty() {
        fields.push(("roles", json!(user.roles)));
    }
    if !user.aliases.is_empty() {
        fields.push(("aliases", json!(user.aliases)));
    }
    fields.extend(user.source.as_ref().map(|source| ("source", json!(source))));
    line(fields)
}
