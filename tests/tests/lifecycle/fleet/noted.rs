//! Notes of a fleet: grants, revocations, quarantines and releases, which hosts find where the bundles are.

use std::path::Path;
use std::process::Command;

use bulkhead_fleet::notes::{MOST_NOTES, Notes};
use bulkhead_grants::{Grant, Note, Order, OrderKind, SecretKey, Window, new_id, new_id_of};
use serde_json::Value;

use super::Followed;
use super::kit::{ALICE, BOB, Fleet, key, now};
use crate::site::account::reports;
use crate::site::{Site, WEB};

/// Hosts that follow one fleet's directory, and people with OpenSSH's keys.
pub(super) struct Hosts {
    pub(super) first: Followed,
    /// Another site with an agent of its own.
    second: Option<Site>,
}

/// What people may sign: grants of port 8081 by two of three, quarantines by two of them.
pub(super) fn policy(site: &Site, acls: &str) -> String {
    let public =
        |name: &str| std::fs::read_to_string(site.path(&format!("{name}.pub"))).unwrap().trim().to_owned();
    let people = ["bob", "carol", "dave"].map(|name| format!("\"{name}\": [\"{}\"]", public(name))).join(",");
    let tags =
        ["server", "client", "stranger"].map(|tag| format!("\"tag:{tag}\": [\"tag:enroller\"]")).join(",");
    format!(
        r#"{{"tagOwners": {{"tag:enroller": [], {tags}}}, "approvers": {{{people}}},
"grantable": [{{"name": "ops", "src": ["tag:client"], "dst": ["tag:server:8081"], "longest": "1h"}}],
"quarantine": {{"by": ["bob", "carol"]}}, "acls": [{acls}]}}"#
    )
}

