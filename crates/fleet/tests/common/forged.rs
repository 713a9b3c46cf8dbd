//! Whoever has the key that freshens, and nothing else, and publishes what others have not signed enough.

#![allow(clippy::unwrap_used)] // helpers of a test are a test

use std::sync::atomic::{AtomicU64, Ordering};

use bulkhead_fleet::digest;
use serde_json::{Value, json};

use super::{ALICE, BOB, CAROL, Files, Fleet, ONLINE, key, sign};

static FORCED: AtomicU64 = AtomicU64::new(0);

/// What is signed of a value.
pub fn canonical(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut to = serde_json::Serializer::with_formatter(&mut bytes, olpc_cjson::CanonicalFormatter::new());
    serde::Serialize::serialize(value, &mut to).unwrap();
    bytes
}

/// A signature as metadata has it.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Files as a publisher with others' words would have them: what is signed with too few keys is published all the same,
/// by whoever freshens.
pub fn forced(fleet: &Fleet, policy: &str, by: &[u8], change: impl Fn(&mut Value)) -> Files {
    let draft = fleet.propose(policy);
    sign(&draft, by);
    let files = fleet.files();
    let get = |name: &str| -> Value { serde_json::from_slice(&files[name]).unwrap() };
    let online = key(ONLINE);
    let root: Value = serde_json::from_slice(&fleet.first_root()).unwrap();
    let id = |name: &str| {
        let keys = root["signed"]["keys"].as_object().unwrap();
        keys.iter().find(|(_, key)| key["x-bulkhead-name"] == name).unwrap().0.clone()
    };
    let names = [("alice", ALICE), ("bob", BOB), ("carol", CAROL)];
    let message = draft.message().unwrap();
    let signatures: Vec<Value> = by
        .iter()
        .map(|seed| {
            let name = names.iter().find(|(_, known)| known == seed).unwrap().0;
            json!({"keyid": id(name), "sig": hex(&key(*seed).sign_bytes(&message))})
        })
        .collect();
    let mut targets =
        json!({"signed": serde_json::from_slice::<Value>(&message).unwrap(), "signatures": signatures});
    change(&mut targets);
    let mut timestamp = get("policy/metadata/timestamp.json");
    let number = timestamp["signed"]["meta"]["snapshot.json"]["version"].as_u64().unwrap();
    let mut snapshot = get(&format!("policy/metadata/{number}.snapshot.json"));
    let version = targets["signed"]["version"].as_u64().unwrap();
    let meta = |bytes: &[u8], version: u64| json!({"length": bytes.len(), "hashes": {"sha256": digest(bytes)}, "version": version});
    let sign = |value: &mut Value| {
        value["signatures"] =
            json!([{"keyid": id("online"), "sig": hex(&online.sign_bytes(&canonical(&value["signed"])))}]);
        serde_json::to_vec(value).unwrap()
    };
    let targets = serde_json::to_vec(&targets).unwrap();
    snapshot["signed"]["version"] = json!(number + 1);
    snapshot["signed"]["meta"]["targets.json"] = meta(&targets, version);
    let snapshot = sign(&mut snapshot);
    // Each is newer than the one before.
    let newer = 1 + FORCED.fetch_add(1, Ordering::Relaxed);
    timestamp["signed"]["version"] = json!(timestamp["signed"]["version"].as_u64().unwrap() + newer);
    timestamp["signed"]["meta"]["snapshot.json"] = meta(&snapshot, number + 1);
    let timestamp = sign(&mut timestamp);
    let mut files = files.clone();
    files.insert(format!("policy/metadata/{version}.targets.json"), targets);
    files.insert(format!("policy/metadata/{}.snapshot.json", number + 1), snapshot);
    files.insert("policy/metadata/timestamp.json".to_owned(), timestamp);
    files
}
