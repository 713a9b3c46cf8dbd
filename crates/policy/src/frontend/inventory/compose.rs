//! What is written by hand and what sources list, as one inventory.
//!
//! What comes first stands: the file's own nodes, then each source's, in the order of the sources. A node that has the
//! name, a key or an address of an earlier one is left out with its workloads, and told: whoever may name a machine does
//! not become another by it. So is one whose routes would draw an earlier workload's packets, or whose workloads an
//! earlier node routes. Composing again takes the earlier sources' nodes out first, so that nobody stays whom no source lists.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use super::rivals::Routed;
use super::{Annotation, Inventory, Node, User, import};

/// An inventory with what sources list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Composed {
    /// The file's text.
    pub text: String,
    /// Nodes of sources that are not in it.
    pub left_out: Vec<LeftOut>,
}

/// A node that a source lists and that is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// The source.
    pub source: String,
    /// The node's name.
    pub node: String,
    /// What an earlier node has: its name, a key, an address or a route.
    pub taken: String,
    /// Who lists the earlier one; none: it is written by hand.
    pub by: Option<String>,
}

/// Whose names, keys, addresses, routes and logins are: a source's, or nobody's, whose nodes are written by hand.
#[derive(Default)]
struct Taken<'i> {
    names: HashMap<&'i str, Option<&'i str>>,
    keys: HashMap<[u8; 32], Option<&'i str>>,
    addresses: HashMap<IpAddr, Option<&'i str>>,
    /// Addresses that annotations give to keys, the first of two.
    annotated: HashMap<IpAddr, [u8; 32]>,
    routed: Routed<'i>,
    logins: HashSet<&'i str>,
}

impl<'i> Taken<'i> {
    /// What an earlier node has of a host or of a workload of it, and who lists that.
    fn conflict(&self, host: &Node, workloads: &[&Node]) -> Option<(String, Option<&'i str>)> {
        let mut nodes = std::iter::once(host).chain(workloads.iter().copied());
        nodes.find_map(|node| self.claimed(node)).or_else(|| self.routed.rival(host, workloads))
    }

    /// What of a node an earlier one has, and who lists that.
    fn claimed(&self, node: &Node) -> Option<(String, Option<&'i str>)> {
        let name = self.names.get(&*node.name).map(|by| (format!("the name {}", node.name), *by));
        let key = || node.own_keys().find_map(|key| Some(("its key".to_owned(), *self.keys.get(&key)?)));
        let mut addresses = node.addresses.iter().chain(&node.underlay);
        let address = || {
            addresses.find_map(|held| {
                let of_another =
                    self.annotated.get(held).filter(|key| node.own_keys().all(|own| own != **key));
                let by = self.addresses.get(held).copied().or_else(|| of_another.map(|_| None))?;
                Some((format!("the address {held}"), by))
            })
        };
        name.or_else(key).or_else(address)
    }

    fn add(&mut self, node: &'i Node, by: Option<&'i str>) {
        self.names.insert(&node.name, by);
        self.keys.extend(node.own_keys().map(|key| (key, by)));
        self.addresses.extend(node.addresses.iter().chain(&node.underlay).map(|address| (*address, by)));
    }

    /// The addresses of an annotation that its node gets: those that nobody else has.
    fn free(&self, node: &Node, known: &Annotation) -> Vec<IpAddr> {
        let mut free: Vec<IpAddr> = Vec::new();
        for address in &known.underlay {
            let is_own = node.addresses.contains(address) || node.underlay.contains(address);
            let is_taken =
                self.addresses.contains_key(address) || self.annotated.get(address) != Some(&known.key);
            if !is_own && !is_taken && !free.contains(address) {
                free.push(*address);
            }
        }
        free
    }

    /// Whether a user is new; its aliases are those that mean nobody yet.
    fn add_user(&mut self, user: &'i User) -> Option<Vec<String>> {
        if !self.logins.insert(&user.login) {
            return None;
        }
        let is_free = |alias: &&'i String| self.logins.insert(alias) || **alias == user.login;
        Some(user.aliases.iter().filter(is_free).cloned().collect())
    }
}

