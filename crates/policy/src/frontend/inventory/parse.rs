//! The inventory file.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ipnet::IpNet;

use super::{Annotation, Inventory, Node, Owner, ROLES, User, distinct, rivals, workloads::workloads};
use crate::frontend::diagnostic::{Diagnostic, Findings};
use crate::frontend::json::{self, Object, Reader, Value};
use crate::frontend::policy::posture::Attributes;
use crate::frontend::policy::{Selector, attributes, expires};
use crate::frontend::source::{Source, Span, Spanned};
use crate::suggest;

/// Reads an inventory file. What is wrong with it goes to `findings`.
pub fn parse(source: &Source, findings: &mut Findings) -> Option<Inventory> {
    let mut nodes = Vec::new();
    let each = |reader: &mut Reader<'_>, _: &str, element: &Value<'_>| {
        if let Some(object) = reader.object(element, "each node") {
            nodes.extend(node(reader, object));
        }
    };
    let parsed =
        json::parse_streamed(source, findings, "an inventory", &["nodes"], each, |reader, object| {
            let (mut users, mut annotations) = (None, Vec::new());
            for (name, property) in reader.fields(object, "an inventory", &["nodes", "users", "annotations"])
            {
                let Some(elements) = reader.array(&property.value, name) else { continue };
                let elements = elements.iter();
                match name {
                    "users" => users = Some(elements.filter_map(|element| user(reader, element)).collect()),
                    "annotations" => {
                        annotations = elements.filter_map(|element| annotation(reader, element)).collect();
                    }
                    _ => {}
                }
            }
            if object.get("nodes").is_none() {
                reader.error(object.span, "the inventory has no \"nodes\"");
            }
            (users, annotations)
        });
    let (users, annotations) = parsed?;
    let inventory = Inventory::new(source.clone(), nodes, users.map(|users| named(source, users, findings)));
    let inventory = distinct::check(Inventory { annotations, ..inventory }, findings);
    rivals::check(&inventory, findings);
    Some(inventory)
}

/// The users, if no name means two of them.
fn named(source: &Source, users: Vec<(User, Vec<Span>)>, findings: &mut Findings) -> Vec<User> {
    let logins: HashSet<&str> = users.iter().map(|(user, _)| user.login.as_str()).collect();
    let mut taken: HashMap<&str, &str> = HashMap::new();
    for (user, spans) in &users {
        for (alias, span) in user.aliases.iter().zip(spans) {
            let other = match logins.get(alias.as_str()) {
                Some(login) => Some(*login).filter(|login| *login != user.login),
                None => taken.insert(alias, &user.login).filter(|login| *login != user.login),
            };
            if let Some(other) = other {
                let message = format!("\"{alias}\" means {other} and {}", user.login);
                let error = Diagnostic::error(source, *span, message);
                findings.push(error.help("an alias stands for one user: remove it from one of them"));
            }
        }
    }
    users.into_iter().map(|(user, _)| user).collect()
}

/// A user, and where each of its aliases is written.
fn user(reader: &mut Reader<'_>, value: &Value<'_>) -> Option<(User, Vec<Span>)> {
    let object = reader.object(value, "each user")?;
    let (mut login, mut roles, mut aliases, mut listed_by) = (None, Vec::new(), Vec::new(), None);
    for (name, property) in reader.fields(object, "a user", &["login", "roles", "aliases", "source"]) {
        match name {
            "source" => listed_by = reader.string(&property.value, name).map(|text| text.value),
            "login" => login = reader.string(&property.value, "login"),
            "roles" => roles = reader.strings(&property.value, "roles").unwrap_or_default(),
            _ => aliases = reader.strings(&property.value, "aliases").unwrap_or_default(),
        }
    }
    if object.get("login").is_none() {
        reader.error(value.span, "the user has no \"login\"");
    }
    let roles = roles.into_iter().map(|role| known_role(reader, role)).collect();
    let (aliases, spans) = aliases.into_iter().map(|alias| (alias.value.to_lowercase(), alias.span)).unzip();
    Some((User { login: login?.value.to_lowercase(), roles, aliases, source: listed_by }, spans))
}

