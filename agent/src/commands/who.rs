//! Whom a word of the command line means: a node, a user, a host, a selector or an address.

use std::collections::BTreeSet;
use std::net::IpAddr;

use bulkhead_policy::address::AddressSet;
use bulkhead_policy::inventory::{Inventory, Node};
use bulkhead_policy::resolve::Ruleset;
use ipnet::IpNet;

use crate::exit::Usage;

/// How many names are offered where none fits.
const OFFERED: usize = 20;

/// The addresses that a word stands for: those of nodes, and of a prefix that no node is in, its first.
///
/// # Errors
/// Nobody is called so, with what to write.
pub fn addresses(ruleset: &Ruleset, inventory: &Inventory, who: &str) -> Result<Vec<IpAddr>, Usage> {
    let network = ruleset.network;
    let of = |nodes: Vec<&Node>| -> Vec<IpAddr> {
        nodes.into_iter().flat_map(|node| node.addresses_on(network)).copied().collect()
    };
    if let Some(node) = inventory.node(who) {
        let host = ruleset.hosts.iter().find(|(name, _)| name == who).map(|(_, net)| net);
        // A rule that names it means the host.
        let is_other =
            |net: &&IpNet| !node.addresses.iter().chain(&node.underlay).any(|own| net.contains(own));
        if let Some(net) = host.filter(is_other) {
            return Err(Usage(format!(
                "{who} is a node, and in hosts it is {net}, which is what a rule means; name an address of either"
            )));
        }
        return match of(vec![node]) {
            none if none.is_empty() => {
                Err(Usage(format!("{who} has no underlay address: list them in the inventory")))
            }
            some => Ok(some),
        };
    }
    let bare = who.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(who);
    if let Ok(address) = bare.parse() {
        return Ok(vec![address]);
    }
    let login = who.to_lowercase();
    let login = inventory.login_of(&login).map_or(login.clone(), str::to_owned);
    let means = |node: &&Node| {
        node.user() == Some(&*login)
            || node.tags().iter().any(|tag| tag == who)
            || node.spiffe().is_some_and(|id| id.as_str() == who)
    };
    let mut all = of(inventory.nodes.iter().filter(means).collect());
    if all.is_empty() {
        let host = ruleset.hosts.iter().find(|(name, _)| name == who);
        let host = host.map(|(_, net)| AddressSet::from_prefixes([net]));
        let named = ruleset.selectors.iter().find(|selector| selector.label == who);
        let set = host.or_else(|| named.map(|selector| selector.set.clone())).unwrap_or_default();
        let held = |node: &&Node| node.addresses_on(network).iter().any(|address| set.contains(*address));
        all = of(inventory.nodes.iter().filter(held).collect());
        all.retain(|address| set.contains(*address));
        if all.is_empty() {
            all.extend(set.first().filter(|address| !address.is_unspecified()));
        }
    }
    if all.is_empty() { Err(unknown(ruleset, inventory, who)) } else { Ok(all) }
}

fn unknown(ruleset: &Ruleset, inventory: &Inventory, who: &str) -> Usage {
    let nodes = inventory.nodes.iter().map(|node| node.name.as_str());
    let hosts = ruleset.hosts.iter().map(|(name, _)| name.as_str());
    let labels = ruleset.selectors.iter().map(|selector| selector.label.as_str());
    let names: BTreeSet<&str> =
        nodes.take(OFFERED).chain(hosts.take(OFFERED)).chain(labels.take(OFFERED)).collect();
    let names: Vec<&str> = names.into_iter().take(2 * OFFERED).collect();
    Usage(format!(
        "\"{who}\" is nobody here: no node, no user with a device, no host, no selector of a rule and no address; there are {}",
        names.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use bulkhead_policy::check::{Loaded, Scope};
    use bulkhead_policy::source::Source;

    use super::*;

    #[test]
    fn every_kind_of_name_is_somebody() {
        let policy = r#"{"tagOwners": {"tag:a": []}, "hosts": {"db": "10.1.0.0/16", "one": "100.64.0.2"},
            "groups": {"group:g": ["bob@x.y"]},
            "acls": [{"action": "accept", "src": ["group:g", "autogroup:member"], "dst": ["tag:a:80", "db:80"]}]}"#;
        let inventory = r#"{"nodes": [{"name": "b1", "addresses": ["100.64.0.1"], "user": "bob@x.y"},
            {"name": "b2", "addresses": ["100.64.0.2"], "user": "bob@x.y"},
            {"name": "a1", "addresses": ["100.64.0.3"], "tags": ["tag:a"], "routes": ["100.64.9.0/24"],
             "workloads": [{"name": "w", "addresses": ["100.64.9.1"], "spiffe": "spiffe://x/w", "match": {"unit": "w.service"}}]}],
            "users": [{"login": "bob@x.y", "aliases": ["bobby@"]}]}"#;
        let load = |policy: &str| {
            let inventory = Some(Source::new("i", inventory));
            let loaded = Loaded::new(Source::new("p", policy), inventory, &Scope::default());
            (loaded.ruleset.unwrap(), loaded.inventory.unwrap())
        };
        let (ruleset, inventory) = load(policy);
        let of = |who: &str| {
            let found = addresses(&ruleset, &inventory, who).map_err(|error| error.0);
            found.map(|all| all.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
        };
        for (who, wanted) in [
            ("b1", "100.64.0.1"),
            ("[fd7a::1]", "fd7a::1"),
            ("Bob@x.y", "100.64.0.1 100.64.0.2"),
            ("Bobby@", "100.64.0.1 100.64.0.2"),
            ("group:g", "100.64.0.1 100.64.0.2"),
            ("autogroup:member", "100.64.0.1 100.64.0.2"),
            ("tag:a", "100.64.0.3"),
            ("a1/w", "100.64.9.1"),
            ("spiffe://x/w", "100.64.9.1"),
            ("db", "10.1.0.0"),
            ("one", "100.64.0.2"),
        ] {
            assert_eq!(of(who).as_deref(), Ok(wanted), "{who}");
        }
        // A node's name that is a host's too: one of them is meant, unless it is the same.
        for (address, clash) in [("100.64.0.2", true), ("100.64.0.1", false)] {
            let (ruleset, inventory) =
                load(&policy.replace(r#""one": "100.64.0.2""#, &format!(r#""b1": "{address}""#)));
            match addresses(&ruleset, &inventory, "b1") {
                Ok(found) => assert!(!clash && found.len() == 1),
                Err(error) => {
                    assert!(clash && error.0.contains("in hosts it is 100.64.0.2/32"), "{}", error.0);
                }
            }
        }
        for nobody in ["zoe@x.y", "tag:b", "dbb", ""] {
            assert!(of(nobody).unwrap_err().contains("is nobody here"), "{nobody}");
        }
    }
}
