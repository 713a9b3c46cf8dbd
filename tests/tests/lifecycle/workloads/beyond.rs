//! What leads out of a workload's cgroup: other namespaces, cgroups below it that are somebody else's, ICMP.

use std::time::{Duration, Instant};

use bulkhead_testkit::lab::Namespace;
use serde_json::Value;

use super::capture::{Capture, Captured, Packet};
use super::cgroup::Actor;
use super::{BACKUP, ENGINE, ENGINE6, HOST, HOST6, PEER, PEER6, World, count};

const REFUSED: &str = "error PermissionDenied";

/// A namespace behind the server, which forwards IPv6 for it.
fn behind(world: &World) -> Namespace {
    let (server, behind) = (
        world.site.namespace("server"),
        Namespace::create(&format!("behind-{}", world.site.instance())).unwrap(),
    );
    server.ip(&format!("link add inside type veth peer name eth0 netns {}", behind.name())).unwrap();
    server.ip("addr add fd00::1/64 dev inside nodad").unwrap();
    server.ip("link set inside up").unwrap();
    for words in [
        "link set lo up",
        "addr add fd00::2/64 dev eth0 nodad",
        "link set eth0 up",
        "-6 route add default via fd00::1",
    ] {
        behind.ip(words).unwrap();
    }
    let forwarding = "/proc/sys/net/ipv6/conf/all/forwarding";
    server.run(|| std::fs::write(forwarding, "1")).unwrap().unwrap();
    behind
}

#[test]
fn what_is_forwarded_from_another_namespace_is_nobodys() {
    let (status, _world) = forwarded("forwarded", "");
    assert_eq!(status["guard"][0]["reason"], "guard_own_source", "{status}");
}

#[test]
fn what_is_forwarded_is_nobodys_without_the_guard_as_well() {
    let (status, _world) = forwarded("unguarded", "guard = false\n");
    assert_eq!(status["guard"], serde_json::json!([]), "{status}");
    assert!(count(&status, "egress", "workload_spoofed") >= 2, "{status}");
}

/// Has others behind the server send as the engine; the agent's status then.
fn forwarded(label: &str, more: &str) -> (Value, World) {
    let mut world = World::new(label, "");
    let config = world.site.configuration("server", "wg0");
    world.site.write("agent.toml", &(more.to_owned() + &config));
    let behind = behind(&world);
    // By a process that is in the engine's cgroup, and by one that is not.
    let engines = world.cgroups.at(&format!("system.slice/{}", world.engine_unit));
    let mut inside = Actor::new(&behind, &engines);
    let mut outside = Actor::new(&behind, &world.cgroups.at("user.slice/behind.scope"));
    let is_engine6 = |packet: &Packet| packet.source.to_string() != ENGINE6;
    let capture = Capture::start(world.site.namespace("client"), "wg0", is_engine6);
    let forged = format!("raw {ENGINE6} {PEER6}");
    // Nothing holds it yet; its first packets wait until neighbours have addresses.
    let deadline = Instant::now() + Duration::from_secs(20);
    while capture.take().wrong.is_empty() {
        assert!(Instant::now() < deadline);
        assert_eq!(outside.ask(&forged), "sent");
    }
    let (mut engine, _, _) = world.start();
    capture.take();
    for actor in [&mut inside, &mut outside] {
        assert_eq!(actor.ask(&forged), "sent");
    }
    let Captured { wrong, .. } = capture.take();
    assert!(wrong.is_empty(), "{wrong:?}");
    // The engine itself is heard there.
    assert_eq!(engine.ask(&format!("tcp {PEER6}")), format!("seen {ENGINE6}"));
    assert!(!capture.take().wrong.is_empty());
    (world.site.status(), world)
}

#[test]
fn an_echo_is_asked_for_from_the_workloads_own_address() {
    let mut world = World::new("echo", "");
    world.write_policy(&[r#"{"action": "accept", "src": ["*"], "dst": ["*:*"]}"#]);
    let server = world.site.namespace("server");
    server.run(|| std::fs::write("/proc/sys/net/ipv4/ping_group_range", "0 0")).unwrap().unwrap();
    let is_host = |packet: &Packet| ![HOST, HOST6].contains(&&*packet.source.to_string());
    let capture = Capture::start(world.site.namespace("client"), "wg0", is_host);
    let (mut engine, _, mut other) = world.start();
    let [to, to6] = ["100.64.0.2:0", "[fd7a:115c:a1e0::2]:0"].map(|to| format!("echo {to}"));
    capture.take();
    // Its socket is asked for no address. IPv6 does not tell it that nothing was sent.
    assert_eq!(engine.ask(&to), REFUSED);
    assert!(engine.ask(&to6).starts_with("error"));
    for (to, own) in [(&to, format!("{ENGINE}:77")), (&to6, format!("[{ENGINE6}]:77"))] {
        assert_eq!(engine.ask(&format!("{to} from={own}")), "echoed");
        assert!(other.ask(&format!("{to} from={own}")).starts_with("error"));
    }
    assert_eq!(engine.ask(&format!("{to} from={BACKUP}:77")), REFUSED);
    let Captured { packets, wrong } = capture.take();
    assert!(packets >= 2 && wrong.is_empty(), "{packets}: {wrong:?}");
    for to in [&to, &to6] {
        assert_eq!(other.ask(to), "echoed");
    }
    assert_eq!(capture.take().wrong.len(), 2);
}

/// A new cgroup is nobody until it was looked at, and then the engine.
fn is_known(actor: &mut Actor) {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match &*actor.ask(&format!("tcp {PEER}")) {
            REFUSED => assert!(Instant::now() < deadline, "it stays unknown"),
            answer => return assert_eq!(answer, format!("seen {ENGINE}")),
        }
    }
}

#[test]
fn who_owns_a_subtree_of_a_workload_stays_that_workload() {
    let mut world = World::new("subtree", "");
    let (_engine, mut backup, _) = world.start();
    let given = world.cgroups.at(&format!("system.slice/{}/given", world.engine_unit));
    let (first, second) = (given.join("first"), given.join("second"));
    std::fs::create_dir(&first).unwrap();
    for path in [&given, &first] {
        for file in [path.clone(), path.join("cgroup.procs"), path.join("cgroup.subtree_control")] {
            std::os::unix::fs::chown(file, Some(65534), Some(65534)).unwrap();
        }
    }
    let mut owner = Actor::nobody(world.site.namespace("server"), &first);
    is_known(&mut owner);
    // It makes cgroups of its own, and goes there.
    assert_eq!(owner.ask(&format!("make {}", second.display())), "made");
    assert_eq!(owner.ask(&format!("move {}", second.display())), "moved");
    is_known(&mut owner);
    let backups = world.cgroups.at(&format!("system.slice/{}", world.backup_unit));
    for elsewhere in [backups, world.cgroups.at("user.slice/other.scope")] {
        assert_eq!(owner.ask(&format!("move {}", elsewhere.display())), REFUSED);
    }
    assert_eq!(owner.ask(&format!("tcp {PEER} from={BACKUP}:0")), REFUSED);
    // Nor does whoever owns it take another's process in.
    let mut nobody = Actor::nobody(
        world.site.namespace("server"),
        &world.cgroups.at(&format!("system.slice/{}", world.backup_unit)),
    );
    assert_eq!(nobody.ask(&format!("move {}", second.display())), REFUSED);
    assert_eq!(backup.ask(&format!("udp {PEER} source={ENGINE}")).split(' ').next(), Some("error"));
    let others: Vec<_> =
        world.witness.seen().into_iter().filter(|(from, _)| from.to_string() != ENGINE).collect();
    assert_eq!(others, []);
}
