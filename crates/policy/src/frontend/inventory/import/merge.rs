//! What a list says, and what was written by hand.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};

use super::{Import, Listed, Merged};
use crate::frontend::diagnostic::{Diagnostic, Findings, Severity};
use crate::frontend::inventory::{Inventory, Node, Owner, User, Workload};
use crate::frontend::source::Span;

/// Puts a list in the place of an inventory, which keeps what the list does not say: underlay
/// addresses, posture attributes of one's own, roles, and nodes without a key. A node with a key
/// that is no longer listed is gone; that is told.
pub fn merge(import: Import, existing: Option<&Inventory>, findings: &mut Findings) -> Merged {
    let old = existing.map_or(&[][..], |inventory| &inventory.nodes);
    let known = known(&import.nodes, old);
    let taken: HashSet<usize> = known.iter().filter_map(|known| Some(known.as_ref()?.index)).collect();
    let listed: HashSet<String> = import.nodes.iter().map(|listed| listed.name.clone()).collect();
    let mut nodes = Vec::with_capacity(import.nodes.len());
    // What nodes of the inventory are called now.
    let mut renamed: HashMap<&str, String> = HashMap::new();
    for (listed, known) in import.nodes.into_iter().zip(known) {
        let before = known.as_ref().map(|known| &old[known.index]);
        if let (Some(before), Some(Known { by_name: true, .. })) = (before, known) {
            by_name_alone(&listed, before, findings);
        }
        if let Some(before) = before {
            renamed.insert(&*before.name, listed.name.clone());
        }
        nodes.push(joined(listed, before));
    }
    let left = old.iter().enumerate().filter(|(index, _)| !taken.contains(index)).map(|(_, node)| node);
    for node in left.clone().filter(|node| node.workload.is_none()) {
        match (node.key.is_some(), listed.contains(&node.name)) {
            (true, true) => {
                let message = format!(
                    "{} is another machine now, with another key and not of the same owner: nothing that the inventory says of \
                     the one before is kept",
                    node.name
                );
                let note = Diagnostic::global(Severity::Note, message);
                findings.push(note.help("if it is the same machine, write its key into the inventory"));
            }
            (true, false) => {
                let message = format!("{} is no longer listed, and left out", node.name);
                findings.push(Diagnostic::global(Severity::Note, message));
            }
            (false, true) => {
                let message = format!(
                    "{} is a node of the inventory without a key, and a machine of another owner in the list",
                    node.name
                );
                let error = Diagnostic::global(Severity::Error, message);
                findings.push(
                    error.help("rename one of them; if they are one, write its key into the inventory"),
                );
            }
            (false, false) => {
                renamed.insert(&node.name, node.name.clone());
                nodes.push(node.clone());
            }
        }
    }
    // Workloads go with their hosts.
    for (node, own) in left.filter_map(|node| Some((node, node.workload.as_deref()?))) {
        let Some(host) = renamed.get(&*own.host) else {
            let message = format!("{} is left out with its host", node.name);
            findings.push(Diagnostic::global(Severity::Note, message));
            continue;
        };
        let name = format!("{host}/{}", own.name);
        let own = Workload { host: host.clone(), ..own.clone() };
        nodes.push(Node { name, workload: Some(Box::new(own)), ..node.clone() });
    }
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    let known = existing.and_then(|inventory| inventory.users.clone()).unwrap_or_default();
    let mut users: BTreeMap<String, User> = BTreeMap::new();
    // Roles add up: one that was given by hand is not the list's to take away.
    for user in known.into_iter().chain(import.users) {
        match users.entry(user.login.clone()) {
            Entry::Vacant(entry) => drop(entry.insert(user)),
            Entry::Occupied(mut entry) => {
                let known = entry.get_mut();
                for (all, more) in [(&mut known.roles, user.roles), (&mut known.aliases, user.aliases)] {
                    for one in more {
                        if !all.contains(&one) {
                            all.push(one);
                        }
                    }
                }
            }
        }
    }
    one_meaning(&mut users, findings);
    Merged { nodes, users: users.into_values().collect() }
}

