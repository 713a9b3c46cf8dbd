//! What an enroller may say of nodes: the tags that the policy lets it give, and neither roles nor posture.
//!
//! Who lists nodes gives tags, and tags give access. In Tailscale's language a tag is given by those who own it, and a
//! machine that gives tags does so as a tag that owns them. The enroller is `tag:enroller`. Roles of users and posture give
//! access as well, and nothing in that language says who gives them: the enroller does not.

use std::collections::{BTreeMap, HashSet};

use crate::frontend::diagnostic::Diagnostic;
use crate::frontend::inventory::{Annotation, Inventory, Node, Owner, SHARED, User, written};
use crate::frontend::policy::Policy;
use crate::frontend::policy::posture::Attributes;
use crate::frontend::source::Span;

/// The owner whose tags the enroller gives.
pub const ENROLLER: &str = "tag:enroller";

/// The role that each user has anyway.
const MEMBER: &str = "member";

/// The first thing in an inventory that the policy does not let the enroller say.
#[must_use]
pub fn beyond(policy: &Policy, inventory: &Inventory) -> Option<Diagnostic> {
    let given = Given::by(policy);
    let of_node = |node: &Node| {
        let tag = given.tag_beyond(node)?;
        let message = format!("{} has {tag}, which the policy does not let the enroller give", node.name);
        let help = format!(
            "name \"{ENROLLER}\" among its owners in tagOwners and have that signed, or take the tag off the node"
        );
        Some(Diagnostic::error(&inventory.source, node.span, message).help(help))
    };
    inventory.nodes.iter().find_map(of_node).or_else(|| beyond_any(inventory))
}

/// The first thing in an inventory that no policy lets the enroller say: posture, or roles of users.
#[must_use]
pub fn beyond_any(inventory: &Inventory) -> Option<Diagnostic> {
    let error = |span, message: String, help: &str| {
        Some(Diagnostic::error(&inventory.source, span, message).help(help.to_owned()))
    };
    let attribute = |node: &Node| node.posture.keys().next().cloned();
    if let Some((node, attribute)) =
        inventory.nodes.iter().find_map(|node| attribute(node).map(|attribute| (node, attribute)))
    {
        let message = format!("{} has the posture {attribute}, which the enroller does not give", node.name);
        return error(node.span, message, "take it off the node; sources of hosts say it");
    }
    let start = Span::default();
    if let Some(user) = inventory.users.iter().flatten().find(|user| gives_role(user)) {
        let message = format!(
            "{} has the roles {}, which the enroller does not give",
            user.login,
            user.roles.join(", ")
        );
        return error(start, message, "take them off the user; sources of hosts say them");
    }
    let known = inventory.annotations.iter().find(|known| !known.posture.is_empty())?;
    let attribute = known.posture.keys().next()?;
    let message = format!("an annotation has the posture {attribute}, which the enroller does not give");
    error(start, message, "take it off; sources of hosts say it")
}

/// An inventory without what the policy does not let the enroller say: nodes that have such tags or posture are left out
/// with their workloads, and so are roles of users. The node `own`, without which nothing could be enforced, stays as
/// nobody's. And the names of those nodes.
#[must_use]
pub fn within(policy: &Policy, inventory: &Inventory, own: &str) -> (String, Vec<String>) {
    let given = Given::by(policy);
    let is_beyond = |node: &&Node| given.tag_beyond(node).is_some() || !node.posture.is_empty();
    let host =
        |node: &Node| node.workload.as_ref().map_or_else(|| node.name.clone(), |part| part.host.clone());
    let hosts: HashSet<String> = inventory.nodes.iter().filter(is_beyond).map(host).collect();
    let nodes = inventory.nodes.iter().filter_map(|node| {
        let host = host(node);
        if !hosts.contains(&host) {
            return Some(node.clone());
        }
        let (owner, posture) = (Owner::Tags(Vec::new()), Attributes::new());
        let nobodys = Node { owner, posture, posture_expires: BTreeMap::new(), ..node.clone() };
        (host == own).then_some(nobodys)
    });
    let nodes: Vec<Node> = nodes.collect();
    let without = |user: &User| User {
        roles: if gives_role(user) { Vec::new() } else { user.roles.clone() },
        ..user.clone()
    };
    let users: Option<Vec<User>> = inventory.users.as_ref().map(|users| users.iter().map(without).collect());
    let bare = |known: &Annotation| Annotation { posture: Attributes::new(), ..known.clone() };
    let annotations: Vec<Annotation> = inventory.annotations.iter().map(bare).collect();
    let mut names: Vec<String> = hosts.into_iter().collect();
    names.sort();
    (written(&nodes, users.as_deref(), &annotations), names)
}

