//! What a list says, and what was written by hand.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{Import, Listed, Merged};
use crate::diagnostic::{Diagnostic, Findings, Severity};
use crate::inventory::{Inventory, Node, Owner, User};
use crate::source::Span;

/// Puts a list in the place of an inventory, which keeps what the list does not say: underlay
/// addresses, posture attributes of one's own, roles, and nodes without a key. A node with a key
/// that is no longer listed is gone; that is told.
pub fn merge(import: Import, existing: Option<&Inventory>, findings: &mut Findings) -> Merged {
    let old = existing.map_or(&[][..], |inventory| &inventory.nodes);
    let by_key: HashMap<[u8; 32], usize> =
        (0..).zip(old).filter_map(|(index, node)| Some((node.key?, index))).collect();
    let by_name: HashMap<&str, usize> =
        (0..).zip(old).map(|(index, node)| (node.name.as_str(), index)).collect();
    let mut taken = HashSet::new();
    let mut nodes = Vec::with_capacity(import.nodes.len());
    for listed in import.nodes {
        // A key is who it is; a name may be given to another machine.
        let known = listed.key.and_then(|key| by_key.get(&key)).or_else(|| by_name.get(listed.name.as_str()));
        let known = known.copied().filter(|index| taken.insert(*index));
        nodes.push(joined(listed, known.map(|index| &old[index])));
    }
    for (index, node) in old.iter().enumerate().filter(|(index, _)| !taken.contains(index)) {
        if node.key.is_none() {
            nodes.push(old[index].clone());
            continue;
        }
        let message = format!("{} is no longer listed, and left out", node.name);
        findings.push(Diagnostic::global(Severity::Note, message));
    }
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    let known = existing.and_then(|inventory| inventory.users.clone()).unwrap_or_default();
    let mut users: BTreeMap<String, Vec<String>> = BTreeMap::new();
    // Roles add up: one that was given by hand is not the list's to take away.
    for user in known.into_iter().chain(import.users) {
        let roles = users.entry(user.login).or_default();
        for role in user.roles {
            if !roles.contains(&role) {
                roles.push(role);
            }
        }
    }
    let users = users.into_iter().map(|(login, roles)| User { login, roles }).collect();
    Merged { nodes, users }
}

/// The list's word where it has one.
fn joined(listed: Listed, known: Option<&Node>) -> Node {
    let mut posture = known.map(|node| node.posture.clone()).unwrap_or_default();
    posture.extend(listed.posture);
    let mut addresses =
        listed.addresses.or_else(|| known.map(|node| node.addresses.clone())).unwrap_or_default();
    let mut routes = listed.routes.or_else(|| known.map(|node| node.routes.clone())).unwrap_or_default();
    let owner = listed.owner.or_else(|| known.map(|node| node.owner.clone()));
    addresses.sort_unstable();
    routes.sort_unstable();
    routes.dedup();
    Node {
        name: listed.name,
        key: listed.key.or_else(|| known.and_then(|node| node.key)),
        addresses,
        underlay: known.map(|node| node.underlay.clone()).unwrap_or_default(),
        routes,
        owner: owner.unwrap_or(Owner::Tags(Vec::new())),
        posture,
        expires: listed.expires.unwrap_or_else(|| known.and_then(|node| node.expires)),
        span: Span::default(),
    }
}
