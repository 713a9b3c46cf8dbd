//! The inventory of a fleet directory, as the enroller and `remove` change it: drafted, signed and published.

use std::net::IpAddr;
use std::path::PathBuf;

use bulkhead_channel::Offer;
use bulkhead_fleet::{Publication, Repository, Tree};
use bulkhead_policy::Dialect;
use bulkhead_policy::diagnostic::Severity;
use bulkhead_policy::source::Source;
use serde_json::{Value, json};

use super::bundle::checked;
use super::memory::Remembered;
use super::now;
use crate::commands::grants::key::Key;

/// How long what is published is fresh, in seconds.
const FRESH: i64 = 3 * 24 * 60 * 60;

/// Who signs.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Signing {
    /// The key that signs inventories: a private key.
    #[arg(long, value_name = "FILE")]
    pub(super) key: PathBuf,
    /// The key that freshens: a private key.
    #[arg(long, value_name = "FILE")]
    pub(super) online_key: PathBuf,
}

/// An inventory that the enroller and `remove` change, one at a time.
pub(super) struct Roster {
    tree: Tree,
    signing: Signing,
    remembered: Remembered,
    /// The policy's language.
    dialect: Dialect,
}

type Told = Result<(), String>;

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

impl Roster {
    pub(super) fn new(
        directory: &std::path::Path,
        signing: Signing,
        remembered: Remembered,
        dialect: Dialect,
    ) -> Self {
        Self { tree: Tree::new(directory), signing, remembered, dialect }
    }

    /// The inventory that is published; one without nodes if there is none.
    fn read(&self) -> Result<Value, String> {
        self.remembered.goes_on(&self.tree).map_err(text)?;
        let Some((_, published)) = self.tree.bundle(Repository::Inventory).map_err(text)? else {
            return Ok(json!({ "nodes": [] }));
        };
        let inventory: Value = serde_json::from_str(&published).map_err(|error| {
            format!("the inventory that is published is not plain JSON, and is not changed here: {error}")
        })?;
        if inventory.get("nodes").is_some_and(Value::is_array) {
            Ok(inventory)
        } else {
            Err("the inventory that is published has no list of nodes".to_owned())
        }
    }

    /// An inventory's text, if hosts take it with the policy that is published, as `bulkhead fleet sign` checks it: one
    /// that they do not take keeps all later ones from them, too.
    fn taken(&self, inventory: &Value) -> Result<String, String> {
        let lines = serde_json::to_string_pretty(inventory).map_err(text)?;
        let policy = self.tree.bundle(Repository::Policy).map_err(text)?;
        let (version, policy) =
            policy.ok_or("no policy is published yet, which says what tags may be given")?;
        let policy = Source::new(&format!("policy version {version}"), &policy);
        let loaded = checked(policy, Some(Source::new("the new inventory", &lines)), self.dialect);
        let fault = loaded.findings.0.iter().find(|found| found.severity == Severity::Error);
        match fault {
            Some(fault) => Err(format!("no host would take the inventory: {}", fault.message)),
            None => Ok(lines),
        }
    }

    /// Drafts, signs and publishes.
    fn publish(&self, inventory: &Value) -> Told {
        let lines = self.taken(inventory)?;
        let draft = self.tree.propose(Repository::Inventory, &lines, now(), true).map_err(text)?;
        let mut key = Key::find(Some(&self.signing.key)).map_err(text)?;
        let signature = key.sign_bytes(&draft.message().map_err(text)?).map_err(text)?;
        draft.add(&key.public(), &signature).map_err(text)?;
        let mut online = Key::find(Some(&self.signing.online_key)).map_err(text)?;
        let public = online.public();
        let how = Publication { share: None, fresh: FRESH, now: now() };
        let mut sign = |bytes: &[u8]| online.sign_bytes(bytes).map_err(text);
        self.tree.publish(Repository::Inventory, &public, &mut sign, how).map_err(text)?;
        self.remembered.goes_on(&self.tree).map_err(text).map(drop)
    }

    /// The inventory with a node more; none if it is there.
    fn with(&self, offer: &Offer, wireguard: Option<&str>) -> Result<Option<Value>, String> {
        let mut inventory = self.read()?;
        in_the_way(&inventory, offer)?;
        let Some(nodes) = inventory["nodes"].as_array_mut() else { return Ok(None) };
        if nodes.iter().any(|node| node["name"] == *offer.node) {
            return Ok(None);
        }
        nodes.push(entry(offer, wireguard));
        Ok(Some(inventory))
    }

    /// Takes a node out. Whether it was there.
    pub(super) fn remove(&self, node: &str) -> Result<bool, String> {
        let _alone = self.tree.alone().map_err(text)?;
        let mut inventory = self.read()?;
        let Some(nodes) = inventory["nodes"].as_array_mut() else { return Ok(false) };
        let before = nodes.len();
        nodes.retain(|entry| entry["name"] != node);
        if nodes.len() == before {
            return Ok(false);
        }
        self.publish(&inventory)?;
        Ok(true)
    }
}

