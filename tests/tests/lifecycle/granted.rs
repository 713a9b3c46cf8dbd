//! Access that ends: asked for, approved by people with OpenSSH's keys, and ended by the kernel.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant, SystemTime};

use bulkhead_testkit::SshAgent;
use serde_json::Value;

use crate::site::account::reports;
use crate::site::{Over, Site, WEB};

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Makes somebody's key, and says its public line.
fn keygen(site: &Site, name: &str) -> String {
    let path = site.path(name);
    run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f", &path]));
    std::fs::read_to_string(site.path(&format!("{name}.pub"))).unwrap().trim().to_owned()
}

/// What Bob and Carol may grant: port 8081 of the server, and 8082 alone in an emergency.
fn policy(site: &Site, more: &str) -> String {
    let [bob, carol] = ["bob", "carol"]
        .map(|name| std::fs::read_to_string(site.path(&format!("{name}.pub"))).unwrap().trim().to_owned());
    format!(
        r#"{{"tagOwners": {{"tag:server": [], "tag:client": [], "tag:stranger": []}},
"approvers": {{"bob": ["{bob}"], "carol": ["{carol}"]}},
"grantable": [{{"name": "ops", "src": ["tag:client"], "dst": ["tag:server:8081"], "longest": "1h"}},
  {{"name": "glass", "src": ["tag:client"], "dst": ["tag:server:8082"], "longest": "10m", "breakGlass": true}}],
"acls": [{WEB}{more}]}}"#
    )
}

/// A site with both keys, whose agent tells of each flow.
fn site(label: &str) -> Site {
    let site = Site::new(label, Over::Tunnel, &[WEB]);
    keygen(&site, "bob");
    keygen(&site, "carol");
    site.write("policy.hujson", &policy(&site, ""));
    let configuration = site.configuration("server", site.interface());
    site.write("agent.toml", &(configuration + "[events]\nallowed = \"all\"\n"));
    site
}

