//! A host that follows a fleet: what people have signed is enforced, and nothing that whoever carries it makes of it.

mod again;
mod broker;
mod carried;
#[path = "../../../../crates/fleet/tests/common/mod.rs"]
#[expect(dead_code, reason = "tests of the crate use the rest of it")]
mod kit;
mod local;
mod noted;
mod refused;
mod taken;

use std::path::{Path, PathBuf};

use serde_json::Value;

use self::kit::{ALICE, BOB, Files, Fleet};
use crate::site::account::reports;
use crate::site::{Over, Site, WEB};

/// A site whose server follows a fleet by a directory, which a test fills.
struct Followed {
    site: Site,
    fleet: Fleet,
}

/// A policy of these acls whose tags the enroller gives.
fn policy(acls: &[&str]) -> String {
    let tags = ["server", "client", "stranger"].map(|tag| format!("\"tag:{tag}\": [\"tag:enroller\"]"));
    let (tags, acls) = (tags.join(", "), acls.join(","));
    format!(r#"{{"tagOwners": {{"tag:enroller": [], "tag:boss": [], {tags}}}, "acls": [{acls}]}}"#)
}

impl Followed {
    /// Whose policy 1 is `WEB`, and which is followed and enforced.
    fn new(label: &str, more: &str) -> Self {
        let mut followed = Self::begun(label, more, "directory = \"served\"\n");
        followed.site.start();
        assert!(!followed.site.connects("client", 8080), "what it begins with admits nobody");
        followed.serve();
        followed.takes("policy 1, inventory 1");
        assert!(followed.site.connects("client", 8080) && followed.site.is_denied("client", 8081));
        followed
    }

    /// The same before its agent runs, and before anything is served.
    fn begun(label: &str, more: &str, from: &str) -> Self {
        let site = Site::new(label, Over::Tunnel, &[]);
        let fleet = Fleet::new();
        fleet.put(&policy(&[WEB]), &[ALICE, BOB]);
        fleet.put_inventory(&std::fs::read_to_string(site.path("inventory.json")).unwrap());
        for of in ["policy", "inventory"] {
            let root = fleet.path().join(of).join("metadata/1.root.json");
            std::fs::copy(root, site.path(&format!("{of}.root.json"))).unwrap();
        }
        std::fs::create_dir(site.path("served")).unwrap();
        let text = site.configuration("server", site.interface())
            + "[fleet]\npolicy_root = \"policy.root.json\"\ninventory_root = \"inventory.root.json\"\nevery_seconds = 1\n\
               confirm_seconds = 5\n"
            + from
            + more;
        site.write("agent.toml", &text);
        Self { site, fleet }
    }

    /// Serves what is published.
    fn serve(&self) {
        self.serve_files(&self.fleet.files());
    }

    /// Serves other files, each whole before its name is there, and timestamps last.
    fn serve_files(&self, files: &Files) {
        let served = PathBuf::from(self.site.path("served"));
        let mut names: Vec<&String> = files.keys().collect();
        names.sort_by_key(|name| name.ends_with("timestamp.json"));
        for name in names {
            put(&served.join(name), &files[name]);
        }
    }

    /// Waits until these are enforced and good.
    fn takes(&mut self, bundles: &str) -> Value {
        self.site.wait_for(bundles, |status| {
            enforced(status).as_deref() == Some(bundles) && status["agent"]["confirm_within"].is_null()
        })
    }

    /// Waits until nothing new is taken, for a reason.
    fn refuses(&mut self, why: &str) -> Value {
        self.site.wait_for(why, |status| {
            status["agent"]["fleet"]["problem"].as_str().is_some_and(|problem| problem.contains(why))
        })
    }

    /// Waits until all is well.
    fn is_well(&mut self) {
        self.site.wait_for("all is well", |status| status["agent"]["fleet"]["problem"].is_null());
    }

    /// Control events of the fleet, of an outcome.
    fn told(&self, action: &str, outcome: &str) -> Vec<Value> {
        let all = reports(&self.site.journal_file()).into_iter();
        let is_meant = |event: &Value| {
            event["action"] == action && event["outcome"] == outcome && event["by"]["via"] == "fleet"
        };
        all.filter(is_meant).collect()
    }

    fn state(&self) -> PathBuf {
        Path::new("/var/lib/bulkhead").join(self.site.instance()).join("fleet-trust")
    }

    /// The same agent anew.
    fn restart(&mut self) {
        self.site.kill();
        self.site.start();
    }
}

/// Writes beside a file, then renames.
fn put(path: &Path, bytes: &[u8]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let new = path.with_extension("new");
    std::fs::write(&new, bytes).unwrap();
    std::fs::rename(new, path).unwrap();
}

/// What of the fleet is enforced, in words.
fn enforced(status: &Value) -> Option<String> {
    let bundles = status["agent"]["fleet"]["enforced"].as_object()?;
    Some(format!("policy {}, inventory {}", bundles["policy"]["version"], bundles["inventory"]["version"]))
}
