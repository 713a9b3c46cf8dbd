//! Each way around that was thought of, with real sockets: nothing leaves or arrives under another's name.

use std::net::{IpAddr, SocketAddr};

use super::cgroup::Actor;
use super::{BACKUP, ENGINE, ENGINE6, HOST, HOST6, PEER, PEER6, TO_BACKUP, TO_HOST, World, count};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Asserts what each command comes to.
fn all(actor: &mut Actor, expected: &[(String, &str)]) {
    for (command, answer) in expected {
        assert_eq!(&actor.ask(command), answer, "{command}");
    }
}

/// What a command is refused with: by a program on a cgroup, at once.
const REFUSED: &str = "error PermissionDenied";
/// What waits for an answer that does not come.
const SILENT: [&str; 3] = ["error WouldBlock", "error TimedOut", "error PermissionDenied"];

#[test]
fn a_workload_is_seen_as_itself_however_it_connects() {
    let mut world = World::new("asitself", "");
    let (mut engine, mut backup, mut other) = world.start();
    let seen = &*format!("seen {ENGINE}");
    let seen6 = &*format!("seen {ENGINE6}");
    all(
        &mut engine,
        &[
            (format!("tcp {PEER}"), seen),
            (format!("tcp {PEER6}"), seen6),
            (format!("tcp {PEER} mapped"), seen),
            (format!("tcp {PEER} from=0.0.0.0:0"), seen),
            (format!("tcp {PEER6} from=[::]:0"), seen6),
            (format!("tcp {PEER} from={ENGINE}:0"), seen),
            (format!("tcp {PEER} device=wg0"), seen),
            (format!("tcp {PEER} fastopen"), seen),
            (format!("tcp {PEER} mptcp"), seen),
            (format!("udp {PEER}"), seen),
            (format!("udp {PEER6}"), seen6),
            (format!("udp {PEER} mapped"), seen),
            (format!("udp {PEER} connect"), seen),
            (format!("udp {PEER} from=0.0.0.0:0"), seen),
            (format!("udp {PEER} from={ENGINE}:0"), seen),
            // Who asks for another source gets its own.
            (format!("udp {PEER} source={HOST}"), seen),
            (format!("udp {PEER} source={BACKUP}"), seen),
            (format!("udp {PEER6} source={HOST6}"), seen6),
            (format!("udp {PEER} source={ENGINE}"), seen),
            (format!("ring {PEER}"), seen),
            (format!("ring {PEER} sqpoll"), seen),
            // A child, and what it executes, are the same workload.
            (format!("child tcp {PEER}"), seen),
        ],
    );
    // A cgroup below the workload's is the same workload.
    let mut below = world.actor(&format!("system.slice/{}/worker", world.engine_unit));
    assert_eq!(below.ask(&format!("tcp {PEER}")), seen);
    // Rights are each one's own.
    assert_eq!(backup.ask(&format!("tcp {TO_BACKUP}")), format!("seen {BACKUP}"));
    assert_eq!(other.ask(&format!("tcp {TO_HOST}")), format!("seen {HOST}"));
    for (who, actor, to) in [
        ("engine", &mut engine, TO_BACKUP),
        ("engine", &mut below, TO_HOST),
        ("backup", &mut backup, PEER),
        ("other", &mut other, PEER),
    ] {
        let answer = actor.ask(&format!("tcp {to}"));
        assert!(SILENT.contains(&&*answer), "{who} to {to}: {answer}");
    }
    let all = world.witness.seen();
    let is_named = |seen: &IpAddr| [ENGINE, ENGINE6, BACKUP, HOST].map(ip).contains(seen);
    assert!(all.iter().all(|(from, _)| is_named(from)), "{all:?}");
    // Loopback is everybody's, with the addresses that it always had.
    assert_eq!(other.ask("listen tcp 127.0.0.1:7070 other"), "listening");
    assert_eq!(engine.ask("tcp 127.0.0.1:7070"), "seen other");
}

