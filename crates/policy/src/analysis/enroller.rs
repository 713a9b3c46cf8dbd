//! What an enroller may say of nodes: the tags that the policy lets it give.
//!
//! Who lists nodes gives tags, and tags give access. In Tailscale's language a tag is given by those who own it, and a
//! machine that gives tags does so as a tag that owns them. The enroller is `tag:enroller`.

use crate::frontend::diagnostic::Diagnostic;
use crate::frontend::inventory::Inventory;
use crate::frontend::policy::Policy;

/// The owner whose tags the enroller gives.
pub const ENROLLER: &str = "tag:enroller";

/// The first tag in an inventory that the policy does not let the enroller give.
#[must_use]
pub fn beyond(policy: &Policy, inventory: &Inventory) -> Option<Diagnostic> {
    let may_give = |tag: &str| {
        let owners = policy.tag_owners.iter().find(|(name, _)| name.value == tag).map(|(_, owners)| owners);
        owners.is_some_and(|owners| owners.iter().any(|owner| owner.value == ENROLLER))
    };
    inventory.nodes.iter().find_map(|node| {
        let tag = node.tags().iter().find(|tag| !may_give(tag))?;
        let message =
            format!("{} has {tag}, which the policy does not let the enroller give", node.name);
        let help = format!(
            "name \"{ENROLLER}\" among its owners in tagOwners and have that signed, or take the tag off the node"
        );
        Some(Diagnostic::error(&inventory.source, node.span, message).help(help))
    })
}

#[cfg(test)]
mod tests {
    use super::beyond;
    use crate::Dialect;
    use crate::frontend::diagnostic::Findings;
    use crate::frontend::source::Source;
    use crate::frontend::{inventory, policy};

    fn found(owners: &str, nodes: &str) -> Option<String> {
        let mut findings = Findings::default();
        let text = format!(r#"{{"tagOwners": {{{owners}}}, "acls": []}}"#);
        let policy = policy::parse(&Source::new("p", &text), Dialect::Bulkhead, &mut findings).unwrap();
        let inventory =
            inventory::parse(&Source::new("i", &format!(r#"{{"nodes": [{nodes}]}}"#)), &mut findings);
        let inventory = inventory.unwrap();
        assert!(!findings.has_errors(), "{findings:?}");
        beyond(&policy, &inventory).map(|found| found.to_string())
    }

    #[test]
    fn a_tag_is_given_by_who_owns_it() {
        let owners = r#""tag:enroller": [], "tag:web": ["tag:enroller"], "tag:db": ["group:dba"], "tag:x": ["tag:web"]"#;
        let node = |tags: &str| format!(r#"{{"name": "n", "addresses": ["100.64.0.1"], "tags": [{tags}]}}"#);
        assert_eq!(found(owners, &node("")), None);
        assert_eq!(found(owners, &node(r#""tag:web""#)), None);
        // Neither one that others own, nor by way of another, nor its own, nor one that nobody knows.
        for tag in ["tag:db", "tag:x", "tag:enroller", "tag:none"] {
            let words = found(owners, &node(&format!(r#""tag:web", "{tag}""#))).unwrap();
            assert!(
                words.contains(&format!("n has {tag}, which the policy does not let the enroller give")),
                "{words}"
            );
        }
        let workload = r#"{"name": "h", "addresses": ["100.64.0.1"], "tags": [], "routes": ["10.1.0.0/24"],
            "workloads": [{"name": "app", "addresses": ["10.1.0.5"], "tags": ["tag:db"], "match": {"unit": "app.service"}}]}"#;
        assert!(found(owners, workload).unwrap().contains("h/app has tag:db"));
    }
}
