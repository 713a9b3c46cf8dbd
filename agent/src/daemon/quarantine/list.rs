//! Who is quarantined. The list is the truth; the kernel's tables follow it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bulkhead_api::quarantine::Entry;
use bulkhead_policy::inventory::{Inventory, Node};
use serde::{Deserialize, Serialize};

/// The list's file in the state directory.
pub const FILE: &str = "quarantine.json";

/// Everyone who is cut off.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct List(pub Vec<Entry>);

fn key_of(node: &Node) -> Option<String> {
    node.key.map(|key| STANDARD.encode(key))
}

fn has_key(node: &Node, text: &str) -> bool {
    node.own_keys().any(|key| STANDARD.encode(key) == text)
}

/// Those of a node, and with a host's those of its workloads.
fn all_addresses(node: &Node, inventory: &Inventory, (name, own): (&str, &BTreeSet<IpAddr>)) -> Vec<IpAddr> {
    let known = inventory.overlay_addresses(node).chain(node.underlay.iter().copied());
    let known: Vec<IpAddr> = known.collect();
    let found = own.iter().filter(|address| node.name == name && !known.contains(address));
    known.iter().chain(found).copied().collect()
}

/// Who is meant: a node by name, key or one of its addresses (then all of them are meant), or
/// an address that nobody has. `own`: the agent's own node, and the addresses of its underlay interfaces.
///
/// # Errors
/// Nobody is.
pub fn find(subject: &str, inventory: &Inventory, own: (&str, &BTreeSet<IpAddr>)) -> Result<Entry, String> {
    let entry = |node: Option<&Node>, addresses| Entry {
        subject: subject.to_owned(),
        node: node.map(|node| node.name.clone()),
        key: node.and_then(key_of),
        addresses,
        reason: None,
        since: 0,
        until: None,
        automatic: false,
        fleet: None,
    };
    let by_key = || inventory.nodes.iter().find(|node| has_key(node, subject));
    let address = subject.parse::<IpAddr>().ok().map(|address| address.to_canonical());
    let node = inventory
        .node(subject)
        .or_else(by_key)
        .or_else(|| address.and_then(|address| inventory.holder(address)))
        .or_else(|| address.filter(|address| own.1.contains(address)).and_then(|_| inventory.node(own.0)));
    match (node, address) {
        (Some(node), _) => {
            let addresses = all_addresses(node, inventory, own);
            if addresses.is_empty() {
                return Err(format!("node {} has no address that could be cut off", node.name));
            }
            Ok(entry(Some(node), addresses))
        }
        (None, Some(address)) if address.is_unspecified() => {
            Err(format!("{subject} is nobody's address; name a node, its key or one address"))
        }
        (None, Some(address)) => Ok(entry(None, vec![address])),
        (None, None) => Err(format!(
            "'{subject}' is neither a node nor a key of the inventory, nor an address; \
             `bulkhead status` and the inventory have the names"
        )),
    }
}

/// Whether a name, key or address means an entry.
fn is_meant(entry: &Entry, subject: &str) -> bool {
    let address = subject.parse::<IpAddr>().ok().map(|address| address.to_canonical());
    entry.subject == subject
        || entry.node.as_deref() == Some(subject)
        || entry.key.as_deref() == Some(subject)
        || address.is_some_and(|address| entry.addresses.contains(&address))
}

impl List {
    /// Adds an entry, in place of an earlier one about the same identity.
    pub fn add(&mut self, entry: Entry) {
        self.0.retain(|other| !other.is_about_same(&entry));
        self.0.push(entry);
    }

    /// Takes out every entry that a name, key or address means; those of the fleet only if it is not followed any more.
    pub fn remove(&mut self, subject: &str, is_followed: bool) -> Vec<Entry> {
        self.take(|entry| is_meant(entry, subject) && (entry.fleet.is_none() || !is_followed))
    }

    /// Takes out the entry of an order of the fleet.
    pub fn remove_order(&mut self, id: &str) -> Vec<Entry> {
        self.take(|entry| entry.fleet.as_ref().is_some_and(|order| order.id == id))
    }

    /// The quarantine that a note of the fleet has begun.
    pub fn of_order(&self, id: &str) -> Option<&Entry> {
        self.0.iter().find(|entry| entry.fleet.as_ref().is_some_and(|order| order.id == id))
    }

