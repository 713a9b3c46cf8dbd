//! Names, keys and addresses that two nodes claim.

use std::collections::HashMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::{Inventory, Node};
use crate::frontend::diagnostic::{Diagnostic, Findings};
use crate::frontend::json::{self, Kind, Value};
use crate::frontend::source::{Source, Span};

/// Of one node, claims that are told each with its place: finding it reads the node again.
const TOLD: usize = 16;

/// Nodes that claim what an earlier one has are errors and left out.
pub(super) fn check(inventory: Inventory, findings: &mut Findings) -> Inventory {
    // Each with how often that was told.
    let mut refused = HashMap::new();
    let nodes = &inventory.nodes;
    let mut twice = |first: u32, second: u32, what: &str, written: &str| {
        let told = refused.entry(second).or_insert(0);
        *told += 1;
        if *told > TOLD {
            return;
        }
        let (owner, claimant) = (&nodes[first as usize], &nodes[second as usize]);
        let whom = if first == second {
            format!("{} twice", owner.name)
        } else if owner.name == claimant.name {
            format!("two nodes named {}", owner.name)
        } else {
            format!("{} and by {}", owner.name, claimant.name)
        };
        let source = &inventory.source;
        let place = |node, nth| place(source, node, written, nth);
        let error = Diagnostic::error(
            source,
            place(claimant, usize::from(first == second)),
            format!("{what} is held by {whom}"),
        );
        findings.push(
            error
                .related(source, place(owner, 0), "first given here")
                .help("an address or key stands for one identity: remove it from one of them"),
        );
    };
    for pair in inventory.by_name.windows(2) {
        let name = &nodes[pair[0] as usize].name;
        if *name == nodes[pair[1] as usize].name {
            twice(pair[0], pair[1], "the name", name);
        }
    }
    for pair in inventory.by_address.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
        let address = pair[0].0.to_string();
        twice(pair[0].1, pair[1].1, &address, &address);
    }
    let keys = (0..).zip(nodes).flat_map(|(index, node)| node.own_keys().map(move |key| (key, index)));
    let mut keys: Vec<([u8; 32], u32)> = keys.collect();
    keys.sort_unstable();
    for pair in keys.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
        twice(pair[0].1, pair[1].1, "the key", &BASE64_STANDARD.encode(pair[0].0));
    }
    if refused.is_empty() {
        return inventory;
    }
    let kept = (0..).zip(inventory.nodes).filter(|(index, _)| !refused.contains_key(index));
    let nodes = kept.map(|(_, node)| node).collect();
    let annotations = inventory.annotations;
    Inventory { annotations, ..Inventory::new(inventory.source, nodes, inventory.users) }
}

/// Where a node says `written` for the nth time (counting from 0), else the whole node. An
/// address may be written in another of its forms.
fn place(source: &Source, node: &Node, written: &str, nth: usize) -> Span {
    let mut found = Vec::new();
    if let Some(value) = json::again(source, node.span) {
        strings(&value, &mut |text, span| {
            let same = text == written
                || text.parse::<std::net::IpAddr>().is_ok_and(|address| address.to_string() == written);
            if same {
                found.push(Span { start: node.span.start + span.start, end: node.span.start + span.end });
            }
        });
    }
    found.get(nth).copied().unwrap_or(node.span)
}

/// Every string of the fields that only one node may have.
fn strings(value: &Value<'_>, each: &mut impl FnMut(&str, Span)) {
    match &value.kind {
        Kind::String(text) => each(text, value.span),
        Kind::Array(elements) => elements.iter().for_each(|element| strings(element, each)),
        Kind::Object(object) => {
            let claims = ["name", "key", "keys", "addresses", "underlay"];
            let members = object.members.iter().filter(|member| claims.contains(&&*member.name));
            members.for_each(|member| strings(&member.value, each));
        }
        Kind::Number(_) | Kind::Boolean(_) | Kind::Null => {}
    }
}