/// The entry that an offer comes to.
fn entry(offer: &Offer, wireguard: Option<&str>) -> Value {
    let mut entry = json!({ "name": offer.node, "addresses": offer.addresses, "tags": offer.tags });
    if let Some(key) = wireguard {
        entry["key"] = key.into();
    }
    entry
}

/// A node's addresses.
fn listed(node: &Value) -> impl Iterator<Item = IpAddr> {
    let addresses = node["addresses"].as_array().map(Vec::as_slice).unwrap_or_default();
    addresses.iter().filter_map(|address| address.as_str()?.parse().ok())
}

/// Whether a node of the inventory stands in an offer's way.
fn in_the_way(inventory: &Value, offer: &Offer) -> Told {
    let nodes = inventory["nodes"].as_array().map(Vec::as_slice).unwrap_or_default();
    // As values: one address has many spellings.
    let offered = || offer.addresses.iter().filter_map(|address| address.parse::<IpAddr>().ok());
    for node in nodes {
        if node["name"] == *offer.node {
            // The same again: an answer was lost.
            if listed(node).eq(offered()) && node["tags"] == json!(offer.tags) {
                return Ok(());
            }
            return Err(format!(
                "the inventory has another node {}: `bulkhead fleet remove` it first",
                offer.node
            ));
        }
        if let Some(taken) = listed(node).find(|address| offered().any(|offered| offered == *address)) {
            return Err(format!("{taken} is the address of {}", node["name"]));
        }
    }
    Ok(())
}

impl bulkhead_channel::Roll for Roster {
    fn check(&self, offer: &Offer, wireguard: Option<&str>) -> Told {
        let _alone = self.tree.alone().map_err(text)?;
        self.with(offer, wireguard)?.map_or(Ok(()), |inventory| self.taken(&inventory).map(drop))
    }

    fn add(&self, offer: &Offer, wireguard: Option<&str>) -> Told {
        let _alone = self.tree.alone().map_err(text)?;
        self.with(offer, wireguard)?.map_or(Ok(()), |inventory| self.publish(&inventory))
    }
}

#[cfg(test)]
mod tests {
    use bulkhead_channel::{Offer, Roll as _};
    use bulkhead_fleet::{Holder, Keyholders, Publication, Repository, Tree};
    use bulkhead_grants::SecretKey;
    use bulkhead_policy::Dialect;
    use serde_json::json;

    use super::{Roster, Signing, in_the_way};
    use crate::commands::fleet::memory::Remembered;
    use crate::commands::fleet::now;
    use crate::commands::grants::key::Key;

    #[test]
    fn nobody_takes_anothers_name_or_address() {
        let inventory = json!({ "nodes": [{ "name": "a", "addresses": ["100.64.0.1"], "tags": ["tag:x"] }] });
        let offer = |node: &str, address: &str, tag: &str| Offer {
            node: node.to_owned(),
            addresses: vec![address.to_owned()],
            tags: vec![tag.to_owned()],
        };
        assert!(in_the_way(&inventory, &offer("b", "100.64.0.2", "tag:x")).is_ok());
        assert!(in_the_way(&inventory, &offer("a", "100.64.0.1", "tag:x")).is_ok(), "the same again");
        assert!(in_the_way(&inventory, &offer("a", "100.64.0.1", "tag:y")).is_err());
        assert!(in_the_way(&inventory, &offer("b", "100.64.0.1", "tag:x")).is_err());
        let inventory = json!({ "nodes": [{ "name": "a", "addresses": ["fd00::1"], "tags": ["tag:x"] }] });
        assert!(
            in_the_way(&inventory, &offer("b", "FD00:0::0001", "tag:x")).is_err(),
            "one in two spellings"
        );
        assert!(in_the_way(&inventory, &offer("a", "fd00:0::1", "tag:x")).is_ok());
    }

    fn seeded(seed: u8) -> SecretKey {
        SecretKey::from_seed(&[seed; 32])
    }

    /// A fleet directory with a policy and an inventory in force, signed by keys of the test's own.
    fn publish(tree: &Tree, bundles: [(Repository, &str); 2], key: &dyn Fn(u8) -> SecretKey) {
        let holder = |name: &str, seed| Holder::new(name, key(seed).public()).unwrap();
        let keyholders = Keyholders {
            people: vec![holder("alice", 1), holder("bob", 2), holder("carol", 3)],
            threshold: 2,
            enroller: holder("enroller", 4),
            online: holder("online", 5),
        };
        tree.begin(&keyholders, now()).unwrap();
        for (repository, bundle) in bundles {
            tree.propose(repository, bundle, now(), true).unwrap();
        }
        // Roots come first, and may bring more to sign.
        for draft in tree.waiting().unwrap() {
            for seed in [1, 2, 4] {
                if draft.holder(&key(seed).public()).is_some() {
                    let signature = Key::File(key(seed)).sign_bytes(&draft.message().unwrap()).unwrap();
                    draft.add(&key(seed).public(), &signature).unwrap();
                }
            }
        }
        for repository in Repository::ALL {
            let mut sign =
                |bytes: &[u8]| Key::File(key(5)).sign_bytes(bytes).map_err(|error| error.to_string());
            let how = Publication { share: None, fresh: 3_600, now: now() };
            tree.publish(repository, &key(5).public(), &mut sign, how).unwrap();
        }
    }

