//! The workloads of a node in an inventory file.

use std::net::IpAddr;

use super::parse::{read_addresses, tag_names};
use super::spiffe::SpiffeId;
use super::workload::pattern_matches;
use super::{Matches, Node, Owner, Workload, overlap};
use crate::frontend::diagnostic::Diagnostic;
use crate::frontend::json::{Kind, Object, Reader, Value};
use crate::frontend::policy::expires;
use crate::frontend::source::{Span, Spanned};

/// What the name of a systemd unit that has a cgroup ends with.
const UNIT_TYPES: [&str; 4] = [".service", ".scope", ".slice", ".socket"];

/// The workloads that a host lists, as nodes. What is wrong with one is told, and it is left out.
pub(super) fn workloads(reader: &mut Reader<'_>, value: &Value<'_>, host: &Node) -> Vec<Node> {
    let mut nodes: Vec<Node> = Vec::new();
    let mut matched: Vec<(String, Vec<overlap::Match>)> = Vec::new();
    for element in reader.array(value, "workloads").unwrap_or_default() {
        let Some(object) = reader.object(element, "each workload") else { continue };
        let Some((node, matches)) = workload(reader, object, host) else { continue };
        overlap::check(reader, &matched, &node.name, &matches);
        matched.push((node.name.clone(), matches));
        nodes.push(node);
    }
    nodes
}

fn workload(
    reader: &mut Reader<'_>,
    object: &Object<'_>,
    host: &Node,
) -> Option<(Node, Vec<overlap::Match>)> {
    const KNOWN: [&str; 6] = ["name", "spiffe", "addresses", "tags", "match", "expires"];
    let (mut name, mut spiffe, mut tags, mut until) = (None, None, None, None);
    let (mut addresses, mut matches) = (Vec::new(), Vec::new());
    for (field, property) in reader.fields(object, "a workload", &KNOWN) {
        let value = &property.value;
        match field {
            "name" => name = reader.string(value, field).and_then(|name| plain_name(reader, name)),
            "spiffe" => spiffe = reader.string(value, field).and_then(|text| spiffe_id(reader, &text)),
            "addresses" => {
                addresses = read_addresses(reader, value, field);
                usable(reader, value, &addresses);
                routed(reader, value, &addresses, host);
            }
            "tags" => tags = reader.strings(value, field),
            "match" => matches = read_matches(reader, value),
            _ => until = expires(reader, value).map(|time| time.value),
        }
    }
    for (field, why) in [
        ("name", ""),
        ("addresses", ": it is known to others by addresses of its own"),
        ("match", ": it says which cgroups it is, for instance {\"unit\": \"NAME.service\"}"),
    ] {
        if object.get(field).is_none() {
            reader.error(object.span, format!("the workload has no \"{field}\"{why}"));
        }
    }
    let name = name?.value;
    let of = |kind: fn(&overlap::Form) -> Option<&str>| {
        matches.iter().filter_map(|one: &overlap::Match| kind(&one.form)).map(str::to_owned).collect()
    };
    let workload = Workload {
        host: host.name.clone(),
        name: name.clone(),
        spiffe,
        expires: until,
        matches: Matches { units: of(overlap::Form::unit), cgroups: of(overlap::Form::cgroup) },
    };
    let node = Node {
        name: format!("{}/{name}", host.name),
        addresses,
        owner: Owner::Tags(tag_names(reader, tags.unwrap_or_default())),
        span: object.span,
        ..of_host(host, workload)
    };
    Some((node, matches))
}

/// A workload with what it has of its host, and neither name, addresses nor tags yet.
pub(super) fn of_host(host: &Node, workload: Workload) -> Node {
    let ends = [host.expires, workload.expires];
    Node {
        name: String::new(),
        key: None,
        keys: Vec::new(),
        addresses: Vec::new(),
        underlay: Vec::new(),
        routes: Vec::new(),
        owner: Owner::Tags(Vec::new()),
        posture: host.posture.clone(),
        posture_expires: host.posture_expires.clone(),
        expires: ends.into_iter().flatten().min(),
        jailed: host.jailed,
        source: host.source.clone(),
        workload: Some(Box::new(workload)),
        span: Span::default(),
    }
}

fn plain_name(reader: &mut Reader<'_>, name: Spanned<String>) -> Option<Spanned<String>> {
    let text = &name.value;
    if text.is_empty() || text.contains(['/', '*', ':']) || text.contains(char::is_whitespace) {
        let message = format!("\"{text}\" is no name of a workload");
        let error = Diagnostic::error(reader.source, name.span, message);
        reader
            .findings
            .push(error.help("write a name without /, *, : and spaces: with its host's it is HOST/NAME"));
        return None;
    }
    Some(name)
}

fn spiffe_id(reader: &mut Reader<'_>, text: &Spanned<String>) -> Option<SpiffeId> {
    match SpiffeId::parse(&text.value) {
        Ok(id) => Some(id),
        Err(why) => {
            let message = format!("\"{}\" is no SPIFFE ID of a workload: {why}", text.value);
            let error = Diagnostic::error(reader.source, text.span, message);
            reader.findings.push(error.help("write spiffe://TRUST_DOMAIN/PATH"));
            None
        }
    }
}

