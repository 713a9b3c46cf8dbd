//! What is found of each address of other nodes: by the inventory, and by what was read of the interfaces.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bulkhead_api::event::{Binding, BindingState};
use bulkhead_peers::{Judgement, Key, judge};
use bulkhead_policy::inventory::{Inventory, Node};

use super::seen::Evidence;

/// What is found of one address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The node that has it.
    pub node: String,
    /// What holds.
    pub state: BindingState,
    /// The key that routes it, and where.
    pub found: Option<(Key, String)>,
}

/// Of every address of other nodes.
pub type Verdicts = BTreeMap<IpAddr, Verdict>;

/// Judges every address of nodes other than `own` and its workloads. A workload's address is bound if its host's key
/// routes it.
pub fn verdicts(inventory: &Inventory, own: &str, evidence: &Evidence) -> Verdicts {
    let others = inventory.nodes.iter().filter(|node| node.host() != own);
    let judged = others.flat_map(|node| node.addresses.iter().map(move |address| (*address, node)));
    judged
        .map(|(address, node)| (address, verdict(node, inventory.host_of(node), address, evidence)))
        .collect()
}

fn verdict(node: &Node, host: &Node, address: IpAddr, evidence: &Evidence) -> Verdict {
    let interfaces = evidence.routing.iter().map(|(name, routing)| (name, &routing.routes));
    let (state, found) = match judge(host.own_keys().map(Key), address, interfaces) {
        _ if host.key.is_none() => (BindingState::Unproven, None),
        Judgement::Bound(key, on) => (BindingState::Bound, Some((key, on.clone()))),
        Judgement::Conflicting(key, on) => (BindingState::Conflicting, Some((key, on.clone()))),
        // It may be behind an interface that nobody tells of. By the others nothing comes from it.
        Judgement::Unbound if evidence.has_unproven => (BindingState::Unproven, None),
        Judgement::Unbound => (BindingState::Unbound, None),
    };
    Verdict { node: node.name.clone(), state, found }
}

impl Verdict {
    /// Whether no rule may count for the address.
    pub fn is_refused(&self) -> bool {
        matches!(self.state, BindingState::Unbound | BindingState::Conflicting)
    }
}

/// The addresses that no rule may count for.
pub fn refused(verdicts: &Verdicts) -> BTreeSet<IpAddr> {
    verdicts.iter().filter(|(_, verdict)| verdict.is_refused()).map(|(address, _)| *address).collect()
}

/// A key as people write it.
pub fn text(key: &Key) -> String {
    STANDARD.encode(key.0)
}

/// Whose keys are whose.
pub fn holders(inventory: &Inventory) -> HashMap<Key, &str> {
    let keys = |node: &'_ Node| node.own_keys().map(Key).collect::<Vec<_>>();
    inventory.nodes.iter().flat_map(|node| keys(node).into_iter().map(|key| (key, &*node.name))).collect()
}

/// An event for each address whose state or key has changed, but for what was never refused and is not now; at most
/// `most`, the last of which has the number of the others.
pub fn changes(
    before: &Verdicts,
    now: &Verdicts,
    inventory: &Inventory,
    (enforced, generation): (bool, u32),
    most: usize,
) -> Vec<Binding> {
    let is_told = |address: &IpAddr, verdict: &Verdict| match before.get(address) {
        None => verdict.is_refused(),
        Some(before) => {
            before != verdict
                && (before.is_refused()
                    || verdict.is_refused()
                    || before.found.is_some() && verdict.found.is_some())
        }
    };
    let changed: Vec<_> = now.iter().filter(|(address, verdict)| is_told(address, verdict)).collect();
    if changed.is_empty() {
        return Vec::new();
    }
    let holders = holders(inventory);
    let event = |(address, verdict): &(&IpAddr, &Verdict)| {
        let node = inventory.node(&verdict.node).map(|node| inventory.host_of(node));
        let key = verdict.found.as_ref().map(|(key, _)| key);
        Binding {
            identity: verdict.node.clone(),
            address: **address,
            state: verdict.state,
            expected: node.into_iter().flat_map(Node::own_keys).map(|key| text(&Key(key))).collect(),
            found: key.map(text),
            holder: holder(&holders, verdict),
            interface: verdict.found.as_ref().map(|(_, on)| on.clone()),
            enforced,
            omitted: 0,
            generation,
        }
    };
    let mut events: Vec<_> = changed.iter().take(most).map(event).collect();
    if let Some(last) = events.last_mut() {
        last.omitted = (changed.len() - changed.len().min(most)) as u64;
    }
    events
}