/// Puts what sources list, each by its name, behind what an inventory has by hand. What sources listed before is taken
/// out of it.
#[must_use]
pub fn compose(base: &Inventory, sources: &[(&str, &Inventory)]) -> Composed {
    let mut taken = Taken::default();
    let mut nodes: Vec<Node> = Vec::new();
    let annotations: HashMap<_, _> = base.annotations.iter().map(|known| (known.key, known)).collect();
    for node in base.nodes.iter().filter(|node| node.source.is_none()) {
        taken.add(node, None);
        if node.workload.is_none() {
            taken.routed.add(node, &base.workloads_of(&node.name).collect::<Vec<_>>(), None);
        }
        nodes.push(node.clone());
    }
    for known in &base.annotations {
        for address in &known.underlay {
            taken.annotated.entry(*address).or_insert(known.key);
        }
    }
    let mut users = base.users.as_ref().map(|_| Vec::new());
    for user in base.users.iter().flatten().filter(|user| user.source.is_none()) {
        taken.logins.insert(&user.login);
        taken.logins.extend(user.aliases.iter().map(String::as_str));
        users.get_or_insert_default().push(user.clone());
    }
    let mut left_out = Vec::new();
    for (name, listed) in sources {
        for node in listed.nodes.iter().filter(|node| node.workload.is_none()) {
            let workloads: Vec<&Node> = listed.workloads_of(&node.name).collect();
            if let Some((what, by)) = taken.conflict(node, &workloads) {
                let (source, by) = ((*name).to_owned(), by.map(str::to_owned));
                left_out.push(LeftOut { source, node: node.name.clone(), taken: what, by });
                continue;
            }
            let known = node.own_keys().find_map(|key| annotations.get(&key)).copied();
            let known = known.map(|known| (known, taken.free(node, known)));
            taken.add(node, Some(name));
            taken.addresses.extend(known.iter().flat_map(|(_, free)| free).map(|free| (*free, Some(*name))));
            taken.routed.add(node, &workloads, Some(name));
            let source = Some((*name).to_owned());
            nodes.push(Node { source: source.clone(), ..annotated(node, known) });
            for workload in workloads {
                taken.add(workload, Some(name));
                nodes.push(Node { source: source.clone(), ..workload.clone() });
            }
        }
        for user in listed.users.iter().flatten() {
            if let Some(aliases) = taken.add_user(user) {
                let source = Some((*name).to_owned());
                users.get_or_insert_default().push(User { aliases, source, ..user.clone() });
            }
        }
    }
    Composed { text: import::text(&nodes, users.as_deref(), &base.annotations), left_out }
}

/// A node with what only people know of it.
fn annotated(node: &Node, known: Option<(&Annotation, Vec<IpAddr>)>) -> Node {
    let mut node = node.clone();
    if let Some((known, underlay)) = known {
        node.underlay.extend(underlay);
        let mut posture = known.posture.clone();
        posture.extend(node.posture);
        node.posture = posture;
    }
    node
}