/// Addresses that mean the same on every host or link, or many hosts at once, are nobody's on an overlay: programs on
/// cgroups never take them for the overlay's.
fn usable(reader: &mut Reader<'_>, value: &Value<'_>, addresses: &[IpAddr]) {
    for address in addresses {
        let kind = match address {
            _ if address.is_loopback() => "a loopback address",
            _ if address.is_multicast() => "a multicast address",
            IpAddr::V4(v4) if v4.is_link_local() => "a link-local address",
            IpAddr::V6(v6) if v6.is_unicast_link_local() => "a link-local address",
            IpAddr::V4(v4) if v4.octets()[0] == 0 || v4.octets()[0] >= 240 => "a reserved address",
            _ => continue,
        };
        let message = format!("{address} is {kind}, and no workload's");
        let error = Diagnostic::error(reader.source, place(value, *address), message).recent();
        reader.findings.push(error.help("take an address of a prefix that the host routes over the overlay"));
    }
}

/// Only what the host routes reaches it, and only that its key vouches for.
fn routed(reader: &mut Reader<'_>, value: &Value<'_>, addresses: &[IpAddr], host: &Node) {
    let is_routed =
        |address: &IpAddr| host.routes.iter().any(|route| route.prefix_len() > 0 && route.contains(address));
    for address in addresses.iter().filter(|address| !is_routed(address)) {
        let net = ipnet::IpNet::from(*address);
        let error = Diagnostic::error(
            reader.source,
            place(value, *address),
            format!("{} does not route {address}, the address of a workload of it", host.name),
        );
        reader.findings.push(
            error.help(format!(
                "add \"{net}\" to its routes, and on other hosts to the AllowedIPs of its key"
            )),
        );
    }
}

/// Where an address is written in a list.
fn place(list: &Value<'_>, address: IpAddr) -> Span {
    let Kind::Array(elements) = &list.kind else { return list.span };
    let is = |element: &&Value<'_>| match &element.kind {
        Kind::String(text) => text.parse() == Ok(address),
        _ => false,
    };
    elements.iter().find(is).map_or(list.span, |element| element.span)
}

fn read_matches(reader: &mut Reader<'_>, value: &Value<'_>) -> Vec<overlap::Match> {
    let Some(object) = reader.object(value, "match") else { return Vec::new() };
    let mut matches = Vec::new();
    let mut is_empty = true;
    for (field, property) in reader.fields(object, "match", &["unit", "cgroup"]) {
        // One of them may be written without a list.
        let texts = match &property.value.kind {
            Kind::String(_) => reader.string(&property.value, field).into_iter().collect(),
            _ => reader.strings(&property.value, field).unwrap_or_default(),
        };
        for text in texts {
            is_empty = false;
            let form = if field == "unit" { unit(reader, &text) } else { cgroup(reader, &text) };
            matches.extend(form.map(|form| overlap::Match { form, span: text.span }));
        }
    }
    if is_empty {
        let error = Diagnostic::error(reader.source, value.span, "the workload matches no cgroup");
        reader
            .findings
            .push(error.help("name a unit or a cgroup, for instance {\"unit\": \"NAME.service\"}"));
    }
    matches
}

fn unit(reader: &mut Reader<'_>, text: &Spanned<String>) -> Option<overlap::Form> {
    let is_typed = UNIT_TYPES.iter().any(|kind| text.value.len() > kind.len() && text.value.ends_with(kind));
    if !is_typed || text.value.contains(['/', '*']) || text.value.contains(char::is_whitespace) {
        let message = format!("\"{}\" is no name of a unit that has a cgroup", text.value);
        let error = Diagnostic::error(reader.source, text.span, message);
        reader.findings.push(error.help(format!(
            "write its whole name, which ends with {}; for names with a * write \"cgroup\", a path",
            UNIT_TYPES.join(", ")
        )));
        return None;
    }
    apart_from_host(reader, text, &format!("/{}", text.value));
    Some(overlap::Form::Unit(text.value.clone()))
}

fn cgroup(reader: &mut Reader<'_>, text: &Spanned<String>) -> Option<overlap::Form> {
    let components = text.value.strip_prefix('/').map(|rest| rest.split('/'));
    let is_good = |part: &str| !part.is_empty() && part != "." && part != "..";
    if !components.is_some_and(|mut components| components.all(is_good)) {
        let message = format!("\"{}\" is no path of a cgroup", text.value);
        let error = Diagnostic::error(reader.source, text.span, message);
        reader.findings.push(error.help(
            "write the whole path below the mount point of cgroup2, for instance /ci.slice/job-*.scope; * stands for characters of one component",
        ));
        return None;
    }
    apart_from_host(reader, text, &text.value);
    Some(overlap::Form::Cgroup(text.value.clone()))
}

/// What holds all services of a host, or all of its users', would take the agent and sshd along: nobody could log in over
/// the overlay to mend it. So would a pattern that means one of these; named without a `*` it is somebody's choice.
fn apart_from_host(reader: &mut Reader<'_>, text: &Spanned<String>, pattern: &str) {
    const HOLDING: [&str; 4] = ["/-.slice", "/system.slice", "/user.slice", "/init.scope"];
    const NEEDED: [&str; 3] =
        ["/system.slice/bulkhead.service", "/system.slice/ssh.service", "/system.slice/sshd.service"];
    let is = |path: &&&str| pattern_matches(pattern, path);
    let holding = HOLDING.iter().find(is);
    let needed = || NEEDED.iter().find(is).filter(|_| pattern.contains('*'));
    let Some(held) = holding.or_else(needed) else { return };
    let message = format!("{} would take {held} along, with the agent, sshd or whoever logs in", text.value);
    let error = Diagnostic::error(reader.source, text.span, message).recent();
    reader.findings.push(error.help(
        "nobody could log in over the overlay any more: name the unit, or put units into a slice of their own by Slice=",
    ));
}