fn annotation(reader: &mut Reader<'_>, value: &Value<'_>) -> Option<Annotation> {
    let object = reader.object(value, "each annotation")?;
    let (mut key, mut underlay, mut posture) = (None, Vec::new(), Attributes::new());
    for (name, property) in reader.fields(object, "an annotation", &["key", "underlay", "posture"]) {
        let value = &property.value;
        match name {
            "key" => key = reader.string(value, name).and_then(|text| wireguard_key(reader, &text)),
            "underlay" => underlay = read_addresses(reader, value, name),
            _ => posture = attributes(reader, value, name).unwrap_or_default(),
        }
    }
    if object.get("key").is_none() {
        reader.error(value.span, "the annotation has no \"key\": it is that of the node it is about");
    }
    Some(Annotation { key: key?, underlay, posture })
}

/// A role in small letters. One that no autogroup has stands, and is warned of.
fn known_role(reader: &mut Reader<'_>, role: Spanned<String>) -> String {
    let name = role.value.trim().to_lowercase();
    if !ROLES.contains(&name.as_str()) {
        let message = format!("unknown role \"{}\": no autogroup has it", role.value);
        let help = suggest::did_you_mean(&name, ROLES);
        let warning = Diagnostic::warning(reader.source, role.span, message);
        reader.findings.push(warning.help(format!("roles are {}", ROLES.join(", "))).maybe_help(help));
    }
    name
}

/// A node, and its workloads behind it.
fn node(reader: &mut Reader<'_>, object: &Object<'_>) -> Vec<Node> {
    const KNOWN: [&str; 14] = [
        "name",
        "key",
        "keys",
        "addresses",
        "underlay",
        "routes",
        "user",
        "tags",
        "posture",
        "postureExpires",
        "expires",
        "jailed",
        "source",
        "workloads",
    ];
    let (mut name, mut key, mut user, mut tags) = (None, None, None, None);
    let (mut keys, mut addresses, mut underlay, mut routes) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut posture, mut posture_expires) = (Attributes::new(), BTreeMap::new());
    let (mut until, mut jailed, mut listed_by, mut within) = (None, false, None, None);
    for (field, property) in reader.fields(object, "a node", &KNOWN) {
        let value = &property.value;
        match field {
            "name" => name = reader.string(value, field),
            "key" => key = reader.string(value, field).and_then(|text| wireguard_key(reader, &text)),
            "keys" => {
                let texts = reader.strings(value, field).unwrap_or_default();
                keys = texts.iter().filter_map(|text| wireguard_key(reader, text)).collect();
            }
            "addresses" => addresses = read_addresses(reader, value, field),
            "underlay" => underlay = read_addresses(reader, value, field),
            "routes" => routes = read_routes(reader, value),
            "user" => user = reader.string(value, field),
            "tags" => tags = reader.strings(value, field),
            "posture" => posture = attributes(reader, value, field).unwrap_or_default(),
            "postureExpires" => {
                let members = reader.object(value, field).map_or(&[][..], |object| &object.members);
                let time = |reader: &mut Reader<'_>, value| expires(reader, value).map(|time| time.value);
                let of =
                    members.iter().filter_map(|one| Some((one.name.to_string(), time(reader, &one.value)?)));
                posture_expires = of.collect();
            }
            "source" => listed_by = reader.string(value, field).map(|text| text.value),
            "workloads" => within = Some(value),
            "expires" => until = expires(reader, value).map(|time| time.value),
            // What cannot be read is an error, and the file is refused.
            _ => jailed = reader.boolean(value, field).unwrap_or(true),
        }
    }
    if object.get("name").is_none() {
        reader.error(object.span, "the node has no \"name\"");
    }
    if object.get("addresses").is_none() {
        reader.error(object.span, "the node has no \"addresses\"");
    }
    if key.is_none() && !keys.is_empty() {
        key = Some(keys.remove(0));
    }
    let owner = owner(reader, user, tags);
    let Some(name) = name else { return Vec::new() };
    let node = Node {
        name: name.value,
        key,
        keys,
        addresses,
        underlay,
        routes,
        owner,
        posture,
        posture_expires,
        expires: until,
        jailed,
        source: listed_by,
        workload: None,
        span: object.span,
    };
    let parts = within.map(|value| workloads(reader, value, &node)).unwrap_or_default();
    std::iter::once(node).chain(parts).collect()
}

