//! The inventory of a fleet directory, as the enroller and `remove` change it: drafted, signed and published.

use std::path::PathBuf;
use std::sync::Mutex;

use bulkhead_channel::Offer;
use bulkhead_fleet::{Publication, Repository, Tree};
use serde_json::{Value, json};

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

/// An inventory that is changed here alone.
pub(super) struct Roster {
    tree: Tree,
    signing: Signing,
    /// One change at a time.
    busy: Mutex<()>,
}

type Told = Result<(), String>;

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

impl Roster {
    pub(super) fn new(directory: &std::path::Path, signing: Signing) -> Self {
        Self { tree: Tree::new(directory), signing, busy: Mutex::new(()) }
    }

    /// The inventory that is published; one without nodes if there is none.
    fn read(&self) -> Result<Value, String> {
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

    /// Drafts, signs and publishes.
    fn publish(&self, inventory: &Value) -> Told {
        let lines = serde_json::to_string_pretty(inventory).map_err(text)?;
        let draft = self.tree.propose(Repository::Inventory, &lines, now(), true).map_err(text)?;
        let mut key = Key::find(Some(&self.signing.key)).map_err(text)?;
        let signature = key.sign_bytes(&draft.message().map_err(text)?).map_err(text)?;
        draft.add(&key.public(), &signature).map_err(text)?;
        let mut online = Key::find(Some(&self.signing.online_key)).map_err(text)?;
        let public = online.public();
        let how = Publication { share: None, fresh: FRESH, now: now() };
        let mut sign = |bytes: &[u8]| online.sign_bytes(bytes).map_err(text);
        self.tree.publish(Repository::Inventory, &public, &mut sign, how).map_err(text).map(drop)
    }

    /// Takes a node out. Whether it was there.
    pub(super) fn remove(&self, node: &str) -> Result<bool, String> {
        let _turn = self.busy.lock().map_err(text)?;
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

/// Whether a node of the inventory stands in an offer's way.
fn in_the_way(inventory: &Value, offer: &Offer) -> Told {
    let nodes = inventory["nodes"].as_array().map(Vec::as_slice).unwrap_or_default();
    for node in nodes {
        if node["name"] == *offer.node {
            // The same again: an answer was lost.
            if node["addresses"] == json!(offer.addresses) && node["tags"] == json!(offer.tags) {
                return Ok(());
            }
            return Err(format!(
                "the inventory has another node {}: `bulkhead fleet remove` it first",
                offer.node
            ));
        }
        let addresses = node["addresses"].as_array().map(Vec::as_slice).unwrap_or_default();
        if let Some(taken) = offer.addresses.iter().find(|address| addresses.contains(&json!(address))) {
            return Err(format!("{taken} is the address of {}", node["name"]));
        }
    }
    Ok(())
}

impl bulkhead_channel::Roll for Roster {
    fn check(&self, offer: &Offer) -> Told {
        let _turn = self.busy.lock().map_err(text)?;
        in_the_way(&self.read()?, offer)
    }

    fn add(&self, offer: &Offer, wireguard: Option<&str>) -> Told {
        let _turn = self.busy.lock().map_err(text)?;
        let mut inventory = self.read()?;
        in_the_way(&inventory, offer)?;
        let Some(nodes) = inventory["nodes"].as_array_mut() else { return Ok(()) };
        let entry = entry(offer, wireguard);
        if nodes.iter().any(|node| node["name"] == *offer.node) {
            return Ok(());
        }
        nodes.push(entry);
        self.publish(&inventory)
    }
}

#[cfg(test)]
mod tests {
    use bulkhead_channel::Offer;
    use serde_json::json;

    use super::in_the_way;

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
    }
}