fn words(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Asks for access; the file, and when its time began at the latest.
fn request(site: &Site, to: &str, time: &str, more: &[&str]) -> String {
    let file = site.path(&format!("{}.note", to.replace(':', "-")));
    let asked = ["request", "tag:client", to, "--for", time, "--ticket", "OPS-7", "--reason", "a look"];
    site.done(&[&asked[..], &["--as", "alice", "--output", &file], more].concat());
    file
}

fn approve(site: &Site, file: &str, name: &str) {
    site.done(&["approve", file, "--yes", "--as", name, "--key", &site.path(name)]);
}

/// Asks for ten minutes, which both approve; the file.
fn approved(site: &Site) -> String {
    let file = request(site, "tag:server:8081", "10m", &[]);
    approve(site, &file, "bob");
    approve(site, &file, "carol");
    file
}

/// The end of the grant that runs, from now; it is past if it is negative.
fn left(site: &Site) -> f64 {
    let status = site.status();
    let until = status["grants"][0]["until"].as_str().unwrap().to_owned();
    let end = time::OffsetDateTime::parse(&until, &time::format_description::well_known::Rfc3339).unwrap();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
    end.unix_timestamp() as f64 - now
}

/// Records of a kind under the grant.
fn under(site: &Site, kind: &str) -> Vec<Value> {
    let all = reports(&site.journal_file()).into_iter();
    all.filter(|report| report["kind"] == kind && report["rule"]["grant"].is_object()).collect()
}

#[test]
fn a_session_is_cut_at_the_end_of_its_grant_by_the_kernel_alone() {
    let mut site = site("granted");
    site.start();
    assert!(site.connects("client", 8080) && site.is_denied("client", 8081));
    let file = request(&site, "tag:server:8081", "12s", &[]);
    approve(&site, &file, "bob");
    let refused = site.bulkhead(&["grant", &file]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(words(&refused).contains("1 of 2 signatures"), "{}", words(&refused));
    assert!(site.is_denied("client", 8081));

    // Carol's key is in OpenSSH's agent.
    let socket = site.path("ssh-agent");
    let agent = SshAgent::start(Path::new(&socket));
    run(Command::new("ssh-add").arg("-q").arg(site.path("carol")).env("SSH_AUTH_SOCK", &socket));
    run(site.command().args(["approve", &file, "--yes", "--as", "carol"]).env("SSH_AUTH_SOCK", &socket));
    drop(agent);
    site.done(&["grant", &file]);
    let mut web = site.connect("client", 8080);
    let mut granted = site.connect("client", 8081);
    granted.goes_on();
    assert!(site.is_denied("stranger", 8081));
    let listed = words(&site.bulkhead(&["grants"]));
    assert!(listed.contains("tag:client to tag:server:8081/tcp until "), "{listed}");
    assert!(listed.contains("OPS-7: a look; requested by alice, approved by bob, carol"), "{listed}");
    let flows = words(&site.bulkhead(&["flows", "--json"]));
    assert!(flows.contains("\"ticket\":\"OPS-7\""), "{flows}");

    let (now, left) = (Instant::now(), left(&site));
    assert!(left > 2.0, "{left} s are left: too slow to see the end");
    let end = now + Duration::from_secs_f64(left);
    site.kill();
    let last = granted.last_arrival();
    let (late, early) = (last.saturating_duration_since(end), end.saturating_duration_since(last));
    assert!(
        late < Duration::from_secs(1) && early < Duration::from_secs(1),
        "late {late:?}, early {early:?}"
    );
    granted.is_cut();
    web.goes_on();
    assert!(site.is_denied("client", 8081));

    // The next agent says who it was, and does not take it again.
    site.start();
    site.wait_for("nothing granted", |status| status["grants"].is_null());
    let told = under(&site, "allowed");
    assert!(!told.is_empty());
    for record in told {
        let grant = &record["rule"]["grant"];
        assert_eq!((&grant["ticket"], &grant["requester"]), (&"OPS-7".into(), &"alice".into()), "{record}");
        assert_eq!(grant["approvers"], serde_json::json!(["bob", "carol"]), "{record}");
    }
    let again = site.bulkhead(&["grant", &file]);
    assert!(
        again.status.code() == Some(1) && words(&again).contains("it was good until"),
        "{}",
        words(&again)
    );
    let all = words(&site.bulkhead(&["grants", "--all"]));
    assert!(all.contains("[expired]"), "{all}");
}

#[test]
fn a_revoked_grant_s_session_is_cut_at_once_and_it_does_not_come_back() {
    let mut site = site("revoked");
    site.start();
    let file = approved(&site);
    site.done(&["grant", &file]);
    let mut granted = site.connect("client", 8081);
    granted.goes_on();
    // Over a restart it runs on.
    site.kill();
    site.start();
    granted.goes_on();
    let id = site.status()["grants"][0]["id"].as_str().unwrap().to_owned();
    site.done(&["revoke", &id[..8], "--reason", "done"]);
    granted.is_cut();
    assert!(site.is_denied("client", 8081));
    let again = site.bulkhead(&["grant", &file]);
    assert!(
        again.status.code() == Some(1) && words(&again).contains("was revoked here"),
        "{}",
        words(&again)
    );
    site.kill();
    site.start();
    assert!(site.is_denied("client", 8081));
    let again = site.bulkhead(&["grant", &file]);
    assert!(words(&again).contains("was revoked here"), "{}", words(&again));
    let told = words(&site.bulkhead(&["audit", "show", "--kind", "control"]));
    for said in ["grant", "revoke"] {
        assert!(told.contains(said), "{said}: {told}");
    }
}

#[test]
fn an_emergency_takes_one_signature_and_raises_an_alarm() {
    let mut site = site("glass");
    let configuration = std::fs::read_to_string(site.path("agent.toml")).unwrap();
    site.write("agent.toml", &(configuration + "[limits]\nnew_flows_per_second = 2\n"));
    site.start();
    let file = request(&site, "tag:server:8082", "5m", &["--break-glass"]);
    approve(&site, &file, "carol");
    site.done(&["grant", &file]);
    assert!(site.connects("client", 8082) && site.is_denied("client", 8081));
    let is_raised = |status: &Value| {
        let active = status["agent"]["alarms"]["active"].as_array().cloned().unwrap_or_default();
        active.iter().any(|alarm| alarm["alarm"] == "break_glass")
    };
    site.wait_for("an alarm", is_raised);
    let controls = reports(&site.journal_file());
    let glass: Vec<&Value> = controls.iter().filter(|report| report["action"] == "break_glass").collect();
    assert_eq!(glass.len(), 1, "{glass:?}");
    assert_eq!((&glass[0]["outcome"], &glass[0]["signers"]), (&"done".into(), &serde_json::json!(["carol"])));

    // Drops under it say so, too: of flows beyond what one sender may begin.
    for _ in 0..6 {
        assert!(site.connects("client", 8082));
    }
    let deadline = Instant::now() + Duration::from_secs(10);
    let dropped = loop {
        let dropped = under(&site, "drop");
        if !dropped.is_empty() || Instant::now() > deadline {
            break dropped;
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    let grant = &dropped.first().expect("a flow beyond the rate is dropped")["rule"]["grant"];
    assert_eq!((&grant["ticket"], &grant["requester"]), (&"OPS-7".into(), &"alice".into()));
    assert_eq!((&grant["approvers"], &grant["break_glass"]), (&serde_json::json!(["carol"]), &true.into()));
}

#[test]
fn what_is_no_grant_is_refused_over_the_socket() {
    let mut site = site("refusals");
    site.start();
    let generation = site.status()["agent"]["generation"].clone();
    site.write("garbage", "garbage");
    site.write("long", &"x".repeat(1 << 20));
    for (file, why) in [("garbage", "no empty line"), ("long", "longer than 16384 bytes")] {
        let refused = site.bulkhead(&["grant", &site.path(file)]);
        assert!(matches!(refused.status.code(), Some(1 | 2)), "{refused:?}");
        assert!(words(&refused).contains(why), "{}", words(&refused));
    }
    // A rule before it denies the same: what it would open stays shut.
    site.write(
        "policy.hujson",
        &policy(&site, ",{\"action\": \"deny\", \"src\": [\"*\"], \"dst\": [\"tag:server:8081\"]}"),
    );
    site.done(&["apply"]);
    let file = approved(&site);
    let answer = site.bulkhead(&["grant", &file]);
    assert!(words(&answer).contains("no packet of this host is decided by it"), "{}", words(&answer));
    assert!(site.is_denied("client", 8081));
    // A key that others may read does not sign.
    run(Command::new("chmod").arg("644").arg(site.path("bob")));
    let open = site.bulkhead(&["approve", &file, "--yes", "--as", "bob", "--key", &site.path("bob")]);
    assert!(open.status.code() == Some(2) && words(&open).contains("chmod 600"), "{}", words(&open));
    assert_ne!(site.status()["agent"]["generation"], generation);
}

#[test]
fn nothing_is_signed_without_a_yes() {
    let site = site("asked");
    let file = request(&site, "tag:server:8081", "10m", &[]);
    let unsigned = std::fs::read(&file).unwrap();
    let key = site.path("bob");
    let approve = ["approve", &file, "--as", "bob", "--key", &key];
    // In no terminal nobody is asked.
    let refused = site.bulkhead(&approve);
    assert!(
        refused.status.code() == Some(2) && words(&refused).contains("sign with --yes"),
        "{}",
        words(&refused)
    );
    assert_eq!(std::fs::read(&file).unwrap(), unsigned);
    // In one, what is signed is shown, and anything but a yes is a no.
    let in_terminal = |answer: &str| {
        let command = site.command().args(approve).get_args().map(|part| part.to_owned()).collect::<Vec<_>>();
        let parts = std::iter::once(site.command().get_program().to_owned()).chain(command);
        let line: Vec<String> = parts.map(|part| format!("'{}'", part.to_str().unwrap())).collect();
        let mut child = Command::new("script")
            .args(["-qec", &line.join(" "), "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(answer.as_bytes()).unwrap();
        words(&child.wait_with_output().unwrap())
    };
    for answer in ["n\n", "\n", "of course\n"] {
        let said = in_terminal(answer);
        assert!(said.contains("to: tag:server:8081") && said.contains("Sign this? [y/N]"), "{said}");
        assert!(said.contains("nothing is signed"), "{said}");
        assert_eq!(std::fs::read(&file).unwrap(), unsigned);
    }
    let said = in_terminal("y\n");
    assert!(said.contains("signed by bob"), "{said}");
    assert!(std::fs::read(&file).unwrap().len() > unsigned.len());
}

#[test]
fn a_grant_whose_generation_cannot_be_built_again_is_revoked_in_the_kernel() {
    let mut site = site("inplace");
    site.start();
    let file = approved(&site);
    site.done(&["grant", &file]);
    let mut granted = site.connect("client", 8081);
    granted.goes_on();
    let status = site.status();
    let (id, number) = (status["grants"][0]["id"].as_str().unwrap(), &status["agent"]["generation"]);
    let state = site.journal_file().with_file_name(format!("generation-{number}"));
    std::fs::remove_file(state.join("policy")).unwrap();
    let revoked = site.bulkhead(&["revoke", &id[..8]]);
    assert!(
        revoked.status.success() && words(&revoked).contains("no packet passes by it any more"),
        "{revoked:?}"
    );
    granted.is_cut();
    assert!(site.is_denied("client", 8081) && site.connects("client", 8080));
    let status = site.status();
    assert_eq!(status["agent"]["generation"], *number, "the same tables");
    let warnings = status["agent"]["warnings"].to_string();
    assert!(warnings.contains("a grant is over and still among the rules"), "{warnings}");
    site.done(&["apply"]);
    site.wait_for("it is done", |status| {
        !status["agent"]["warnings"].to_string().contains("a grant is over")
    });
}
