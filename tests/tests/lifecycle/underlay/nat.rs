//! A peer behind a translator (NAT), which gives its tunnel another port at every start.

use std::process::Command;

use super::{arrives, configure, leaks, udp, underlay_site};
use crate::site::Site;

/// Translates what the host's tunnel sends as a router in front of it would: to a port of its choice, and nothing
/// new comes in.
fn translate(site: &Site, host: &str) {
    let table = "table ip translator {
        chain out { type nat hook postrouting priority 100; oifname \"eth0\" udp sport 51820 masquerade to :20000-20999 random; }
        chain in { type filter hook input priority 0; iifname \"eth0\" udp dport 51820 ct state new drop; }
    }";
    let mut command = Command::new("nft");
    command.arg(table);
    site.namespace(host).prepare(&mut command).unwrap();
    let done = command.output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn a_peer_behind_a_translator_is_met() {
    let mut site = underlay_site("nat", "");
    translate(&site, "client");
    site.start();
    assert!(site.connects("client", 8080), "the peer begins");
    assert!(site.is_denied("client", 8081));
    let flows = site.bulkhead(&["flows", "--json"]);
    let flows = String::from_utf8(flows.stdout).unwrap();
    let is_translated = |port: u32| {
        flows.contains(&format!(":{port},"))
            || flows.contains(&format!(": {port},"))
            || flows.contains(&format!(":{port}\""))
    };
    assert!((20_000..21_000).any(is_translated), "the tunnel comes from another port: {flows}");

    // Where the host is to begin, ports that nobody can know are named as such.
    let (begins, far) = (udp(&site, "server", 0), udp(&site, "client", 20_777));
    let client = site.underlay("client");
    assert!(!leaks(&begins, &far, client), "at a port of the translator's");
    site.kill();
    configure(&site, "wireguard = { port = 51820, peers = [\"192.0.2.0/24\"], peer_ports = \"any\" }\n");
    site.start();
    assert!(arrives(&begins, &far, client) && site.connects("client", 8080));
    let exempt = site.status()["agent"]["exemptions"].to_string();
    assert!(exempt.contains("192.0.2.0/24, at any port of theirs"), "{exempt}");
}
