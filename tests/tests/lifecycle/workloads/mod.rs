//! Workloads: cgroups of one host that are identities of their own. Real cgroups below one of the test's, real sockets.

mod agent;
mod beyond;
mod bypass;
mod capture;
mod cgroup;
mod loopback;
mod random;
mod witness;

use std::net::SocketAddr;

use cgroup::{Actor, Cgroups};
use serde_json::Value;
use witness::Witness;

use crate::site::{Over, Site};

/// The host's own addresses, and each workload's.
const HOST: &str = "100.64.0.1";
const HOST6: &str = "fd7a:115c:a1e0::1";
const ENGINE: &str = "100.64.9.1";
const ENGINE6: &str = "fd7a:115c:a1e0::91";
const BACKUP: &str = "100.64.9.2";

/// Where the witness answers, to whom the engine alone may connect.
const PEER: &str = "100.64.0.2:8080";
const PEER6: &str = "[fd7a:115c:a1e0::2]:8080";
/// Where it answers to the backup, and where to the host.
const TO_BACKUP: &str = "100.64.0.2:8081";
const TO_HOST: &str = "100.64.0.2:8082";

/// Rules of the policy: each of the three has its own port at the client, and the client may come to the engine.
const RULES: [&str; 6] = [
    r#"{"action": "accept", "src": ["tag:engine"], "dst": ["tag:client:8080"]}"#,
    r#"{"action": "accept", "src": ["tag:backup"], "dst": ["tag:client:8081"]}"#,
    r#"{"action": "accept", "src": ["tag:server"], "dst": ["tag:client:8082"]}"#,
    r#"{"action": "accept", "src": ["tag:client"], "dst": ["spiffe://bank.example/engine:9090"]}"#,
    r#"{"action": "accept", "src": ["tag:client"], "dst": ["tag:server:9091"]}"#,
    r#"{"action": "accept", "src": ["tag:engine"], "dst": ["tag:backup:9092"]}"#,
];

/// The server with two workloads, and the client with a witness.
pub struct World {
    pub site: Site,
    pub cgroups: Cgroups,
    pub witness: Witness,
    /// Names of the units, which no other test has.
    pub engine_unit: String,
    pub backup_unit: String,
}

impl World {
    /// No agent yet; lo is judged if `more` of agent.toml says so.
    pub fn new(label: &str, more: &str) -> Self {
        let workloads = [ENGINE, BACKUP, ENGINE6].map(|address| address.parse().unwrap());
        let site = Site::with_addresses(label, Over::Tunnel, &[], &workloads);
        let cgroups = Cgroups::new(label);
        let unit = |name: &str| format!("{name}-{}-{label}.service", std::process::id());
        let (engine_unit, backup_unit) = (unit("engine"), unit("backup"));
        let world = Self {
            witness: Witness::start(
                site.namespace("client"),
                &[PEER, PEER6, TO_BACKUP, TO_HOST].map(|at| at.parse::<SocketAddr>().unwrap()),
            ),
            site,
            cgroups,
            engine_unit,
            backup_unit,
        };
        world.write_inventory(&format!(r#""unit": "{}""#, world.engine_unit), "");
        world.write_policy(&RULES);
        let config = world.site.configuration("server", "wg0") + more;
        world.site.write("agent.toml", &config);
        world
    }

    /// The same with lo.
    pub fn with_lo(label: &str) -> Self {
        Self::new(label, "[[interface]]\nname = \"lo\"\nrole = \"local\"\n")
    }

    /// The engine by a `match`, and with further members.
    pub fn write_inventory(&self, engine: &str, more: &str) {
        let backup = &self.backup_unit;
        self.site.write(
            "inventory.json",
            &format!(
                r#"{{"nodes": [
  {{"name": "server", "addresses": ["{HOST}", "{HOST6}"], "tags": ["tag:server"],
    "routes": ["100.64.9.0/24", "{ENGINE6}/128"], "workloads": [
     {{"name": "engine", "spiffe": "spiffe://bank.example/engine", "addresses": ["{ENGINE}", "{ENGINE6}"],
       "tags": ["tag:engine"], "match": {{{engine}}}}},
     {{"name": "backup", "addresses": ["{BACKUP}"], "tags": ["tag:backup"], "match": {{"unit": "{backup}"}}}}{more}]}},
  {{"name": "client", "addresses": ["100.64.0.2", "fd7a:115c:a1e0::2"], "tags": ["tag:client"]}}]}}"#
            ),
        );
    }

    pub fn write_policy(&self, rules: &[&str]) {
        let tags = ["server", "client", "engine", "backup"];
        let owners = tags.map(|tag| format!("\"tag:{tag}\": []")).join(", ");
        let text = format!(r#"{{"tagOwners": {{{owners}}}, "acls": [{}]}}"#, rules.join(",\n"));
        self.site.write("policy.hujson", &text);
    }

    /// A process of the engine's, whose unit is started for it if it does not run.
    pub fn engine(&self) -> Actor {
        self.actor(&format!("system.slice/{}", self.engine_unit))
    }

    pub fn backup(&self) -> Actor {
        self.actor(&format!("system.slice/{}", self.backup_unit))
    }

    /// A process of the rest of the host.
    pub fn other(&self) -> Actor {
        self.actor("user.slice/other.scope")
    }

    pub fn actor(&self, cgroup: &str) -> Actor {
        Actor::new(self.site.namespace("server"), &self.cgroups.at(cgroup))
    }

    /// A process of the client's.
    pub fn client(&self) -> Actor {
        Actor::new(self.site.namespace("client"), &self.cgroups.at("user.slice/client.scope"))
    }

    /// Waits until a workload is in a state; its part of the status.
    pub fn wait_for(&mut self, workload: &str, state: &str) -> Value {
        let name = format!("server/{workload}");
        let status =
            self.site.wait_for(&format!("{name} is {state}"), |status| of(status, &name)["state"] == state);
        of(&status, &name)
    }

    /// Starts the agent, and both units before it.
    pub fn start(&mut self) -> (Actor, Actor, Actor) {
        let actors = (self.engine(), self.backup(), self.other());
        self.site.start();
        self.wait_for("engine", "running");
        self.wait_for("backup", "running");
        actors
    }
}

/// A workload's part of a status.
fn of(status: &Value, name: &str) -> Value {
    let workloads = status["agent"]["workloads"].as_array();
    workloads.into_iter().flatten().find(|workload| workload["name"] == name).cloned().unwrap_or_default()
}

/// How often a drop was counted, by reason and direction.
pub fn count(status: &Value, direction: &str, reason: &str) -> u64 {
    let reasons = status["reasons"].as_array().unwrap();
    let found = reasons.iter().find(|count| count["direction"] == direction && count["reason"] == reason);
    found.map_or(0, |count| count["packets"].as_u64().unwrap())
}