/// Whose key routes an address, if that is another node's, and of a workload another's than its host's.
pub fn holder(holders: &HashMap<Key, &str>, verdict: &Verdict) -> Option<String> {
    let (key, _) = verdict.found.as_ref()?;
    let is_own = |name: &str| {
        let rest = verdict.node.strip_prefix(name);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    holders.get(key).filter(|name| !is_own(name)).map(|name| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bulkhead_policy::diagnostic::Findings;
    use bulkhead_policy::inventory;
    use bulkhead_policy::source::Source;

    use super::super::seen::Seen;
    use super::*;

    fn key(byte: u8) -> String {
        text(&Key([byte; 32]))
    }

    fn inventory() -> Inventory {
        let mut findings = Findings::default();
        let nodes = format!(
            r#"{{"nodes": [
                {{"name": "own", "key": "{}", "addresses": ["10.0.0.9"], "tags": ["tag:a"]}},
                {{"name": "oms", "key": "{}", "keys": ["{}"], "addresses": ["10.0.0.1", "fd00::1"], "tags": ["tag:a"]}},
                {{"name": "backup", "key": "{}", "addresses": ["10.0.0.2"], "routes": ["10.9.0.0/16"], "tags": ["tag:a"]}},
                {{"name": "plain", "addresses": ["10.0.0.3"], "tags": ["tag:a"]}}]}}"#,
            key(9),
            key(1),
            key(11),
            key(2)
        );
        inventory::parse(&Source::new("i", &nodes), &mut findings).unwrap_or_else(|| panic!("{findings}"))
    }

    fn evidence(peers: &[(u8, &str)], has_unproven: bool) -> Evidence {
        let mut seen = Seen::new(["wg0"].into_iter());
        let peers = peers.iter().map(|(key, allowed)| bulkhead_peers::Peer {
            key: Key([*key; 32]),
            allowed: allowed.split(' ').map(|prefix| prefix.parse().unwrap()).collect(),
            handshake: None,
        });
        seen.interfaces[0].routing = Arc::new(super::super::seen::Routing::of(peers.collect()));
        Evidence { has_unproven, ..seen.evidence() }
    }

    fn states(verdicts: &Verdicts) -> String {
        verdicts.values().map(|verdict| &verdict.state.name()[..3]).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn others_with_keys_are_judged_and_only_they() {
        let inventory = inventory();
        let of =
            |peers: &[(u8, &str)], unproven| states(&verdicts(&inventory, "own", &evidence(peers, unproven)));
        // In the order of addresses: oms, backup, plain, oms.
        assert_eq!(of(&[(1, "10.0.0.1/32 fd00::1/128"), (2, "10.0.0.2/32")], false), "bou bou unp bou");
        assert_eq!(
            of(&[(1, "10.0.0.1/32"), (11, "fd00::1/128"), (2, "10.0.0.2/32")], false),
            "bou bou unp bou"
        );
        assert_eq!(of(&[(1, "10.0.0.2/32"), (2, "10.0.0.1/32")], false), "con con unp unb");
        assert_eq!(of(&[(7, "0.0.0.0/0")], true), "con con unp unp");
    }

    #[test]
    fn a_workload_is_bound_by_its_hosts_key_and_that_of_the_own_node_is_own() {
        let part = |host: &str, byte: u8| {
            let key = key(byte);
            format!(
                r#"{{"name": "{host}", "key": "{key}", "addresses": ["10.0.0.{byte}"], "routes": ["10.9.0.{byte}/32"], "workloads": [
                    {{"name": "w", "addresses": ["10.9.0.{byte}"], "match": {{"unit": "w.service"}}}}]}}"#
            )
        };
        let text = format!(r#"{{"nodes": [{}, {}]}}"#, part("own", 9), part("h", 1));
        let mut findings = Findings::default();
        let inventory =
            inventory::parse(&Source::new("i", &text), &mut findings).unwrap_or_else(|| panic!("{findings}"));
        let of = |peers: &[(u8, &str)]| verdicts(&inventory, "own", &evidence(peers, false));
        let right = of(&[(1, "10.0.0.1/32 10.9.0.1/32")]);
        let found: Vec<_> = right.values().map(|verdict| (&*verdict.node, verdict.state.name())).collect();
        assert_eq!(found, [("h", "bound"), ("h/w", "bound")]);
        let wrong = of(&[(1, "10.0.0.1/32"), (2, "10.9.0.1/32")]);
        let told = changes(&right, &wrong, &inventory, (true, 7), 64);
        let [Binding { identity, expected, found, holder, .. }] = &told[..] else { panic!("{told:?}") };
        assert_eq!((&**identity, expected, found.as_ref()), ("h/w", &vec![key(1)], Some(&key(2))));
        assert_eq!(*holder, None);
        let back = changes(&wrong, &right, &inventory, (true, 7), 64);
        assert_eq!((back[0].state, back[0].holder.clone()), (BindingState::Bound, None));
    }

    #[test]
    fn a_change_names_both_keys() {
        let inventory = inventory();
        let of = |peers: &[(u8, &str)]| verdicts(&inventory, "own", &evidence(peers, false));
        let right = of(&[(1, "10.0.0.1/32 fd00::1/128"), (2, "10.0.0.2/32")]);
        let moved = of(&[(1, "fd00::1/128"), (2, "10.0.0.1/32 10.0.0.2/32")]);
        assert_eq!(refused(&moved).into_iter().collect::<Vec<_>>(), ["10.0.0.1".parse::<IpAddr>().unwrap()]);
        let told = changes(&right, &moved, &inventory, (true, 7), 64);
        assert_eq!(told.len(), 1);
        let Binding { identity, state, expected, found, holder, interface, .. } = told[0].clone();
        assert_eq!((&*identity, state, expected), ("oms", BindingState::Conflicting, vec![key(1), key(11)]));
        assert_eq!((found, holder, interface), (Some(key(2)), Some("backup".into()), Some("wg0".into())));
        let back = changes(&moved, &right, &inventory, (true, 7), 64);
        assert_eq!((back.len(), back[0].state), (1, BindingState::Bound));
        assert!(changes(&right, &right, &inventory, (true, 7), 64).is_empty());
        // At the start only what is wrong is told, and of many as many as are asked for.
        assert!(changes(&Verdicts::new(), &right, &inventory, (true, 7), 64).is_empty());
        let none = changes(&Verdicts::new(), &of(&[]), &inventory, (true, 7), 1);
        assert_eq!((none.len(), none[0].omitted), (1, 2));
        // From one own key to the other.
        let rotated = of(&[(11, "10.0.0.1/32 fd00::1/128"), (2, "10.0.0.2/32")]);
        let told = changes(&right, &rotated, &inventory, (true, 7), 64);
        assert!(refused(&rotated).is_empty());
        assert_eq!(
            (told.len(), told[0].state, told[0].found.clone()),
            (2, BindingState::Bound, Some(key(11)))
        );
    }
}