/// Makes everybody's key.
pub(super) fn keys(site: &Site) {
    for name in ["bob", "carol", "dave"] {
        let path = site.path(name);
        let mut command = Command::new("ssh-keygen");
        let output =
            command.args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f", &path]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
}

fn open(site: &Site, name: &str) -> SecretKey {
    SecretKey::parse(&std::fs::read_to_string(site.path(name)).unwrap()).unwrap()
}

/// Signed by these.
fn signed(site: &Site, text: &str, by: &[&str]) -> Note {
    let mut note = Note::new(text.to_owned());
    by.iter().for_each(|name| open(site, name).sign(&mut note, name).unwrap());
    note
}

/// A new id of the fleet.
fn fresh(fleet: &Fleet) -> String {
    new_id_of(fleet.tree.identity().unwrap().unwrap().id()).unwrap()
}

fn grant(fleet: &Fleet, requester: &str) -> Grant {
    Grant {
        id: fresh(fleet),
        requester: requester.to_owned(),
        source: "tag:client".to_owned(),
        destination: "tag:server:8081".to_owned(),
        protocol: "tcp".to_owned(),
        window: Window { from: now(), until: now() + 600 },
        ticket: "OPS-7".to_owned(),
        reason: "a look".to_owned(),
        break_glass: false,
    }
}

fn order(kind: OrderKind, id: &str, subject: &str) -> Order {
    let (ticket, reason) = ("SEC-1".to_owned(), "seen scanning".to_owned());
    Order { kind, id: id.to_owned(), subject: subject.to_owned(), from: now(), until: None, ticket, reason }
}

impl Hosts {
    fn new(label: &str, has_second: bool) -> Self {
        let mut first = Followed::begun(label, "", "");
        keys(&first.site);
        first.fleet.put(&policy(&first.site, WEB), &[ALICE, BOB]);
        let place = format!("directory = \"{}\"\n", first.fleet.path().display());
        let text = std::fs::read_to_string(first.site.path("agent.toml")).unwrap() + &place;
        first.site.write("agent.toml", &text);
        first.site.start();
        first.takes("policy 2, inventory 1");
        let second = has_second.then(|| {
            let mut site = Site::new(&format!("{label}-b"), crate::site::Over::Tunnel, &[]);
            for of in ["policy", "inventory"] {
                let file = format!("{of}.root.json");
                std::fs::copy(first.site.path(&file), site.path(&file)).unwrap();
            }
            site.write("agent.toml", &text);
            site.start();
            site.wait_for("it follows", |status| {
                super::enforced(status).as_deref() == Some("policy 2, inventory 1")
                    && status["agent"]["confirm_within"].is_null()
            });
            site
        });
        Self { first, second }
    }

    fn place(&self) -> String {
        self.first.fleet.path().to_str().unwrap().to_owned()
    }

    /// Waits on each host.
    fn all(&mut self, what: &str, holds: impl Fn(&Value) -> bool) {
        self.first.site.wait_for(what, &holds);
        if let Some(second) = &mut self.second {
            second.wait_for(what, &holds);
        }
    }

    /// Waits until something of the fleet's is on record on each host.
    fn told(&mut self, action: &str, subject: &str) {
        let sites = [Some(&mut self.first.site), self.second.as_mut()];
        for site in sites.into_iter().flatten() {
            let journal = site.journal_file();
            site.wait_for(action, |_| {
                reports(&journal).iter().any(|event| {
                    event["by"]["via"] == "fleet"
                        && event["action"] == *action
                        && event["subject"] == *subject
                })
            });
        }
    }

    fn sites(&self) -> impl Iterator<Item = &Site> {
        std::iter::once(&self.first.site).chain(&self.second)
    }

    fn approve(&self, file: &str, names: &[&str]) {
        for name in names {
            let key = self.first.site.path(name);
            self.first.site.done(&["approve", file, "--yes", "--as", name, "--key", &key]);
        }
    }

    fn post(&self, file: &str) {
        self.first.site.done(&["fleet", "post", file, "--fleet", &self.place()]);
    }

    /// What a command that makes a note writes.
    fn made(&self, words: &[&str]) -> String {
        let file = self.first.site.path(&format!("{}.note", new_id().unwrap()));
        let why = ["--fleet", &self.place(), "--ticket", "SEC-1", "--reason", "a look", "-o", &file];
        self.first.site.done(&[&["fleet"], words, &why[..]].concat());
        file
    }
}

/// Posts what no command would.
fn smuggle(fleet: &Fleet, notes: &[(&str, String)]) {
    let notes: Vec<(String, String)> =
        notes.iter().map(|(name, note)| ((*name).to_owned(), note.clone())).collect();
    Notes::new(fleet.path()).change(&notes, &[]).unwrap();
}

/// Takes all away that is posted.
fn clear(fleet: &Fleet) {
    let notes = Notes::new(fleet.path());
    let names: Vec<String> = notes.all().unwrap().into_iter().map(|(name, _)| name).collect();
    notes.change(&[], &names).unwrap();
}

fn words(output: &std::process::Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn is_cut_off(status: &Value) -> bool {
    status["quarantined"].as_array().is_some_and(|all| all.iter().any(|one| one["fleet"].is_object()))
}

#[test]
fn what_people_have_signed_is_done_on_every_host() {
    let mut hosts = Hosts::new("fleet-notes", true);
    let file = hosts.first.site.path("ops.note");
    let asked = ["request", "tag:client", "tag:server:8081", "--for", "10m", "--ticket", "OPS-7"];
    let more = ["--reason", "x", "--as", "alice", "-o", &file];
    hosts.first.site.done(&[&asked[..], &more].concat());
    hosts.approve(&file, &["bob", "carol"]);
    let strange = hosts.first.site.bulkhead(&["fleet", "post", &file, "--fleet", &hosts.place()]);
    assert!(words(&strange).contains("it is not of this fleet"), "{}", words(&strange));
    std::fs::remove_file(&file).unwrap();
    hosts.first.site.done(&[&asked[..], &more, &["--fleet", &hosts.place()]].concat());
    hosts.approve(&file, &["bob"]);
    let early = hosts.first.site.bulkhead(&["fleet", "post", &file, "--fleet", &hosts.place()]);
    assert!(words(&early).contains("1 of 2 signatures"), "{}", words(&early));
    hosts.approve(&file, &["carol"]);
    hosts.post(&file);
    hosts.all("it is granted", |status| status["grants"][0]["standing"] == "running");
    let id = hosts.first.site.status()["grants"][0]["id"].as_str().unwrap().to_owned();
    hosts.told("grant", &id);
    let mut sessions: Vec<_> = hosts.sites().map(|site| site.connect("client", 8081)).collect();
    sessions.iter_mut().for_each(crate::site::connection::Connection::goes_on);

    let file = hosts.made(&["revoke", &id[..8]]);
    hosts.approve(&file, &["dave"]);
    hosts.post(&file);
    // What is on record is in force.
    hosts.told("revoke", &id);
    sessions.iter_mut().for_each(crate::site::connection::Connection::is_cut);
    for site in hosts.sites() {
        assert!(site.is_denied("client", 8081) && site.connects("client", 8080));
        let told = reports(&site.journal_file());
        let told: Vec<&Value> = told.iter().filter(|event| event["by"]["via"] == "fleet").collect();
        for (action, signers) in
            [("grant", serde_json::json!(["bob", "carol"])), ("revoke", serde_json::json!(["dave"]))]
        {
            let is_it = |event: &&&Value| {
                event["action"] == action && event["outcome"] == "done" && event["subject"] == *id
            };
            assert_eq!(told.iter().find(is_it).unwrap()["signers"], signers, "{told:?}");
        }
    }

    // A node, everywhere.
    let wrong = hosts.first.site.bulkhead(&[
        "fleet",
        "quarantine",
        "nobody",
        "--fleet",
        &hosts.place(),
        "--ticket",
        "t",
        "--reason",
        "r",
    ]);
    assert!(words(&wrong).contains("neither a node"), "{}", words(&wrong));
    let file = hosts.made(&["quarantine", "client"]);
    hosts.approve(&file, &["bob", "dave"]);
    let few = hosts.first.site.bulkhead(&["fleet", "post", &file, "--fleet", &hosts.place()]);
    assert!(words(&few).contains("dave may not approve this"), "{}", words(&few));
    hosts.approve(&file, &["carol"]);
    hosts.post(&file);
    hosts.told("quarantine", "client");
    hosts.all("it is cut off", is_cut_off);
    let quarantine = std::fs::read_to_string(&file).unwrap();
    for site in hosts.sites() {
        assert!(site.is_denied("client", 8080));
        let listed = words(&site.bulkhead(&["quarantine"]));
        assert!(
            listed.contains("by the fleet's note ") && listed.contains("signed by bob, carol"),
            "{listed}"
        );
        let refused = site.bulkhead(&["release", "client"]);
        assert_eq!(refused.status.code(), Some(1));
        assert!(words(&refused).contains("bulkhead fleet release"), "{}", words(&refused));
        site.done(&["quarantine", "client"]);
        let released = words(&site.bulkhead(&["release", "client"]));
        assert!(released.contains("released client") && released.contains("holds"), "{released}");
        assert!(site.is_denied("client", 8080));
    }
    // A start keeps it, and the fleet's lifting does not lift this host's own.
    hosts.first.restart();
    assert!(hosts.first.site.is_denied("client", 8080) && is_cut_off(&hosts.first.site.status()));
    hosts.first.site.done(&["quarantine", "client"]);
    let file = hosts.made(&["release", "client"]);
    hosts.approve(&file, &["carol", "bob"]);
    hosts.post(&file);
    hosts.told("release", "client");
    hosts.all("it is lifted", |status| !is_cut_off(status));
    assert!(hosts.first.site.is_denied("client", 8080));
    hosts.first.site.done(&["release", "client"]);
    assert!(hosts.sites().all(|site| site.connects("client", 8080)));

    // Nobody brings back what was lifted, whether or not the lifting is carried, and a host that starts anew knows.
    clear(&hosts.first.fleet);
    smuggle(&hosts.first.fleet, &[("old", quarantine)]);
    hosts.all("it is listed", |status| status["agent"]["fleet"]["notes"]["listed"] == 1);
    hosts.first.restart();
    hosts.first.site.wait_for("listed", |status| status["agent"]["fleet"]["notes"]["listed"] == 1);
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert!(hosts.sites().all(|site| !is_cut_off(&site.status()) && site.connects("client", 8080)));
    clear(&hosts.first.fleet);
    let again = hosts.made(&["quarantine", "client"]);
    hosts.approve(&again, &["bob", "carol"]);
    hosts.post(&again);
    hosts.told("quarantine", "client");
    hosts.all("a new one is another", is_cut_off);
    // A host that is not reached is told by hand, and nobody else is.
    let back = hosts.made(&["release", "client"]);
    let early = hosts.first.site.bulkhead(&["fleet", "take", &back]);
    assert!(early.status.code() == Some(1) && words(&early).contains("0 of 2"), "{}", words(&early));
    hosts.approve(&back, &["bob", "carol"]);
    let second = hosts.second.as_mut().unwrap();
    second.done(&["fleet", "take", &back]);
    assert!(!is_cut_off(&second.status()) && second.connects("client", 8080));
    // Whoever follows no fleet any more has it still, is told, and can end it.
    let file = hosts.first.site.path("agent.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    hosts.first.site.write("agent.toml", text.split("[fleet]").next().unwrap());
    hosts.first.restart();
    let status = hosts.first.site.status();
    assert!(is_cut_off(&status), "{status}");
    assert!(
        status["agent"]["warnings"].to_string().contains("agent.toml has no [fleet] any more"),
        "{status}"
    );
    hosts.first.site.done(&["release", "client"]);
    assert!(!is_cut_off(&hosts.first.site.status()));
}

#[test]
fn what_does_not_count_is_refused_and_told_once() {
    let mut hosts = Hosts::new("fleet-refuse", false);
    let site = &hosts.first.site;
    let text = || grant(&hosts.first.fleet, "alice").text().unwrap();
    let full = signed(site, &text(), &["bob", "carol"]).to_string();
    let copied = |note: &Note| {
        let text = note.to_string();
        let last = text.lines().last().unwrap().to_owned();
        format!("{text}{last}\n")
    };
    let mut stranger = signed(site, &text(), &["bob"]);
    key(9).sign(&mut stranger, "carol").unwrap();
    let mut other = signed(site, &text(), &["bob"]);
    key(9).sign(&mut other, "mallory").unwrap();
    let cut = order(OrderKind::Quarantine, &fresh(&hosts.first.fleet), "client").text().unwrap();
    // As the same people sign it for another fleet.
    let strange = order(OrderKind::Quarantine, &new_id().unwrap(), "client").text().unwrap();
    let lift = order(OrderKind::Release, &fresh(&hosts.first.fleet), "client").text().unwrap();
    let cases: Vec<(String, &str)> = vec![
        (signed(site, &text(), &["bob"]).to_string(), "1 of 2 signatures: others have to sign as well"),
        (copied(&signed(site, &text(), &["bob"])), "the signature of bob is there twice"),
        (stranger.to_string(), "carol signed with a key that is not known here"),
        (other.to_string(), "nobody here knows mallory"),
        (
            signed(site, &grant(&hosts.first.fleet, "bob").text().unwrap(), &["bob", "carol"]).to_string(),
            "bob has asked for it",
        ),
        (full.replace("a look", "a loop"), "the signature of bob does not fit"),
        (signed(site, &cut, &["bob"]).to_string(), "1 of 2 signatures"),
        (signed(site, &cut, &["bob", "dave"]).to_string(), "dave may not approve this"),
        (signed(site, &lift, &["carol"]).to_string(), "1 of 2 signatures"),
        (cut.clone() + "\n", "0 of 2 signatures"),
        (signed(site, &strange, &["bob", "carol"]).to_string(), "it is of another fleet"),
        ("no note".to_owned(), "no empty line"),
        (Note::new("hello\n".to_owned()).to_string(), "over no grant, revocation"),
    ];
    for some in cases.chunks(6) {
        clear(&hosts.first.fleet);
        let names: Vec<String> = (0..some.len()).map(|number| format!("n{number}")).collect();
        let notes: Vec<(&str, String)> =
            names.iter().map(String::as_str).zip(some.iter().map(|(note, _)| note.clone())).collect();
        smuggle(&hosts.first.fleet, &notes);
        let refuses = |status: &Value| {
            let all = status["agent"]["fleet"]["notes"]["why"].as_array().cloned().unwrap_or_default();
            let is_said = |why: &str| all.iter().any(|said| said.as_str().unwrap().contains(why));
            all.len() == some.len() && some.iter().all(|(_, why)| is_said(why))
        };
        hosts.first.site.wait_for("each is refused", refuses);
        hosts.first.restart();
        hosts.first.site.wait_for("each is refused by the next agent", refuses);
        let told = reports(&hosts.first.site.journal_file());
        for (_, why) in some {
            let is_it = |event: &&Value| {
                event["outcome"] == "refused"
                    && event["by"]["via"] == "fleet"
                    && event["detail"].as_str().is_some_and(|detail| detail.contains(why))
            };
            assert!(told.iter().any(|event| is_it(&event)), "{why}");
        }
        assert!(hosts.first.site.status()["grants"].as_array().is_none_or(Vec::is_empty));
    }
    assert!(hosts.first.site.connects("client", 8080) && hosts.first.site.is_denied("client", 8081));
    // As many as a list has, each refused: some are told of, and the good one among them is taken.
    clear(&hosts.first.fleet);
    let place = hosts.first.fleet.path().join("notes");
    for number in 0..MOST_NOTES - 1 {
        std::fs::write(place.join(format!("{number}.note")), format!("{number}\n\n")).unwrap();
    }
    smuggle(&hosts.first.fleet, &[("good", full)]);
    let status = hosts.first.site.wait_for("the good one", |status| {
        let refused = &status["agent"]["fleet"]["notes"]["refused"];
        status["grants"][0]["standing"] == "running" && *refused == MOST_NOTES - 1
    });
    assert!(status["agent"]["fleet"]["notes"]["why"].as_array().unwrap().len() <= 8, "{status}");
    let told = reports(&hosts.first.site.journal_file()).into_iter();
    let told = told.filter(|event| event["outcome"] == "refused").count();
    assert!(told <= 256 + 3 * cases.len(), "{told}");
    let alarms = status["agent"]["alarms"]["active"].as_array().unwrap().len();
    assert!(alarms <= 12, "{status}");
    // Lists that are none.
    let index = place.join("index.json");
    let at = |length: u64, name: &str| format!(r#"{{"list":"{name}","length":{length}}}"#);
    for (text, why) in [
        (at(1 << 40, &"a".repeat(64)), "longer than 1048576 bytes"),
        (at(10, "../../../../etc/passwd"), "it names no list"),
        (" ".repeat(1 << 20), "longer than 4096 bytes"),
    ] {
        super::put(&index, text.as_bytes());
        hosts.first.refuses(why);
    }
    clear(&hosts.first.fleet);
    hosts.first.is_well();
    assert_eq!(
        hosts.first.site.status()["grants"][0]["standing"],
        "running",
        "nothing that was done is undone"
    );
    assert!(hosts.first.site.connects("client", 8081));
    assert!(Path::new(&index).is_file());
}
