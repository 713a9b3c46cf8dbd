//! What workloads of one host say to each other, and to the host, by lo.

use super::{BACKUP, ENGINE, ENGINE6, HOST, World, count};

#[test]
fn workloads_of_one_host_are_apart_over_lo() {
    let mut world = World::with_lo("apart");
    let (mut engine, mut backup, mut other) = world.start();
    for (actor, name, own) in [(&mut engine, "engine", ENGINE), (&mut backup, "backup", BACKUP)] {
        assert_eq!(actor.ask(&format!("listen tcp {own}:9092 {name}")), "listening");
        assert_eq!(actor.ask(&format!("listen udp {own}:9093 {name}")), "listening");
    }
    assert_eq!(other.ask("listen tcp 0.0.0.0:9094 other"), "listening");
    let apart = |engine: &mut super::Actor, backup: &mut super::Actor, other: &mut super::Actor| {
        // The one rule: the engine may come to the backup's 9092.
        assert_eq!(engine.ask(&format!("tcp {BACKUP}:9092")), "seen backup");
        for (who, command) in [
            (1, format!("tcp {ENGINE}:9092")),
            (1, format!("udp {ENGINE}:9093")),
            (1, format!("tcp {HOST}:9094")),
            (0, format!("udp {BACKUP}:9093")),
            (0, format!("tcp {HOST}:9094")),
            (2, format!("tcp {ENGINE}:9092")),
            (2, format!("udp {BACKUP}:9093")),
            (2, format!("tcp {BACKUP}:9092 from=127.0.0.1:0")),
        ] {
            let answer = [&mut *engine, &mut *backup, &mut *other][who].ask(&command);
            assert!(answer.starts_with("error"), "{command}: {answer}");
        }
        // Each reaches itself, and what is no workload's goes on as ever.
        assert_eq!(engine.ask(&format!("tcp {ENGINE}:9092")), "seen engine");
        assert_eq!(backup.ask(&format!("udp {BACKUP}:9093")), "seen backup");
        assert_eq!(other.ask(&format!("tcp {HOST}:9094")), "seen other");
        assert_eq!(other.ask("tcp 127.0.0.1:9094"), "seen other");
        assert_eq!(engine.ask("tcp 127.0.0.1:9094"), "seen other");
    };
    apart(&mut engine, &mut backup, &mut other);
    let status = world.site.status();
    assert_eq!(status["state"], "enforced", "{status}");
    assert!(count(&status, "egress", "no_rule") > 0, "{status}");
    // Nobody speaks as the engine, and packet sockets do not at all.
    for actor in [&mut backup, &mut other] {
        assert_eq!(actor.ask(&format!("raw {ENGINE} {BACKUP}:9093")), "error PermissionDenied");
        actor.ask(&format!("packet {ENGINE} {BACKUP}:9093 lo"));
    }
    let status = world.site.status();
    assert!(count(&status, "egress", "workload_spoofed") > 0, "{status}");
    // From an address that is nobody's identity it reaches nobody of the overlay.
    for command in [
        format!("udp {HOST}:9094 connect source=127.0.0.1"),
        format!("raw 127.0.0.1 {HOST}:9094"),
        format!("udp {BACKUP}:9093 connect source=127.0.0.1"),
    ] {
        assert_eq!(engine.ask(&command), "error PermissionDenied", "{command}");
    }
    // Without the agent the same.
    world.site.kill();
    apart(&mut engine, &mut backup, &mut other);
    world.site.start();
    world.wait_for("engine", "running");
    apart(&mut engine, &mut backup, &mut other);
    // A closed port answers at once.
    assert_eq!(engine.ask("listen tcp 127.0.0.1:9099 engine"), "listening");
    let rules: Vec<_> = super::RULES
        .into_iter()
        .chain([r#"{"action": "accept", "src": ["tag:engine"], "dst": ["tag:backup:9098"]}"#])
        .collect();
    world.write_policy(&rules);
    world.site.done(&["apply"]);
    assert_eq!(engine.ask(&format!("tcp {BACKUP}:9098")), "error ConnectionRefused");
    apart(&mut engine, &mut backup, &mut other);
    // IPv6 as well, to itself.
    assert_eq!(engine.ask(&format!("listen tcp [{ENGINE6}]:9095 engine")), "listening");
    assert_eq!(engine.ask(&format!("tcp [{ENGINE6}]:9095")), "seen engine");
    assert!(other.ask(&format!("tcp [{ENGINE6}]:9095")).starts_with("error"));
}

#[test]
fn a_host_that_does_not_judge_lo_is_told_so() {
    let mut world = World::new("unjudged", "");
    let (mut engine, mut backup, _) = world.start();
    assert_eq!(engine.ask("listen tcp 0.0.0.0:9092 engine"), "listening");
    assert_eq!(backup.ask(&format!("tcp {ENGINE}:9092")), "seen engine", "nothing judges it");
    let warnings = world.site.status()["agent"]["warnings"].to_string();
    assert!(warnings.contains("role = \\\"local\\\""), "{warnings}");
}