    /// What the fleet has ordered of whom a name, key or address means.
    pub fn ordered<'e>(&'e self, subject: &'e str) -> impl Iterator<Item = &'e Entry> {
        self.0.iter().filter(move |entry| entry.fleet.is_some() && is_meant(entry, subject))
    }

    /// Takes out every entry that is over.
    pub fn remove_ended(&mut self, now: u64) -> Vec<Entry> {
        self.take(|entry| entry.until.is_some_and(|until| until <= now))
    }

    fn take(&mut self, meant: impl Fn(&Entry) -> bool) -> Vec<Entry> {
        let (out, stay) = std::mem::take(&mut self.0).into_iter().partition(meant);
        self.0 = stay;
        out
    }

    /// Follows the identities: a node that an inventory knows is cut off at the addresses that
    /// it has there, one that it no longer knows at those it had. The agent's own node, by its name, is at those of its
    /// underlay interfaces as well.
    pub fn follow(&mut self, inventory: &Inventory, own: (&str, &BTreeSet<IpAddr>)) {
        for entry in &mut self.0 {
            let by_key = entry.key.as_ref().map(|key| inventory.nodes.iter().find(|node| has_key(node, key)));
            let by_name = || entry.node.as_deref().and_then(|name| inventory.node(name));
            if let Some(node) = by_key.unwrap_or_else(by_name) {
                entry.addresses = all_addresses(node, inventory, own);
                entry.node = Some(node.name.clone());
            }
        }
    }