/// Leaves out aliases that mean more than one user: then nobody is meant.
fn one_meaning(users: &mut BTreeMap<String, User>, findings: &mut Findings) {
    let mut owners: BTreeMap<String, usize> = users.keys().map(|login| (login.clone(), 1)).collect();
    for alias in users.values().flat_map(|user| &user.aliases) {
        *owners.entry(alias.clone()).or_default() += 1;
    }
    users.values_mut().for_each(|user| user.aliases.retain(|alias| owners[alias] == 1));
    for (name, _) in owners.iter().filter(|(_, count)| **count > 1) {
        let message = format!("{name} would mean more than one user, so it means none by its other name");
        let note = Diagnostic::global(Severity::Note, message);
        findings.push(note.help("policies name such users by their addresses"));
    }
}

/// Which node of an inventory a listed one was.
struct Known {
    index: usize,
    /// Its name alone tells, not its key.
    by_name: bool,
}

/// Which node of the inventory each listed one was. A key is who it is. Names are for those whose key nobody
/// has, and for the same owner only: whoever may name a machine must not get what belongs to another.
fn known(listed: &[Listed], old: &[Node]) -> Vec<Option<Known>> {
    let by_key: HashMap<[u8; 32], usize> =
        (0..).zip(old).flat_map(|(index, node)| node.own_keys().map(move |key| (key, index))).collect();
    let by_name: HashMap<&str, usize> = (0..)
        .zip(old)
        .filter(|(_, node)| node.workload.is_none())
        .map(|(index, node)| (node.name.as_str(), index))
        .collect();
    let mut taken = HashSet::new();
    let of_key = |listed: &Listed| {
        let index = *by_key.get(&listed.key?)?;
        taken.insert(index).then_some(Known { index, by_name: false })
    };
    let mut known: Vec<Option<Known>> = listed.iter().map(of_key).collect();
    for (listed, known) in listed.iter().zip(&mut known).filter(|(_, known)| known.is_none()) {
        // Who is nobody's is not the same nobody's.
        let nobodys = |owner: &Owner| matches!(owner, Owner::Tags(tags) if tags.is_empty());
        let same = |owner: &Owner, index: usize| owner.is(&old[index].owner) && !nobodys(owner);
        let same_owner = |index: &usize| listed.owner.as_ref().is_none_or(|owner| same(owner, *index));
        let index = by_name.get(listed.name.as_str()).copied().filter(same_owner);
        *known = index.filter(|index| taken.insert(*index)).map(|index| Known { index, by_name: true });
    }
    known
}

/// Tells what a machine keeps because it is called as one before.
fn by_name_alone(listed: &Listed, before: &Node, findings: &mut Findings) {
    let is_own = |attribute: &String| !listed.posture.contains_key(attribute);
    let kept = [
        (listed.key.is_none() && before.key.is_some(), "key"),
        (listed.owner.is_none(), "owner"),
        (listed.addresses.is_none() && !before.addresses.is_empty(), "addresses"),
        (listed.routes.is_none() && !before.routes.is_empty(), "routes"),
        (!before.underlay.is_empty(), "underlay addresses"),
        (before.posture.keys().any(is_own), "posture attributes"),
        (listed.expires.is_none() && before.expires.is_some(), "expiry"),
    ];
    let kept: Vec<&str> = kept.into_iter().filter(|(is_kept, _)| *is_kept).map(|(_, what)| what).collect();
    if kept.is_empty() {
        return;
    }
    let message = format!(
        "{} has a key that the inventory does not have, and keeps by its name what it says: {}",
        listed.name,
        kept.join(", ")
    );
    let note = Diagnostic::global(Severity::Note, message);
    findings.push(note.help("if it is another machine, take that out of the inventory"));
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
    let key = listed.key.or_else(|| known.and_then(|node| node.key));
    // The list has the key in use; the other ones of a change stay until somebody takes them out.
    let is_own = known.is_some_and(|node| node.own_keys().any(|own| Some(own) == key));
    let keys = known.filter(|_| is_own).into_iter().flat_map(Node::own_keys);
    let keys = keys.filter(|own| Some(*own) != key).collect();
    let posture_expires =
        listed.posture_expires.into_iter().filter(|(name, _)| posture.contains_key(name)).collect();
    Node {
        name: listed.name,
        key,
        keys,
        addresses,
        underlay: known.map(|node| node.underlay.clone()).unwrap_or_default(),
        routes,
        owner: owner.unwrap_or(Owner::Tags(Vec::new())),
        posture,
        posture_expires,
        expires: listed.expires.unwrap_or_else(|| known.and_then(|node| node.expires)),
        jailed: listed.jailed.unwrap_or_else(|| known.is_some_and(|node| node.jailed)),
        source: None,
        workload: None,
        span: Span::default(),
    }
}