    /// An inventory that no host takes keeps all later ones from them: an invitation must not bring one about.
    #[test]
    fn what_no_host_would_take_is_refused_before_the_invitation_counts_as_used() {
        let directory = tempfile::tempdir().unwrap();
        let used = "q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA=";
        let policy = r#"{"tagOwners": {"tag:enroller": [], "tag:web": ["tag:enroller"], "tag:db": ["group:dba"]},
            "groups": {"group:dba": ["ann@example.com"]},
            "acls": [{"action": "accept", "src": ["tag:web"], "dst": ["tag:web:443"]}]}"#;
        let inventory = json!({ "nodes": [
            { "name": "a", "key": used, "addresses": ["100.64.0.1"], "tags": ["tag:web"] },
        ] });
        let bundles = [(Repository::Policy, policy), (Repository::Inventory, &*inventory.to_string())];
        publish(&Tree::new(directory.path()), bundles, &seeded);
        let signing = Signing { key: "no-key".into(), online_key: "no-key".into() };
        let state = tempfile::tempdir().unwrap();
        let remembered = Remembered::at(state.path());
        let roster = Roster::new(directory.path(), signing, remembered, Dialect::Bulkhead);
        let offer = |node: &str, address: &str, tag: &str| Offer {
            node: node.to_owned(),
            addresses: vec![address.to_owned()],
            tags: vec![tag.to_owned()],
        };
        let good = offer("b", "100.64.0.2", "tag:web");
        let free = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
        assert_eq!(roster.check(&good, None), Ok(()));
        assert_eq!(roster.check(&good, Some(free)), Ok(()));
        for (offer, key) in [
            (good.clone(), Some("not a key")),
            (good, Some(used)),
            (offer("b", "100.64.0.2", "tag:db"), None),
            (offer("b", "100.64.0.2", "tag:none"), None),
        ] {
            let refused = roster.check(&offer, key).expect_err(&format!("{offer:?} {key:?}"));
            assert!(!refused.contains("no-key"), "{refused}");
            assert_eq!(roster.add(&offer, key), Err(refused));
        }
    }
    #[test]
    fn enrolments_and_removals_at_the_same_time_lose_nothing() {
        let (directory, keys) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let file = |name: &str| keys.path().join(name);
        for name in ["enroller", "online"] {
            let mut keygen = std::process::Command::new("ssh-keygen");
            keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(file(name));
            assert!(keygen.status().unwrap().success());
        }
        let key = |seed: u8| match seed {
            4 => SecretKey::parse(&std::fs::read_to_string(file("enroller")).unwrap()).unwrap(),
            5 => SecretKey::parse(&std::fs::read_to_string(file("online")).unwrap()).unwrap(),
            seed => seeded(seed),
        };
        let policy = r#"{"tagOwners": {"tag:enroller": [], "tag:web": ["tag:enroller"]},
            "acls": [{"action": "accept", "src": ["tag:web"], "dst": ["tag:web:443"]}]}"#;
        let old: Vec<_> = (1..7)
            .map(|number| json!({ "name": format!("old-{number}"), "addresses": [format!("100.64.1.{number}")], "tags": [] }))
            .collect();
        let inventory = json!({ "nodes": old }).to_string();
        let tree = Tree::new(directory.path());
        publish(&tree, [(Repository::Policy, policy), (Repository::Inventory, &inventory)], &key);
        let roster = || {
            let signing = Signing { key: file("enroller"), online_key: file("online") };
            Roster::new(directory.path(), signing, Remembered::at(keys.path()), Dialect::Bulkhead)
        };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                (1..7).for_each(|number| assert!(roster().remove(&format!("old-{number}")).unwrap()));
            });
            scope.spawn(|| {
                for number in 1..7 {
                    let offer = Offer {
                        node: format!("new-{number}"),
                        addresses: vec![format!("100.64.2.{number}")],
                        tags: vec!["tag:web".to_owned()],
                    };
                    assert_eq!(roster().add(&offer, None), Ok(()));
                }
            });
        });
        let (version, text) = tree.bundle(Repository::Inventory).unwrap().unwrap();
        let listed: serde_json::Value = serde_json::from_str(&text).unwrap();
        let mut names: Vec<&str> =
            listed["nodes"].as_array().unwrap().iter().map(|node| node["name"].as_str().unwrap()).collect();
        names.sort_unstable();
        assert_eq!(names, ["new-1", "new-2", "new-3", "new-4", "new-5", "new-6"]);
        assert_eq!(version, 13);
    }
}
