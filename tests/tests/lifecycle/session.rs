//! A change does not cut the session that asks for it, unless that is meant.

use std::net::{IpAddr, SocketAddr};
use std::process::{Command, Output};

use bulkhead_testkit::lab;
use serde_json::Value;

use crate::site::account::reports;
use crate::site::{OTHER, Over, Site, WEB, policy};

/// A command of somebody who has connected from `client` to a port of `server`, under sudo if `is_cleared`.
fn over_ssh(site: &Site, client: IpAddr, server: SocketAddr, is_cleared: bool, words: &[&str]) -> Output {
    let bulkhead = lab::bulkhead().unwrap();
    let session = format!("{client} 50122 {} {}", server.ip(), server.port());
    let mut command = Command::new("sh");
    // The shell stays above it.
    let clear = if is_cleared { "env -i PATH=\"$PATH\"" } else { "" };
    command.args(["-c", &format!("{clear} \"$@\"; exit $?"), "sh"]).arg(bulkhead);
    command.args(["--instance", site.instance()]).args(words).env("SSH_CONNECTION", session);
    site.namespace("server").prepare(&mut command).unwrap();
    command.output().unwrap()
}

#[track_caller]
fn is_refused(output: &Output) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text.contains("would cut the session that asks for it") && text.contains("--force"), "{text}");
}

#[test]
fn a_session_is_not_cut_by_what_is_asked_for_in_it() {
    for over in [Over::Ethernet, Over::Tunnel] {
        let mut site = Site::new("session", over, &[WEB]);
        site.start();
        site.write("other.hujson", &policy(&[OTHER]));
        let (client, server) = (site.address("client"), SocketAddr::new(site.address("server"), 8080));
        let other = site.path("other.hujson");
        let mut session = site.connect("client", 8080);
        let generation = site.status()["agent"]["generation"].clone();

        // With the variable at hand, or only above; also if it is to be confirmed; and it is said beforehand.
        for is_cleared in [false, true] {
            is_refused(&over_ssh(&site, client, server, is_cleared, &["apply", &other]));
        }
        is_refused(&over_ssh(&site, client, server, true, &["apply", &other, "--confirm", "60s"]));
        is_refused(&over_ssh(&site, client, server, true, &["apply", &other, "--dry-run"]));
        session.goes_on();
        assert_eq!(site.status()["agent"]["generation"], generation);
        let refused = |report: &&Value| report["kind"] == "control" && report["outcome"] == "refused";
        assert_eq!(reports(&site.journal_file()).iter().filter(refused).count(), 3);

        // Somebody else's session, one by an interface that is not managed, and what drops nothing.
        let done = |client, server: SocketAddr, words: &[&str]| {
            let output = over_ssh(&site, client, server, true, words);
            assert!(output.status.success(), "{words:?}: {output:?}");
        };
        let elsewhere = SocketAddr::new("127.0.0.1".parse().unwrap(), 8080);
        done("127.0.0.1".parse().unwrap(), elsewhere, &["apply", &other, "--dry-run"]);
        if over == Over::Tunnel {
            let underlay = SocketAddr::new(site.underlay("server"), 8080);
            done(site.underlay("client"), underlay, &["apply", &other, "--dry-run"]);
        }
        done(client, SocketAddr::new(server.ip(), 8081), &["apply", &other, "--dry-run"]);
        done(client, server, &["apply", &other, "--mode", "audit"]);
        session.goes_on();
        is_refused(&over_ssh(&site, client, server, true, &["apply", &other, "--mode", "enforce"]));
        session.goes_on();
        done(client, server, &["rollback"]);

        // The other ways to enforce something else.
        site.done(&["stage", &other]);
        is_refused(&over_ssh(&site, client, server, true, &["promote"]));
        session.goes_on();
        site.done(&["unstage"]);

        // It is meant; and the way back is refused to whom it cuts.
        done(client, server, &["apply", &other, "--force"]);
        session.is_cut();
        assert!(site.connects("client", 8081));
        is_refused(&over_ssh(&site, client, SocketAddr::new(server.ip(), 8081), true, &["rollback"]));
        done(client, server, &["rollback"]);
        assert!(site.connects("client", 8080) && site.is_denied("client", 8081));
    }
}

#[test]
fn a_session_by_another_interface_is_not_cut_by_the_guard() {
    let mut site = Site::new("guardcut", Over::Tunnel, &[WEB]);
    site.start();
    let (client, server) = (site.underlay("client"), SocketAddr::new(site.underlay("server"), 22));
    let inventory = std::fs::read_to_string(site.path("inventory.json")).unwrap();
    let with = |name: &str, address: IpAddr| {
        let overlay = format!("\"{}\"", site.address(name));
        assert!(inventory.contains(&overlay));
        site.write("other.json", &inventory.replace(&overlay, &format!("{overlay}, \"{address}\"")));
        site.path("other.json")
    };
    // The operator's address or the host's own as an overlay address, whoever has it; in audit mode, too.
    for (name, address) in
        [("client", client), ("stranger", client), ("server", client), ("server", server.ip())]
    {
        let other = with(name, address);
        for mode in ["enforce", "audit"] {
            let words = ["apply", "--inventory", &other, "--mode", mode];
            is_refused(&over_ssh(&site, client, server, true, &words));
        }
        site.done(&["stage", &site.path("policy.hujson"), "--inventory", &other]);
        is_refused(&over_ssh(&site, client, server, true, &["promote"]));
        site.done(&["unstage"]);
    }
    // What the guard lets pass is in nobody's way: somebody else's address, a session by the tunnel, and no guard.
    let done = |client, server, words: &[&str]| {
        let output = over_ssh(&site, client, server, true, words);
        assert!(output.status.success(), "{output:?}");
    };
    let other = with("client", site.underlay("stranger"));
    done(client, server, &["apply", "--inventory", &other, "--dry-run"]);
    let other = with("client", client);
    let by_tunnel = SocketAddr::new(site.address("server"), 8080);
    done(site.address("client"), by_tunnel, &["apply", "--inventory", &other, "--dry-run"]);
    // It is meant.
    done(client, server, &["apply", "--inventory", &other, "--force"]);
    done(client, server, &["apply"]);
}

#[test]
fn a_session_that_is_exempt_is_never_in_the_way() {
    let mut site = Site::new("exempt", Over::Ethernet, &[WEB]);
    let (client, server) = (site.address("client"), SocketAddr::new(site.address("server"), 8080));
    let exempt = format!("[[management]]\nfrom = [\"{client}\"]\nports = [8080]\n");
    site.write("agent.toml", &(site.configuration("server", "eth0") + &exempt));
    site.start();
    site.write_policy(&[OTHER]);
    let output = over_ssh(&site, client, server, true, &["apply"]);
    assert!(output.status.success(), "{output:?}");
    assert!(site.connects("client", 8080) && site.connects("client", 8081));
}