    /// Every address that is cut off.
    #[must_use]
    pub fn addresses(&self) -> BTreeSet<IpAddr> {
        self.0.iter().flat_map(|entry| entry.addresses.iter().copied()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::IpAddr;

    use bulkhead_policy::diagnostic::Findings;
    use bulkhead_policy::inventory::{self, Inventory};
    use bulkhead_policy::source::Source;

    use bulkhead_api::quarantine::FleetOrder;

    use super::{Entry, List, find};

    const NOBODY: (&str, &BTreeSet<IpAddr>) = ("", &BTreeSet::new());

    const KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE=";

    fn inventory(nodes: &str) -> Inventory {
        let mut findings = Findings::default();
        let text = format!(r#"{{"nodes": [{nodes}]}}"#);
        inventory::parse(&Source::new("i", &text), &mut findings).unwrap_or_else(|| panic!("{findings}"))
    }

    fn engine(addresses: &str) -> String {
        format!(
            r#"{{"name": "engine", "key": "{KEY}", "addresses": [{addresses}], "underlay": ["203.0.113.7"], "tags": ["tag:e"]}}"#
        )
    }

    #[test]
    fn any_name_of_an_identity_means_all_its_addresses() {
        let inventory = inventory(&engine(r#""100.64.0.1", "fd7a::1""#));
        for subject in ["engine", KEY, "100.64.0.1", "fd7a::1", "203.0.113.7", "::ffff:100.64.0.1"] {
            let entry = find(subject, &inventory, NOBODY).unwrap();
            assert_eq!(entry.addresses.len(), 3, "{subject}");
            assert_eq!(entry.key.as_deref(), Some(KEY));
        }
        assert_eq!(find("198.51.100.1", &inventory, NOBODY).unwrap().addresses.len(), 1);
        assert!(find("engin", &inventory, NOBODY).unwrap_err().contains("neither a node"));
        assert!(find("0.0.0.0", &inventory, NOBODY).is_err());
    }

    #[test]
    fn the_agents_own_node_is_cut_off_where_its_uplinks_are() {
        let inventory = inventory(&engine(r#""100.64.0.1""#));
        let [first, second]: [IpAddr; 2] = ["192.0.2.1", "192.0.2.45"].map(|text| text.parse().unwrap());
        let (before, after) = (BTreeSet::from([first]), BTreeSet::from([second]));
        for subject in ["engine", "192.0.2.1"] {
            let mut list = List(vec![find(subject, &inventory, ("engine", &before)).unwrap()]);
            assert!(list.addresses().contains(&first) && list.addresses().len() == 3, "{subject}");
            list.follow(&inventory, ("engine", &after));
            assert!(list.addresses().contains(&second) && !list.addresses().contains(&first), "{subject}");
        }
        assert_eq!(find("engine", &inventory, ("other", &before)).unwrap().addresses.len(), 2);
    }

    #[test]
    fn a_host_is_cut_off_with_its_workloads_and_a_workload_alone() {
        let inventory = inventory(&format!(
            r#"{{"name": "h", "key": "{KEY}", "addresses": ["100.64.0.1"], "routes": ["10.9.0.0/30"], "workloads": [
                {{"name": "a", "addresses": ["10.9.0.1"], "match": {{"unit": "a.service"}}}},
                {{"name": "b", "addresses": ["10.9.0.2"], "match": {{"unit": "b.service"}}}}]}}"#
        ));
        for subject in ["h", KEY, "100.64.0.1"] {
            let entry = find(subject, &inventory, NOBODY).unwrap();
            assert_eq!((entry.node.as_deref(), entry.addresses.len()), (Some("h"), 3), "{subject}");
        }
        for subject in ["h/a", "10.9.0.1"] {
            let mut list = List(vec![find(subject, &inventory, NOBODY).unwrap()]);
            assert_eq!((list.0[0].node.as_deref(), list.0[0].key.as_deref()), (Some("h/a"), None));
            // It stays alone when the inventory is read again.
            list.follow(&inventory, NOBODY);
            assert_eq!(list.addresses(), BTreeSet::from(["10.9.0.1".parse().unwrap()]), "{subject}");
        }
    }

    #[test]
    fn an_identity_is_followed_to_its_new_addresses() {
        let before = inventory(&engine(r#""100.64.0.1""#));
        let mut list = List(vec![find("engine", &before, NOBODY).unwrap()]);
        list.follow(&inventory(&engine(r#""100.64.0.9""#)), NOBODY);
        assert_eq!(list.addresses().len(), 2);
        assert!(list.addresses().contains(&"100.64.0.9".parse().unwrap()));
        // Out of the inventory it stays cut off where it was, and a new bearer of its name is another.
        list.follow(
            &inventory(r#"{"name": "engine", "addresses": ["100.64.0.3"], "tags": ["tag:e"]}"#),
            NOBODY,
        );
        assert!(list.addresses().contains(&"100.64.0.9".parse().unwrap()));
        assert!(!list.addresses().contains(&"100.64.0.3".parse().unwrap()));
    }

    #[test]
    fn entries_end_and_are_replaced() {
        let inventory = inventory(&engine(r#""100.64.0.1""#));
        let entry = |until| Entry { until, ..find("engine", &inventory, NOBODY).unwrap() };
        let mut list = List::default();
        list.add(entry(None));
        list.add(Entry { subject: KEY.into(), ..entry(Some(5)) });
        assert_eq!(list.0.len(), 1, "one identity, one entry");
        assert!(list.remove_ended(4).is_empty());
        assert_eq!(list.remove_ended(5).len(), 1);
        list.add(entry(None));
        assert!(list.remove("other", false).is_empty());
        assert_eq!(list.remove("203.0.113.7", true).len(), 1);
    }

    #[test]
    fn the_fleets_and_this_hosts_do_not_lift_each_other() {
        let inventory = inventory(&engine(r#""100.64.0.1""#));
        let own = find("engine", &inventory, NOBODY).unwrap();
        let order = |id: &str| FleetOrder { id: id.into(), ticket: "T".into(), signers: vec!["bob".into()] };
        let of = |id: &str| Entry { fleet: Some(order(id)), ..own.clone() };
        let mut list = List::default();
        for entry in [own.clone(), of("a"), of("b"), of("a"), own.clone()] {
            list.add(entry);
        }
        assert_eq!(list.0.len(), 3, "each note is one");
        assert_eq!(list.ordered("203.0.113.7").count(), 2);
        assert_eq!(list.remove("engine", true), std::slice::from_ref(&own));
        assert!(list.remove("engine", true).is_empty() && list.remove_order("c").is_empty());
        assert_eq!(list.remove_order("a"), [of("a")]);
        assert_eq!(list.addresses().len(), 2, "another order holds");
        // Whoever follows no fleet has nobody else to lift it.
        assert_eq!(list.remove("engine", false), [of("b")]);
        assert!(list.0.is_empty());
    }
}
