//! The text of the first policy.

use std::collections::BTreeSet;
use std::net::IpAddr;

use bulkhead_policy::inventory::{Node, Owner};
use ipnet::IpNet;

use super::nodes::{MESH, Nodes};
use super::services::Services;
use super::text::{list, quoted, shown};

/// This host's addresses, and what peers route, in the policy.
const HERE: &str = "ipset:this-host";
const BEHIND: &str = "ipset:behind-peers";

const HEAD: &str = "\
// A first policy, as `bulkhead init` found this host. In audit mode it drops nothing: what it does not admit
// is reported (`bulkhead watch`). Admit what is missing, take away what should not be, and enforce it when
// nothing is reported that must pass.
//
// Rules are tried in order, and the first that matches decides; what none matches is dropped. Replies pass by
// themselves. A policy is for the whole mesh: each host enforces what concerns it, so name tags or users in
// place of this host as soon as the inventory has them.
";

/// The policy of a host among these nodes with these services.
pub fn policy(nodes: &Nodes, services: &Services) -> String {
    let sources = sources(nodes);
    let mut text = format!("{HEAD}{{\n");
    let tags: BTreeSet<&String> = nodes.merged.nodes.iter().flat_map(Node::tags).collect();
    if !tags.is_empty() {
        let owners: Vec<String> = tags.into_iter().map(|tag| format!("{}: []", quoted(tag))).collect();
        text += "  // The inventory's tags. Who may set them is not enforced here.\n";
        text += &format!("  \"tagOwners\": {{{}}},\n\n", owners.join(", "));
    }
    text += &sets(nodes);
    text += "  \"acls\": [\n";
    if sources.is_empty() {
        text += "    // Nobody else is known in the mesh: nobody could be admitted. This listens here:\n";
        for ((program, protocol), ports) in &services.admitted {
            let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
            text += &format!("    //   {}, {protocol} {}\n", shown(program), ports.join(","));
        }
    } else if !nodes.addresses.is_empty() {
        text += &inward(&sources, services);
        text += &outward(services);
    }
    text + "  ],\n}\n"
}

/// Everybody else in the mesh.
fn sources(nodes: &Nodes) -> Vec<String> {
    let mut sources = Vec::new();
    let others = || nodes.merged.nodes.iter().filter(|node| node.name != nodes.own && !node.jailed);
    let is_member = |login: &str| {
        let user = nodes.merged.users.iter().find(|user| user.login == login);
        !user.is_some_and(|user| user.is_outsider())
    };
    if others().any(|node| matches!(&node.owner, Owner::User(login) if is_member(login))) {
        sources.push("autogroup:member".to_owned());
    }
    let is_mesh = |node: &Node| node.tags() == [MESH];
    if others().any(|node| !node.tags().is_empty() && !is_mesh(node)) {
        sources.push("autogroup:tagged".to_owned());
    } else if others().any(is_mesh) {
        sources.push(MESH.to_owned());
    }
    if !routed(nodes).is_empty() {
        sources.push(BEHIND.to_owned());
    }
    sources
}

/// What others route, but for everything.
fn routed(nodes: &Nodes) -> BTreeSet<IpNet> {
    let others = nodes.merged.nodes.iter().filter(|node| node.name != nodes.own && !node.jailed);
    let routes = others.flat_map(|node| &node.routes);
    routes.filter(|route| route.prefix_len() != 0).copied().collect()
}

fn sets(nodes: &Nodes) -> String {
    let mut text = String::new();
    let routed = routed(nodes);
    if nodes.addresses.is_empty() && routed.is_empty() {
        return text;
    }
    text += "  \"ipsets\": {\n";
    if !nodes.addresses.is_empty() {
        let own = nodes.addresses.iter().map(ToString::to_string);
        text += &format!("    // {}, this host.\n    {}: {},\n", shown(&nodes.own), quoted(HERE), list(own));
    }
    if !routed.is_empty() {
        let routed = routed.iter().map(ToString::to_string);
        text += &format!("    // Networks that peers route.\n    {}: {},\n", quoted(BEHIND), list(routed));
    }
    text + "  },\n\n"
}

fn inward(sources: &[String], services: &Services) -> String {
    let mut text = String::new();
    if services.admitted.is_empty() {
        text += "    // Nothing listens on this host's overlay addresses.\n";
    } else {
        text += "    // What listens on this host's overlay addresses now, for everybody in the mesh: narrow \"src\".\n";
    }
    for ((program, protocol), ports) in &services.admitted {
        let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
        text += &rule(&shown(program), sources, &[format!("{HERE}:{}", ports.join(","))], protocol);
    }
    if !services.passed_over.is_empty() {
        text += "    // These wait for packets, too, and have no rule:\n";
        services.passed_over.iter().for_each(|what| text += &format!("    //   {}\n", shown(what)));
    }
    text
}

fn outward(services: &Services) -> String {
    if services.used.is_empty() {
        return "    // This host has no TCP connection to anybody in the mesh now; what it begins later is reported.\n"
            .to_owned();
    }
    let mut text = "    // Whom this host talks to by TCP now; what else it begins is reported.\n".to_owned();
    for (port, others) in &services.used {
        let end = |other: &IpAddr| match other {
            IpAddr::V4(other) => format!("{other}:{port}"),
            IpAddr::V6(other) => format!("[{other}]:{port}"),
        };
        let to: Vec<String> = others.iter().map(end).collect();
        text += &rule(&format!("to-{port}"), &[HERE.to_owned()], &to, "tcp");
    }
    text
}

fn rule(name: &str, from: &[String], to: &[String], protocol: &str) -> String {
    format!(
        "    {{\"name\": {}, \"action\": \"accept\", \"src\": {}, \"dst\": {}, \"proto\": {}}},\n",
        quoted(name),
        list(from),
        list(to),
        quoted(protocol)
    )
}
