//! The tools of those who sign and publish, on a machine that remembers what it has seen of a fleet, and on one that cannot.

#![allow(clippy::unwrap_used)] // helpers of a test are a test

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const POLICY: &str = r#"{"tagOwners": {"tag:enroller": [], "tag:web": ["tag:enroller"]},
    "acls": [{"action": "accept", "src": ["tag:web"], "dst": ["tag:web:443"]}]}"#;
const INVENTORY: &str = r#"{"nodes": [{"name": "web-1", "addresses": ["100.64.0.1"], "tags": ["tag:web"]}]}"#;

/// A fleet directory with the keys beside it.
struct Fleet(tempfile::TempDir);

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

impl Fleet {
    fn new() -> Self {
        let fleet = Self(tempfile::tempdir().unwrap());
        for name in ["alice", "bob", "enroller", "online"] {
            let mut keygen = Command::new("ssh-keygen");
            keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(fleet.at(name));
            assert!(keygen.status().unwrap().success());
        }
        fs::write(fleet.at("policy.hujson"), POLICY).unwrap();
        fs::write(fleet.at("inventory.json"), INVENTORY).unwrap();
        fleet
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// `bulkhead fleet …` as it is run on somebody's machine: with these variables alone.
    fn run(&self, variables: &[(&str, &Path)], words: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bulkhead"));
        for name in ["HOME", "XDG_STATE_HOME", "BULKHEAD_FLEET_STATE"] {
            command.env_remove(name);
        }
        command.envs(variables.iter().copied()).current_dir(self.0.path());
        command.arg("fleet").args(words.split(' ')).output().unwrap()
    }

    /// On somebody's machine, whose home is named after them.
    fn by(&self, who: &str, words: &str) -> Output {
        let home = self.at(&format!("home-{who}"));
        fs::create_dir_all(&home).unwrap();
        self.run(&[("HOME", &home)], words)
    }

    /// What is said, which must end well.
    fn done(&self, who: &str, words: &str) -> (String, String) {
        let output = self.by(who, words);
        assert!(output.status.success(), "{words}: {}", stderr(&output));
        (stdout(&output), stderr(&output))
    }

    fn init(&self, who: &str) -> String {
        let words = "init fleet --person alice=alice.pub --person bob=bob.pub --enroller enroller.pub --online online.pub";
        let (said, complaint) = self.done(who, words);
        assert_eq!(complaint, "");
        said.lines().find_map(|line| line.strip_prefix("fleet ")).unwrap().to_owned()
    }

    /// What is in force first.
    fn begin(&self) -> String {
        let fingerprint = self.init("alice");
        self.done("alice", "sign fleet --policy policy.hujson --inventory inventory.json --key alice --yes");
        self.done("bob", "sign fleet --key bob --yes");
        self.done("enroller", "sign fleet --key enroller --yes");
        self.done("online", "publish fleet --key online");
        fingerprint
    }

    fn put(&self, from: &str, to: &str) {
        if self.at(to).exists() {
            fs::remove_dir_all(self.at(to)).unwrap();
        }
        let copied = Command::new("cp").arg("-r").arg(self.at(from)).arg(self.at(to)).status().unwrap();
        assert!(copied.success());
    }
}

#[test]
fn whoever_sees_a_fleet_for_the_first_time_is_told_which_it_is_and_others_see_the_same() {
    let fleet = Fleet::new();
    let fingerprint = fleet.init("alice");
    let first = format!("fleet {fingerprint} is seen for the first time on this machine: compare this");
    let (_, told) = fleet.done("alice", "sign fleet --policy policy.hujson --key alice --yes");
    assert_eq!(told, "", "who has begun it knows it");
    let (_, told) = fleet.done("bob", "sign fleet --key bob --yes");
    assert!(told.contains(&first), "{told}");
    let (said, told) = fleet.done("bob", "sign fleet --policy policy.hujson --key bob --yes --json");
    assert_eq!(told, "");
    assert!(serde_json::from_str::<serde_json::Value>(&said).unwrap().is_array());
    let (said, told) = fleet.done("carol", "status fleet");
    assert_eq!((said.lines().next(), &*told), (Some(&*format!("fleet {fingerprint}")), ""));
    let (said, _) = fleet.done("carol", "status fleet --json");
    let standings: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(standings[0]["fleet"], *fingerprint);
    assert!(!fleet.at("home-carol/.local").exists(), "who only looks leaves nothing");
}

#[test]
fn an_older_state_is_signed_published_and_handed_out_by_nobody_who_knows_better() {
    let fleet = Fleet::new();
    let fingerprint = fleet.begin();
    fleet.put("fleet", "older");
    fs::write(fleet.at("policy.hujson"), POLICY.replace("443", "444")).unwrap();
    fleet.done("alice", "sign fleet --policy policy.hujson --key alice --yes");
    fleet.done("alice", "sign fleet --key bob --yes");
    fleet.done("alice", "publish fleet --key online");
    fleet.put("fleet", "newer");
    fleet.put("older", "fleet");
    let account = fleet.by("alice", "account account");
    assert!(account.status.success(), "{}", stderr(&account));
    for words in [
        "sign fleet --policy policy.hujson --key alice --yes",
        "sign fleet --key alice --yes",
        "publish fleet --key online",
        "publish fleet --key online --freshen",
        "rotate fleet --threshold 1",
        "rollout fleet --key online",
        "invite new --address 100.64.0.9 --account account --fleet fleet --server nats://127.0.0.1:1",
    ] {
        let output = fleet.by("alice", words);
        let told = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{words}: {told}");
        assert!(
            told.contains("policy has version 1, and version 2 was seen on this machine before"),
            "{words}: {told}"
        );
    }
    let same = Command::new("diff").arg("-r").arg(fleet.at("older")).arg(fleet.at("fleet")).output().unwrap();
    assert!(same.status.success(), "{}", stdout(&same));
    // Who only looks is warned.
    for words in ["status fleet", "diff fleet --policy policy.hujson"] {
        let (said, told) = fleet.done("alice", words);
        assert!(
            !said.is_empty() && told.contains("and version 2 was seen on this machine before"),
            "{words}: {told}"
        );
    }
    // Whose machine has not seen the newer one cannot know, and another copy is another matter.
    fleet.done("online", "publish fleet --key online --freshen");
    fleet.done("alice", "publish newer --key online --freshen");
    // Forgotten by the file that was named.
    let told = stderr(&fleet.by("alice", "publish fleet --key online"));
    let file = told.split("remove ").nth(1).unwrap().split(" to forget").next().unwrap();
    fs::remove_file(file).unwrap();
    let (_, told) = fleet.done("alice", "publish fleet --key online");
    assert!(told.contains(&format!("fleet {fingerprint} is seen for the first time")), "{told}");
}

#[test]
fn another_fleet_in_its_place_is_not_signed() {
    let fleet = Fleet::new();
    let fingerprint = fleet.begin();
    fs::remove_dir_all(fleet.at("fleet")).unwrap();
    let other = fleet.init("thief");
    let refused = fleet.by("alice", "sign fleet --key alice --yes");
    assert_eq!(refused.status.code(), Some(2));
    let told = stderr(&refused);
    assert!(
        told.contains(&other) && told.contains(&format!("and had {fingerprint} when it was seen")),
        "{told}"
    );
    let signatures = fs::read_dir(fleet.at("fleet/policy/drafts")).unwrap().count();
    assert_eq!(signatures, 1, "the draft alone");
    // Whoever begins one anew means it.
    fs::remove_dir_all(fleet.at("fleet")).unwrap();
    fleet.init("alice");
    fleet.done("alice", "sign fleet --key alice --yes --policy policy.hujson");
}

#[test]
fn a_machine_that_can_remember_nothing_says_so_and_goes_on() {
    let fleet = Fleet::new();
    fleet.begin();
    let publish = |variables: &[(&str, &Path)], more: &str| {
        fleet.run(variables, &format!("publish fleet --key online --freshen{more}"))
    };
    let home = fleet.at("home");
    fs::write(fleet.at("file"), "").unwrap();
    let nowhere = fleet.at("file/below");
    for variables in [&[][..], &[("HOME", &*nowhere)], &[("XDG_STATE_HOME", Path::new("relative"))]] {
        let output = publish(variables, "");
        assert!(output.status.success(), "{}", stderr(&output));
        assert!(stderr(&output).contains("nothing is remembered of this fleet"), "{}", stderr(&output));
    }
    assert!(!fleet.at("relative").exists());
    // A place that somebody names must do.
    let named = publish(&[("BULKHEAD_FLEET_STATE", &nowhere)], "");
    assert_eq!(named.status.code(), Some(2), "{}", stderr(&named));
    assert_eq!(publish(&[("HOME", &home)], " --state file").status.code(), Some(2));
    // The first that is set counts.
    let kept = |directory: &Path| fs::read_dir(directory).is_ok_and(|entries| entries.count() == 1);
    let [state, variable, option] = ["xdg", "variable", "option"].map(|name| fleet.at(name));
    let mut variables = vec![("HOME", &*home)];
    assert!(publish(&variables, "").status.success() && kept(&home.join(".local/state/bulkhead/fleets")));
    variables.push(("XDG_STATE_HOME", &state));
    assert!(publish(&variables, "").status.success() && kept(&state.join("bulkhead/fleets")));
    variables.push(("BULKHEAD_FLEET_STATE", &variable));
    assert!(publish(&variables, "").status.success() && kept(&variable));
    assert!(publish(&variables, " --state option").status.success() && kept(&option));
}