#[test]
fn nothing_leaves_as_another_or_as_the_host() {
    let mut world = World::new("asother", "");
    let (mut engine, mut backup, mut other) = world.start();
    for bound in [HOST, BACKUP] {
        all(
            &mut engine,
            &[
                (format!("tcp {PEER} from={bound}:0"), REFUSED),
                (format!("tcp {PEER} from={bound}:0 transparent"), REFUSED),
                (format!("tcp {PEER} from={bound}:0 freebind"), REFUSED),
                (format!("udp {PEER} from={bound}:0"), REFUSED),
                (format!("udp {PEER} connect source={bound}"), REFUSED),
                (format!("raw {bound} {PEER}"), REFUSED),
            ],
        );
    }
    assert_eq!(engine.ask(&format!("tcp {PEER6} from=[{HOST6}]:0")), REFUSED);
    assert_eq!(engine.ask(&format!("udp {PEER6} connect source={HOST6}")), REFUSED);
    // Bound to any address with a port of its own, it cannot be bound again: refused, not sent as the host.
    assert_eq!(engine.ask(&format!("tcp {PEER} from=0.0.0.0:7777")), REFUSED);
    // The rest of the host binds no workload's address, nor sends from one.
    all(
        &mut other,
        &[
            (format!("tcp {PEER} from={ENGINE}:0"), REFUSED),
            (format!("tcp {PEER6} from=[{ENGINE6}]:0"), REFUSED),
            (format!("udp {PEER} from={ENGINE}:0"), REFUSED),
            (format!("listen tcp {ENGINE}:7071 other"), REFUSED),
            (format!("udp {PEER} source={ENGINE}"), REFUSED),
            (format!("raw {ENGINE} {PEER}"), REFUSED),
        ],
    );
    world.witness.seen();
    // Packet sockets have no program on a cgroup: they send nothing there at all.
    for (actor, of) in [(&mut engine, "engine"), (&mut backup, "backup"), (&mut other, "other")] {
        for source in [HOST, ENGINE, BACKUP] {
            let answer = actor.ask(&format!("packet {source} {PEER} wg0"));
            assert!(answer.starts_with("error") || answer == "sent", "{of} {source}: {answer}");
        }
    }
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(world.witness.seen(), []);
    let status = world.site.status();
    assert!(count(&status, "egress", "workload_spoofed") >= 9, "{status}");
}

#[test]
fn audit_mode_passes_what_rules_deny_and_nobody_as_another() {
    let mut world = World::new("audited", "");
    let (mut engine, mut backup, mut other) = world.start();
    world.site.done(&["apply", "--mode", "audit"]);
    assert_eq!(backup.ask(&format!("tcp {PEER}")), format!("seen {BACKUP}"), "no rule admits it");
    world.witness.seen();
    for actor in [&mut engine, &mut backup, &mut other] {
        for source in [HOST, ENGINE, BACKUP] {
            actor.ask(&format!("packet {source} {PEER} wg0"));
        }
    }
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(world.witness.seen(), []);
    assert!(count(&world.site.status(), "egress", "workload_spoofed") >= 9, "{}", world.site.status());
    let records = world.site.bulkhead(&["audit", "show", "--kind", "drop", "--json"]);
    let records = String::from_utf8(records.stdout).unwrap();
    let told = |reason: &str, audit: bool| {
        let words = [format!("\"{reason}\""), format!("\"audit\":{audit}")];
        records.lines().filter(|line| words.iter().all(|word| line.contains(&**word))).count()
    };
    assert!(told("workload_spoofed", false) > 0 && told("no_rule", true) > 0, "{records}");
    assert_eq!((told("workload_spoofed", true), told("no_rule", false)), (0, 0), "{records}");
}

#[test]
fn the_ways_around_programs_on_interfaces_are_refused() {
    let mut world = World::new("around", "");
    let (mut engine, mut backup, mut other) = world.start();
    for actor in [&mut engine, &mut backup] {
        all(
            actor,
            &[
                ("option bypass".to_owned(), REFUSED),
                ("option xdp".to_owned(), REFUSED),
                // All else goes on.
                ("option keepalive".to_owned(), "set"),
                ("option version".to_owned(), "set"),
                ("option long".to_owned(), "set"),
            ],
        );
        assert_eq!(actor.ask(&format!("packet {HOST} {PEER} wg0 bypass")), REFUSED);
    }
    assert_eq!(other.ask("option bypass"), "set", "to others only where agent.toml says so");
    assert_eq!(other.ask("option xdp"), "set");
    world.site.kill();
    let config = world.site.configuration("server", "wg0") + "[workloads]\nrefuse_bypass = \"all\"\n";
    world.site.write("agent.toml", &config);
    world.site.start();
    all(
        &mut other,
        &[
            ("option bypass".to_owned(), REFUSED),
            ("option xdp".to_owned(), REFUSED),
            ("option keepalive".to_owned(), "set"),
            ("option long".to_owned(), "set"),
            (format!("packet {ENGINE} {PEER} wg0 bypass"), REFUSED),
        ],
    );
}

