//! The hosts: ten applications that ask ten databases.

use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Context as _, Result};
use bulkhead_testkit::lab::{Host, INTERFACE, Lab};
use serde_json::{Value, json};

use super::super::agents::Agents;
use super::directory::Directory;
use super::servers::Servers;

/// Hosts of each kind.
const EACH: u8 = 10;

/// The application's own check: one that cannot reach its database is not well.
const HEALTH: &str =
    "#!/bin/bash\ncase $1 in app-*) exec timeout 2 bash -c '</dev/tcp/100.64.2.1/5432' ;; esac\n";

/// Their names.
pub(super) fn names() -> impl Iterator<Item = String> {
    ["app", "db"].into_iter().flat_map(|kind| (1..=EACH).map(move |number| format!("{kind}-{number:02}")))
}

/// A host's address on the overlay.
pub(super) fn address(name: &str) -> Result<IpAddr> {
    let (kind, number) = name.split_once('-').context("a host's name has a number")?;
    let kind = if kind == "app" { 1 } else { 2 };
    Ok(Ipv4Addr::new(100, 64, kind, number.parse()?).into())
}

/// A policy by which applications may ask databases at these ports.
pub(super) fn policy(ports: &[u16]) -> String {
    let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
    format!(
        r#"{{
  "tagOwners": {{"tag:enroller": [], "tag:app": ["tag:enroller"], "tag:db": ["tag:enroller"]}},
  "acls": [{{"name": "databases", "action": "accept", "src": ["tag:app"], "dst": ["tag:db:{}"], "proto": "tcp"}}]
}}
"#,
        ports.join(",")
    )
}

/// Who there is.
pub(super) fn inventory(lab: &Lab) -> Result<String> {
    let node = |host: &Host| {
        let kind = host.name.split('-').next().unwrap_or_default();
        json!({
            "name": host.name, "addresses": host.overlay, "key": host.keys.public, "tags": [format!("tag:{kind}")],
        })
    };
    let nodes: Vec<Value> = lab.hosts().iter().map(node).collect();
    Ok(serde_json::to_string_pretty(&json!({ "nodes": nodes }))? + "\n")
}

/// Writes a host's agent.toml, and what it names; its path.
pub(super) fn configure(lab: &Lab, host: &Host, directory: &Directory, servers: &Servers) -> Result<String> {
    let name = &host.name;
    let health = directory.beside("health");
    if !health.exists() {
        fs::write(&health, HEALTH)?;
        fs::set_permissions(&health, fs::Permissions::from_mode(0o755))?;
        for of in ["policy", "inventory"] {
            fs::copy(
                directory.beside(&format!("fleet/{of}/metadata/1.root.json")),
                directory.beside(&format!("{of}.root.json")),
            )?;
        }
        // What hosts are installed with: the same as is signed first.
        directory.write("begin.hujson", &policy(&[super::DATABASE, super::EXPORTER]))?;
        directory.write("begin.json", &inventory(lab)?)?;
    }
    directory.run(&["credentials", name, "--account", "account", "-o", &format!("{name}.creds")])?;
    let mut text = format!(
        "node = \"{name}\"\npolicy = \"begin.hujson\"\ninventory = \"begin.json\"\n\
         [[interface]]\nname = \"{INTERFACE}\"\n\
         [fleet]\npolicy_root = \"policy.root.json\"\ninventory_root = \"inventory.root.json\"\nconfirm_seconds = 5\n\
         health = [\"{}\", \"{name}\"]\ncredentials = \"{name}.creds\"\n",
        health.display()
    );
    writeln!(
        text,
        "servers = {}\nca = \"{}\"\n[collector]",
        serde_json::to_string(servers.urls())?,
        servers.ca()?
    )?;
    directory.write(&format!("{name}.toml"), &text)
}

/// What of the fleet hosts enforce: policy and inventory of each, with versions and digests.
pub(super) fn enforced(agents: &Agents, hosts: &[String]) -> Result<Vec<Value>> {
    let of = |host: &String| {
        let said = agents.ask(host, &["--json", "status"])?;
        let status: Value =
            serde_json::from_str(&said).with_context(|| format!("status of {host}: {said}"))?;
        Ok(status["agent"]["fleet"]["enforced"].clone())
    };
    hosts.iter().map(of).collect()
}

/// How many hosts enforce a version of the policy or the inventory.
pub(super) fn count(agents: &Agents, hosts: &[String], (of, version): (&str, u64)) -> Result<usize> {
    let all = enforced(agents, hosts)?;
    Ok(all.iter().filter(|enforced| enforced[of]["version"].as_u64() == Some(version)).count())
}
