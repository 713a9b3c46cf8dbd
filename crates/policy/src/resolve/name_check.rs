//! The definitions: groups, tag owners, and the tags that nodes carry.

use std::collections::{HashMap, HashSet};

use super::cycles::cycles;
use crate::frontend::diagnostic::{Diagnostic, Findings};
use crate::frontend::inventory::Inventory;
use crate::frontend::policy::ipset::Target;
use crate::frontend::policy::{Policy, Selector};
use crate::frontend::source::Spanned;
use crate::suggest;

/// Checks what the definitions name, used by a rule or not.
pub(super) fn check(policy: &Policy, inventory: &Inventory, findings: &mut Findings) {
    let groups: HashSet<&str> = policy.groups.iter().map(|(name, _)| name.value.as_str()).collect();
    let tags: HashSet<&str> = policy.tag_owners.iter().map(|(name, _)| name.value.as_str()).collect();
    for (name, members) in &policy.groups {
        for member in members {
            group_member(policy, &name.value, member, findings);
        }
    }
    for (_, owners) in &policy.tag_owners {
        for owner in owners {
            tag_owner(policy, owner, &groups, &tags, findings);
        }
    }
    owners_circles(policy, findings);
    ipsets(policy, findings);
    carried(inventory, &tags, findings);
}

fn group_member(policy: &Policy, group: &str, member: &Spanned<String>, findings: &mut Findings) {
    if member.value.starts_with("group:") {
        let message = format!("groups[\"{group}\"]: \"{}\": group members cannot be recursive", member.value);
        findings
            .push(Diagnostic::error(&policy.source, member.span, message).help("name its members here too"));
    } else if !matches!(Selector::parse(&member.value), Ok(Selector::User(_))) {
        let message = format!("\"{}\" cannot be a member of {group}", member.value);
        let error = Diagnostic::error(&policy.source, member.span, message);
        findings.push(error.help("members of a group are users' logins, NAME@DOMAIN"));
    }
}

fn tag_owner(
    policy: &Policy,
    owner: &Spanned<String>,
    groups: &HashSet<&str>,
    tags: &HashSet<&str>,
    findings: &mut Findings,
) {
    let (message, known) = match Selector::parse(&owner.value) {
        // One that Tailscale synchronises: it owns nothing that is enforced here.
        Ok(Selector::Group(name)) if !groups.contains(name.as_str()) && name.contains('@') => return,
        Ok(Selector::Group(name)) if !groups.contains(name.as_str()) => {
            (format!("group not found: \"{name}\""), Some(groups))
        }
        Ok(Selector::Tag(name)) if !tags.contains(name.as_str()) => {
            (format!("tag not found: \"{name}\""), Some(tags))
        }
        Ok(Selector::Group(_) | Selector::Tag(_) | Selector::User(_) | Selector::Autogroup(_)) => return,
        _ => (format!("\"{}\" cannot own a tag", owner.value), None),
    };
    let help = known.and_then(|known| suggest::did_you_mean(&owner.value, known.iter().copied()));
    let error = Diagnostic::error(&policy.source, owner.span, message)
        .help("owners of a tag are logins, groups, autogroups and other tags");
    findings.push(error.maybe_help(help));
}

/// A tag that owns itself through others has no owner at all. A tag may name itself.
fn owners_circles(policy: &Policy, findings: &mut Findings) {
    let owners: HashMap<&str, Vec<&str>> = policy
        .tag_owners
        .iter()
        .map(|(tag, owners)| {
            let tags = owners.iter().map(|owner| owner.value.as_str());
            (tag.value.as_str(), tags.filter(|name| name.starts_with("tag:") && *name != tag.value).collect())
        })
        .collect();
    let circular = cycles(&owners);
    for (tag, _) in &policy.tag_owners {
        if circular.contains(tag.value.as_str()) {
            let name = &tag.value;
            let message = format!("circular reference: \"{name}\" is among its own owners' owners");
            // Who may set a tag is about no packet.
            let warning = Diagnostic::warning(&policy.source, tag.span, message);
            findings.push(warning.help("it has no owner: name a group or a role among them"));
        }
    }
}

/// IP sets must be made of what exists, and not of themselves.
fn ipsets(policy: &Policy, findings: &mut Findings) {
    let hosts: HashSet<&str> = policy.hosts.iter().map(|(name, _)| name.value.as_str()).collect();
    let sets: HashMap<&str, Vec<&str>> = policy
        .ipsets
        .iter()
        .map(|(name, steps)| {
            let parts = steps.iter().filter_map(|step| match &step.value.target {
                Target::Set(part) => Some(part.as_str()),
                _ => None,
            });
            (name.value.as_str(), parts.collect())
        })
        .collect();
    let circular = cycles(&sets);
    for (name, steps) in &policy.ipsets {
        for step in steps {
            let (kind, wrong, help) = match &step.value.target {
                Target::Host(host) if !hosts.contains(host.as_str()) => {
                    ("host", host, suggest::did_you_mean(host, hosts.iter().copied()))
                }
                Target::Set(set) if !sets.contains_key(set.as_str()) => {
                    ("ipset", set, suggest::did_you_mean(set, sets.keys().copied()))
                }
                _ => continue,
            };
            let error =
                Diagnostic::error(&policy.source, step.span, format!("{kind} not found: \"{wrong}\""));
            findings.push(error.maybe_help(help));
        }
        if circular.contains(name.value.as_str()) {
            let message = format!("circular reference: \"{}\" is made of itself", name.value);
            findings.push(Diagnostic::error(&policy.source, name.span, message));
        }
    }
}

/// Tags that a node carries and the policy does not know.
fn carried(inventory: &Inventory, tags: &HashSet<&str>, findings: &mut Findings) {
    let mut said = HashSet::new();
    for node in &inventory.nodes {
        for tag in node.tags().iter().filter(|tag| !tags.contains(tag.as_str())) {
            if said.insert(tag.as_str()) {
                let message =
                    format!("{} carries {tag}, which the policy's tagOwners do not name", node.name);
                let warning = Diagnostic::warning(&inventory.source, node.span, message);
                let help = suggest::did_you_mean(tag, tags.iter().copied());
                findings.push(warning.maybe_help(help));
            }
        }
    }
}