fn gives_role(user: &User) -> bool {
    user.roles.iter().any(|role| role != MEMBER && role != SHARED)
}

/// Tags that the enroller gives.
struct Given<'p>(HashSet<&'p str>);

impl<'p> Given<'p> {
    fn by(policy: &'p Policy) -> Self {
        let owned = policy.tag_owners.iter();
        let own = owned.filter(|(_, owners)| owners.iter().any(|owner| owner.value == ENROLLER));
        Self(own.map(|(name, _)| &*name.value).collect())
    }

    /// The first tag of a node that is none of these.
    fn tag_beyond<'n>(&self, node: &'n Node) -> Option<&'n String> {
        node.tags().iter().find(|tag| !self.0.contains(&***tag))
    }
}

#[cfg(test)]
mod tests {
    use super::{beyond, beyond_any, within};
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

    #[test]
    fn roles_and_posture_are_nobodys_to_give() {
        let both = |inventory: &str| {
            let mut findings = Findings::default();
            let text = r#"{"tagOwners": {"tag:enroller": [], "tag:web": ["tag:enroller"]}, "acls": []}"#;
            let policy = policy::parse(&Source::new("p", text), Dialect::Bulkhead, &mut findings).unwrap();
            let inventory = inventory::parse(&Source::new("i", inventory), &mut findings).unwrap();
            assert!(!findings.has_errors(), "{findings:?}");
            (policy, inventory)
        };
        let found = |inventory: &str| {
            let (policy, inventory) = both(inventory);
            let found = beyond(&policy, &inventory).map(|found| found.to_string());
            assert_eq!(found, beyond_any(&inventory).map(|found| found.to_string()));
            found.unwrap_or_default()
        };
        let node = |name: &str, end: u8, more: &str| {
            format!(r#"{{"name": "{name}", "addresses": ["100.64.0.{end}"], {more}}}"#)
        };
        let user =
            |roles: &str| format!(r#"{{"nodes": [], "users": [{{"login": "m@x", "roles": [{roles}]}}]}}"#);
        assert_eq!(found(&user("")), "");
        assert_eq!(found(&user(r#""member""#)), "");
        let words = found(&user(r#""member", "admin""#));
        assert!(
            words.contains("m@x has the roles member, admin, which the enroller does not give"),
            "{words}"
        );
        let posture = node("n", 1, r#""tags": [], "posture": {"custom:ok": true}"#);
        let words = found(&format!(r#"{{"nodes": [{posture}]}}"#));
        assert!(words.contains("n has the posture custom:ok, which the enroller does not give"), "{words}");
        let key = "jTxfSyoZCAcW9eTTwrGg/w4dLDtKWWh3hpWEc2JRQK8=";
        let words = found(&format!(
            r#"{{"nodes": [], "annotations": [{{"key": "{key}", "posture": {{"custom:ok": true}}}}]}}"#
        ));
        assert!(words.contains("an annotation has the posture custom:ok"), "{words}");

        let nodes = [
            node("own", 1, r#""tags": ["tag:web", "tag:db"]"#),
            node("good", 2, r#""tags": ["tag:web"]"#),
            node("bad", 3, r#""tags": ["tag:db"]"#),
            posture.replace("100.64.0.1", "100.64.0.4"),
        ];
        let text = format!(
            r#"{{"nodes": [{}], "users": [{{"login": "m@x", "roles": ["admin"]}}],
                "annotations": [{{"key": "{key}", "posture": {{"custom:ok": true}}}}]}}"#,
            nodes.join(", ")
        );
        let (policy, inventory) = both(&text);
        // A tag depends on the policy.
        assert!(beyond(&policy, &inventory).unwrap().to_string().contains("own has tag:db"));
        assert!(beyond_any(&inventory).unwrap().to_string().contains("n has the posture"));
        let (text, names) = within(&policy, &inventory, "own");
        assert_eq!(names, ["bad", "n", "own"]);
        let (policy, inventory) = both(&text);
        assert!(beyond(&policy, &inventory).is_none());
        let left: Vec<_> = inventory.nodes.iter().map(|node| (&*node.name, node.tags().len())).collect();
        assert_eq!(left, [("own", 0), ("good", 1)]);
    }
}