/// What of an inventory is the same in another one, for when that cannot be enforced: nodes and users of sources that
/// the other does not have, or has otherwise, are left out. `own` stays: without it nothing could be enforced.
#[must_use]
pub fn common(enforced: &Inventory, other: &Inventory, own: &str) -> String {
    let is_same = |node: &&Node| {
        let is_kept = node.source.is_none() || node.name == own;
        is_kept || other.node(&node.name).is_some_and(|other| import::line_of(node) == import::line_of(other))
    };
    let nodes: Vec<Node> = enforced.nodes.iter().filter(is_same).cloned().collect();
    let listed: HashSet<(&str, &[String])> =
        other.users.iter().flatten().map(|user| (&*user.login, &*user.roles)).collect();
    let is_known = |user: &&User| user.source.is_none() || listed.contains(&(&*user.login, &*user.roles));
    let users = enforced.users.as_ref();
    let users: Option<Vec<User>> = users.map(|users| users.iter().filter(is_known).cloned().collect());
    import::text(&nodes, users.as_deref(), &enforced.annotations)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frontend::diagnostic::Findings;
    use crate::frontend::source::Source;
    use base64::Engine as _;
    use base64::prelude::BASE64_STANDARD;

    fn inventory(text: &str) -> Inventory {
        let mut findings = Findings::default();
        let parsed = super::super::parse(&Source::new("test", text), &mut findings).unwrap();
        assert!(!findings.has_errors(), "{findings}");
        parsed
    }

    fn key(number: u8) -> String {
        BASE64_STANDARD.encode([number; 32])
    }

    fn node(name: &str, number: u8, more: &str) -> String {
        let key = key(number);
        format!(r#"{{"name": "{name}", "key": "{key}", "addresses": ["10.0.0.{number}"], "tags": []{more}}}"#)
    }

    fn names(inventory: &Inventory) -> Vec<(&str, Option<&str>)> {
        inventory.nodes.iter().map(|node| (&*node.name, node.source.as_deref())).collect()
    }

    #[test]
    fn what_comes_first_stands_and_what_is_left_out_is_told() {
        let base = inventory(&format!(r#"{{"nodes": [{}, {}]}}"#, node("a", 1, ""), node("b", 2, "")));
        let again = format!(r#"{{"name": "new", "key": "{}", "addresses": ["10.0.0.77"]}}"#, key(2));
        let address = r#"{"name": "thief", "addresses": ["10.0.0.9", "10.0.0.1"]}"#;
        let one =
            format!(r#"{{"nodes": [{}, {again}, {address}, {}]}}"#, node("a", 66, ""), node("c", 3, ""));
        let (one, other) = (inventory(&one), inventory(&format!(r#"{{"nodes": [{}]}}"#, node("c", 4, ""))));
        let composed = compose(&base, &[("one", &one), ("other", &other)]);
        assert_eq!(names(&inventory(&composed.text)), [("a", None), ("b", None), ("c", Some("one"))]);
        let told: Vec<_> =
            composed.left_out.iter().map(|left| (&*left.node, &*left.taken, left.by.as_deref())).collect();
        let expected = [
            ("a", "the name a", None),
            ("new", "its key", None),
            ("thief", "the address 10.0.0.1", None),
            ("c", "the name c", Some("one")),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn composing_again_is_composing_once_and_keeps_nobody_whom_no_source_lists() {
        let posture = r#", "posture": {"custom:ok": true}"#;
        let base = format!(
            r#"{{"nodes": [{}], "users": [{{"login": "root@x", "roles": ["admin"]}}],
                "annotations": [{{"key": "{}", "underlay": ["192.0.2.7"], "posture": {{"custom:ok": false, "custom:rack": "4"}}}}]}}"#,
            node("a", 1, ""),
            key(7)
        );
        let base = inventory(&base);
        let full = format!(
            r#"{{"nodes": [{}, {}], "users": [{{"login": "u@x", "aliases": ["root@x", "u"]}}]}}"#,
            node("n", 7, posture),
            node("m", 8, "")
        );
        let full = inventory(&full);
        let first = compose(&base, &[("tailnet", &full)]);
        let read = inventory(&first.text);
        assert_eq!(compose(&read, &[("tailnet", &full)]), first);
        let n = read.node("n").unwrap();
        assert_eq!(n.underlay, ["192.0.2.7".parse::<IpAddr>().unwrap()]);
        assert_eq!(n.posture["custom:ok"], serde_json::Value::Bool(true), "the source knows better");
        assert!(n.posture.contains_key("custom:rack"));
        let users: Vec<_> = read.users.iter().flatten().collect();
        assert_eq!((users[0].roles.join(","), users[0].source.is_none()), ("admin".to_owned(), true));
        assert_eq!((&*users[1].login, users[1].aliases.join(","), users.len()), ("u@x", "u".to_owned(), 2));

        // The source knows less of one and nothing of the other.
        let fewer = inventory(&format!(r#"{{"nodes": [{}]}}"#, node("n", 7, "")));
        let later = compose(&read, &[("tailnet", &fewer)]);
        assert_eq!(later, compose(&base, &[("tailnet", &fewer)]));
        let later = inventory(&later.text);
        assert_eq!(names(&later), [("a", None), ("n", Some("tailnet"))]);
        assert_eq!(later.node("n").unwrap().posture["custom:ok"], serde_json::Value::Bool(false));
        // Without its source nobody is left of it.
        assert_eq!(names(&inventory(&compose(&later, &[]).text)), [("a", None)]);
    }

    #[test]
    fn an_annotation_gives_no_address_that_another_has() {
        let annotation =
            |number: u8, address: &str| format!(r#"{{"key": "{}", "underlay": ["{address}"]}}"#, key(number));
        let base = inventory(&format!(
            r#"{{"nodes": [{}], "annotations": [{}, {}, {}, {}]}}"#,
            node("a", 1, r#", "underlay": ["192.0.2.1"]"#),
            annotation(7, "192.0.2.1"),
            annotation(8, "192.0.2.8"),
            annotation(9, "192.0.2.8"),
            annotation(5, "10.0.0.5")
        ));
        let thief = r#"{"name": "thief", "addresses": ["192.0.2.8"]}"#;
        let listed = [node("own", 5, ""), node("n", 7, ""), node("o", 9, ""), node("p", 8, "")].join(", ");
        let listed = inventory(&format!(r#"{{"nodes": [{thief}, {listed}]}}"#));
        let composed = compose(&base, &[("tailnet", &listed)]);
        let read = inventory(&composed.text);
        let underlay = |name: &str| read.node(name).unwrap().underlay.len();
        assert_eq!([underlay("own"), underlay("n"), underlay("o"), underlay("p")], [0, 0, 0, 1]);
        assert_eq!((composed.left_out.len(), &*composed.left_out[0].node), (1, "thief"));
    }

    #[test]
    fn what_two_have_in_common_has_nobody_who_is_gone_or_another() {
        let base = inventory(&format!(r#"{{"nodes": [{}]}}"#, node("a", 1, "")));
        let before = list(&[node("own", 2, ""), node("b", 3, ""), node("c", 4, ""), node("d", 5, "")]);
        let enforced = inventory(&compose(&base, &[("t", &before)]).text);
        let after = list(&[
            node("b", 3, ""),
            node("c", 4, r#", "expires": "2020-01-01T00:00:00Z""#),
            node("e", 6, ""),
        ]);
        let other = inventory(&compose(&base, &[("t", &after)]).text);
        let left = inventory(&common(&enforced, &other, "own"));
        assert_eq!(names(&left), [("a", None), ("own", Some("t")), ("b", Some("t"))]);
    }

    fn host(name: &str, number: u8, routes: &str, workload: &str) -> String {
        let part =
            format!(r#"{{"name": "app", "addresses": ["{workload}"], "match": {{"unit": "app.service"}}}}"#);
        node(name, number, &format!(r#", "routes": ["{routes}"], "workloads": [{part}]"#))
    }

    fn router(name: &str, number: u8, routes: &str) -> String {
        node(name, number, &format!(r#", "routes": ["{routes}"]"#))
    }

    fn list(nodes: &[String]) -> Inventory {
        inventory(&format!(r#"{{"nodes": [{}]}}"#, nodes.join(", ")))
    }

    #[test]
    fn whose_routes_rival_an_earlier_workload_is_left_out_whichever_comes_first() {
        let host = || host("web-1", 1, "10.1.0.0/24", "10.1.0.5");
        for (route, rivals) in [
            ("10.1.0.0/24", true),
            ("10.1.0.5/32", true),
            ("10.1.0.4/31", true),
            ("10.0.0.0/8", false),
            ("0.0.0.0/0", false),
            ("10.1.0.6/32", false),
            ("10.2.0.0/24", false),
            ("::/0", false),
        ] {
            let (base, other) = (list(&[host()]), list(&[router("n8", 8, route), node("n9", 9, "")]));
            let composed = compose(&base, &[("cmdb", &other)]);
            // Whatever it lists, all of what is composed can be enforced.
            let read = inventory(&composed.text);
            assert_eq!((read.node("n8").is_none(), read.node("n9").is_some()), (rivals, true), "{route}");
            assert_eq!(composed.left_out.len(), usize::from(rivals), "{route}");
            if let [left] = &composed.left_out[..] {
                let expected = format!("the address 10.1.0.5, in the route {route} of n8");
                assert_eq!((&*left.node, &*left.taken, &left.by), ("n8", &*expected, &None));
            }

            let (base, other) = (list(&[router("n8", 8, route)]), list(&[host(), node("n9", 9, "")]));
            let composed = compose(&base, &[("cmdb", &other)]);
            let read = inventory(&composed.text);
            assert_eq!((read.node("web-1").is_none(), read.node("n9").is_some()), (rivals, true), "{route}");
            assert_eq!(read.node("web-1/app").is_none(), rivals, "{route}");
            if let [left] = &composed.left_out[..] {
                let expected = format!("the route {route}, with the address 10.1.0.5 of web-1/app in it");
                assert_eq!((&*left.node, &*left.taken), ("web-1", &*expected));
            }
        }
        // Of two sources the first stands.
        let (one, other) = (list(&[host()]), list(&[router("n8", 8, "10.1.0.0/25")]));
        let composed = compose(&list(&[]), &[("one", &one), ("other", &other)]);
        assert_eq!(composed.left_out[0].by.as_deref(), Some("one"));
        inventory(&composed.text);
    }

    #[test]
    fn a_host_that_is_left_out_has_no_workloads_by_its_name_and_none_stays_without_its_host() {
        // The file's web-1 does not get a workload by what a source names web-1.
        let base = list(&[router("web-1", 1, "10.1.0.0/24")]);
        let other = list(&[host("web-1", 2, "10.1.0.0/24", "10.1.0.5"), node("n9", 9, "")]);
        let composed = compose(&base, &[("cmdb", &other)]);
        assert_eq!(names(&inventory(&composed.text)), [("web-1", None), ("n9", Some("cmdb"))]);
        assert_eq!((composed.left_out.len(), &*composed.left_out[0].taken), (1, "the name web-1"));
        // A workload with another's address: its host could not be told from it.
        let base = list(&[r#"{"name": "a", "addresses": ["10.1.0.5"], "tags": []}"#.to_owned()]);
        let composed = compose(&base, &[("cmdb", &other)]);
        assert_eq!(names(&inventory(&composed.text)), [("a", None), ("n9", Some("cmdb"))]);
        assert_eq!(composed.left_out[0].taken, "the address 10.1.0.5");
    }
}