/// A tagged node is its tags, whoever set it up; a node with neither is nobody's.
fn owner(
    reader: &mut Reader<'_>,
    user: Option<Spanned<String>>,
    tags: Option<Vec<Spanned<String>>>,
) -> Owner {
    let tags = tags.unwrap_or_default();
    if let (Some(user), [first, ..]) = (&user, &tags[..]) {
        let error = Diagnostic::error(reader.source, user.span, "a node has a user or tags, not both")
            .related(reader.source, first.span, "tagged here")
            .help("remove \"user\": a tagged node acts as its tags");
        reader.findings.push(error);
    }
    let names = tag_names(reader, tags);
    match user {
        Some(user) if names.is_empty() => Owner::User(user.value.to_lowercase()),
        _ => Owner::Tags(names),
    }
}

/// Tags, each with its prefix; what is none is an error and left out.
pub(super) fn tag_names(reader: &mut Reader<'_>, tags: Vec<Spanned<String>>) -> Vec<String> {
    let mut names = Vec::new();
    for tag in tags {
        if matches!(Selector::parse(&tag.value), Ok(Selector::Tag(_))) {
            names.push(tag.value);
        } else {
            let error = Diagnostic::error(reader.source, tag.span, format!("\"{}\" is no tag", tag.value));
            reader.findings.push(error.help("write tag:NAME"));
        }
    }
    names
}

fn wireguard_key(reader: &mut Reader<'_>, text: &Spanned<String>) -> Option<[u8; 32]> {
    let decoded = BASE64_STANDARD.decode(&text.value).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    if decoded.is_none() {
        let error =
            Diagnostic::error(reader.source, text.span, format!("\"{}\" is no WireGuard key", text.value));
        reader
            .findings
            .push(error.help("a key is 32 bytes in base64, 44 characters, as `wg pubkey` prints it"));
    }
    decoded
}

pub(super) fn read_addresses(reader: &mut Reader<'_>, value: &Value<'_>, what: &str) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    for text in reader.strings(value, what).unwrap_or_default() {
        match text.value.parse::<IpAddr>() {
            Ok(address) if address.to_canonical() == address && !address.is_unspecified() => {
                addresses.push(address);
            }
            _ => {
                let message = format!("\"{}\" is no address that a node can have", text.value);
                let error = Diagnostic::error(reader.source, text.span, message);
                reader.findings.push(error.help("write one IPv4 or IPv6 address, without a prefix length"));
            }
        }
    }
    addresses
}

fn read_routes(reader: &mut Reader<'_>, value: &Value<'_>) -> Vec<IpNet> {
    let mut routes = Vec::new();
    for text in reader.strings(value, "routes").unwrap_or_default() {
        match Selector::parse(&text.value) {
            Ok(Selector::Prefix(net)) => routes.push(net),
            other => {
                let help = other.err().and_then(|problem| problem.help);
                let message = format!("\"{}\" is no route", text.value);
                let error = Diagnostic::error(reader.source, text.span, message);
                reader
                    .findings
                    .push(error.help(help.unwrap_or("write a prefix, for instance 10.20.0.0/24".into())));
            }
        }
    }
    routes
}