#[test]
fn a_socket_is_whose_it_was_made_by() {
    let mut world = World::new("whose", "");
    let (mut engine, mut backup, _) = world.start();
    let engines = world.cgroups.at(&format!("system.slice/{}", world.engine_unit)).display().to_string();
    let backups = world.cgroups.at(&format!("system.slice/{}", world.backup_unit)).display().to_string();
    // Opened in one, used from another: it stays the first one's.
    assert_eq!(backup.ask("open tcp old"), "open");
    assert_eq!(backup.ask("open udp old-datagrams"), "open");
    assert_eq!(backup.ask(&format!("move {engines}")), "moved");
    assert_eq!(backup.ask(&format!("use old {TO_BACKUP}")), format!("seen {BACKUP}"));
    assert_eq!(backup.ask(&format!("use old-datagrams {TO_BACKUP}")), format!("seen {BACKUP}"));
    assert_eq!(backup.ask(&format!("tcp {PEER}")), format!("seen {ENGINE}"), "a new one is the engine's");
    assert_eq!(backup.ask(&format!("move {backups}")), "moved");
    // Handed over: it speaks as whoever opened it, who had to cooperate.
    let path = world.site.path("passed");
    assert_eq!(engine.ask("open udp mine"), "open");
    engine.begin(&format!("give mine {path}"));
    assert_eq!(backup.ask(&format!("take its {path}")), "taken");
    assert_eq!(engine.end(), "given");
    assert_eq!(backup.ask(&format!("use its {PEER}")), format!("seen {ENGINE}"));
    // A process without rights cannot move itself.
    let mut nobody =
        Actor::nobody(world.site.namespace("server"), &world.cgroups.at("user.slice/nobody.scope"));
    assert_eq!(nobody.ask(&format!("move {engines}")), REFUSED);
    assert!(SILENT.contains(&&*nobody.ask(&format!("tcp {PEER}"))));
}

#[test]
fn what_comes_to_a_workload_is_received_by_it_alone() {
    let mut world = World::new("received", "");
    let (mut engine, mut backup, mut other) = world.start();
    let mut client = world.client();
    let at = |address: &str, port: u16| SocketAddr::new(ip(address), port);
    assert_eq!(engine.ask("listen tcp 0.0.0.0:9090 engine"), "listening");
    assert_eq!(engine.ask("listen udp 0.0.0.0:9090 engine"), "listening");
    assert_eq!(client.ask(&format!("tcp {}", at(ENGINE, 9090))), "seen engine");
    assert_eq!(client.ask(&format!("udp {}", at(ENGINE, 9090))), "seen engine");
    assert_eq!(engine.ask("tcp 127.0.0.1:9090"), "seen engine");
    // At the host's address and the backup's nobody answers, whatever the rules say.
    world.write_policy(&[r#"{"action": "accept", "src": ["tag:client"], "dst": ["*:9090", "*:9091"]}"#]);
    world.site.done(&["apply"]);
    for address in [HOST, BACKUP] {
        for by in ["tcp", "udp"] {
            let answer = client.ask(&format!("{by} {}", at(address, 9090)));
            assert!(
                SILENT.contains(&&*answer) || answer == "error ConnectionRefused",
                "{address} {by}: {answer}"
            );
        }
    }
    // Another one's wildcard does not get what is sent to the engine.
    assert_eq!(other.ask("listen tcp 0.0.0.0:9091 other"), "listening");
    assert_eq!(backup.ask("listen udp 0.0.0.0:9091 backup"), "listening");
    assert_eq!(client.ask(&format!("tcp {}", at(HOST, 9091))), "seen other");
    assert_eq!(client.ask(&format!("udp {}", at(BACKUP, 9091))), "seen backup");
    for (by, address) in [("tcp", ENGINE), ("tcp", BACKUP), ("udp", ENGINE), ("udp", HOST)] {
        let answer = client.ask(&format!("{by} {}", at(address, 9091)));
        assert!(
            SILENT.contains(&&*answer) || answer == "error ConnectionRefused",
            "{address} {by}: {answer}"
        );
    }
}

#[test]
fn the_kernels_own_answers_arrive() {
    let mut world = World::new("answers", "");
    let (mut engine, _, _) = world.start();
    let mut client = world.client();
    // A closed port of the workload's resets at once.
    assert_eq!(client.ask(&format!("tcp {ENGINE}:9090")), "error ConnectionRefused");
    assert_eq!(client.ask(&format!("udp {ENGINE}:9090 connect")), "error ConnectionRefused");
    // Its side closes first, and stays in TIME_WAIT: connections after connections go on.
    assert_eq!(engine.ask("listen tcp 0.0.0.0:9090 engine"), "listening");
    for _ in 0..20 {
        assert_eq!(client.ask(&format!("tcp {ENGINE}:9090")), "seen engine");
        assert_eq!(engine.ask(&format!("tcp {PEER}")), format!("seen {ENGINE}"));
    }
    std::thread::sleep(std::time::Duration::from_millis(300));
    let status = world.site.status();
    assert_eq!(count(&status, "egress", "workload_spoofed"), 0, "{status}");
}
