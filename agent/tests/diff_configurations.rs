//! `bulkhead diff` of two agents' configurations: what a change of agent.toml lets pass.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

const INVENTORY: &str = r#"{"nodes": [
    {"name": "a", "addresses": ["100.64.0.1"], "tags": ["tag:a"]},
    {"name": "b", "addresses": ["100.64.0.2"], "tags": ["tag:b"]}]}"#;

const POLICY: &str = r#"{"tagOwners": {"tag:a": [], "tag:b": []},
    "acls": [{"action": "accept", "src": ["tag:b"], "dst": ["tag:a:443"]}]}"#;

const OLD: &str = r#"node = "a"
policy = "policy.hujson"
inventory = "inventory.json"
[[management]]
from = ["192.0.2.9"]
ports = [22]
[[interface]]
name = "wg0"
[[interface]]
name = "uplink-of-nobody"
role = "underlay"
link = ["dhcp"]
wireguard = { port = 51820, peers = ["192.0.2.3"] }
outbound = [{ proto = "udp", to = ["192.0.2.53"], ports = [53] }]
"#;

fn diff(directory: &Path, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bulkhead"))
        .current_dir(directory)
        .arg("diff")
        .args(words)
        .output()
        .expect("bulkhead runs")
}

fn text(output: &Output) -> String {
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

/// Two configurations beside one policy.
fn beside(new: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    let files =
        [("policy.hujson", POLICY), ("inventory.json", INVENTORY), ("old.toml", OLD), ("new.toml", new)];
    for (name, text) in files {
        std::fs::write(directory.path().join(name), text).expect("a file");
    }
    directory
}

const BOTH: [&str; 4] = ["--old-config", "old.toml", "--config", "new.toml"];

#[test]
fn flows_of_a_changed_configuration_are_named_by_interface_role() {
    let new = OLD
        .replace("\"192.0.2.9\"", "\"192.0.2.9\", \"100.64.0.2\"")
        .replace("[\"dhcp\"]", "[\"dhcp\", \"ra\"]")
        .replace("peers = [\"192.0.2.3\"]", "peers = [\"192.0.2.3\"], peer_ports = [4500]")
        .replace("[\"192.0.2.53\"]", "[\"192.0.2.53\", \"0.0.0.0/0\"]")
        .replace("name = \"wg0\"", "name = \"wg0\"\noverlay = \"tailscale\"");
    let directory = beside(&new);
    let output = diff(directory.path(), &[&BOTH[..], &["--fail-on-widening"]].concat());
    assert_eq!(
        text(&output),
        "+ a -> 100.100.100.100  tcp:53,80,8080 udp:53  (IPv4 only)\n\
         + b -> a  tcp:22  (IPv4 only)\n\
         on underlay interfaces:\n\
         + a -> 0.0.0.0-100.64.0.0, 100.64.0.3-192.0.2.2, 192.0.2.4-192.0.2.52, \
         192.0.2.54-255.255.255.254  udp:53  (IPv4 only)\n\
         + a -> 192.0.2.3  udp:53,4500  (IPv4 only)\n\
         - a -> 192.0.2.3  udp:51820  (IPv4 only)\n\
         settings:\n\
         ~ interface uplink-of-nobody link: dhcp, ra, before dhcp  (wider)\n\
         ~ management: 100.64.0.2/32 tcp:22, 192.0.2.9/32 tcp:22, before 192.0.2.9/32 tcp:22  (wider)\n"
    );
    assert_eq!(output.status.code(), Some(1));
    // What takes it back is no widening.
    let back = ["--old-config", "new.toml", "--config", "old.toml", "--fail-on-widening", "--json"];
    let output = diff(directory.path(), &back);
    let said: Value = serde_json::from_str(&text(&output)).expect("JSON");
    let none = serde_json::json!([]);
    assert_eq!((&said["added"], &said["removed"].as_array().map(Vec::len)), (&none, &Some(2)), "{said}");
    // The port that the peer is reached at is another one, which is added and removed.
    assert_eq!(said["underlay"]["added"][0]["services"], serde_json::json!(["udp:51820"]), "{said}");
    assert!(said["exchange"].is_null(), "{said}");
}

#[test]
fn nothing_is_said_where_nothing_is_changed() {
    let directory = beside(OLD);
    let output = diff(directory.path(), &[&BOTH[..], &["--fail-on-widening"]].concat());
    assert_eq!(text(&output), "nothing is added, nothing is removed\n");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn a_setting_that_opens_fails_though_no_flow_is_added() {
    let directory = beside(&OLD.replace("policy =", "mode = \"audit\"\npolicy ="));
    let output = diff(directory.path(), &[&BOTH[..], &["--fail-on-widening"]].concat());
    let lines = "settings:\n~ mode: audit, before enforce  (wider)\nnothing is added, nothing is removed\n";
    assert_eq!(text(&output), lines);
    assert_eq!(output.status.code(), Some(1));
    let output = diff(directory.path(), &[&BOTH[..], &["--markdown"]].concat());
    assert!(text(&output).contains("- `~ mode: audit, before enforce  (wider)`"), "{output:?}");
}

#[test]
fn one_configuration_alone_or_a_node_that_nobody_knows_is_a_mistake() {
    let directory = beside(&OLD.replace("\"a\"", "\"c\""));
    for (words, error) in [
        (&["policy.hujson", "policy.hujson", "--config", "new.toml"][..], "--old-config"),
        (&["policy.hujson"], "<NEW>"),
        (&["policy.hujson", "--old-config", "old.toml", "--config", "new.toml"], "<NEW>"),
        (&BOTH, "the inventory has no node 'c'"),
    ] {
        let output = diff(directory.path(), words);
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(error), "{output:?}");
    }
}
