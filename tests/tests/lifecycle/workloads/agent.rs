//! What the agent does about workloads: units start and end, it dies, it is told otherwise, others meddle.

use std::time::Duration;

use super::{BACKUP, ENGINE, HOST, PEER, TO_HOST, World, of};

/// Links of the instance on cgroups: the root's, and by a cgroup's id.
fn pinned(world: &World, place: &str) -> usize {
    std::fs::read_dir(world.site.layout().join("cgroups").join(place)).map_or(0, Iterator::count)
}

#[test]
fn without_the_agent_all_goes_on_and_a_new_cgroup_is_nobody() {
    let mut world = World::new("dead", "");
    let (mut engine, mut backup, mut other) = world.start();
    let seen = format!("seen {ENGINE}");
    assert_eq!(engine.ask(&format!("open connection long {PEER}")), "open");
    world.site.kill();
    assert_eq!(engine.ask("say long"), "seen hello");
    assert_eq!(engine.ask(&format!("tcp {PEER}")), seen);
    assert_eq!(other.ask(&format!("tcp {TO_HOST}")), format!("seen {HOST}"));
    assert!(backup.ask(&format!("tcp {PEER}")).starts_with("error"));
    assert_eq!(engine.ask(&format!("raw {HOST} {PEER}")), "error PermissionDenied");
    // The unit starts again: its cgroup is another, which nobody has looked at.
    engine.kill();
    let unit = format!("system.slice/{}", world.engine_unit);
    let before = world.cgroups.id(&unit);
    world.cgroups.remove(&unit);
    let mut engine = world.engine();
    assert!(world.cgroups.id(&unit) > before);
    world.witness.seen();
    for command in [
        format!("tcp {PEER}"),
        format!("tcp {PEER} from={ENGINE}:0"),
        format!("udp {PEER}"),
        format!("raw {HOST} {PEER}"),
        format!("raw {ENGINE} {PEER}"),
        format!("tcp {TO_HOST}"),
        // Over lo from no overlay address; and what would lead around all programs, whoever it turns out to be.
        format!("udp {HOST}:9094 source=127.0.0.1"),
        "option bypass".to_owned(),
        "option xdp".to_owned(),
    ] {
        let answer = engine.ask(&command);
        assert!(answer == "error PermissionDenied", "{command}: {answer}");
    }
    assert_eq!(engine.ask("listen tcp 0.0.0.0:9091 engine"), "listening");
    let mut client = world.client();
    assert!(client.ask(&format!("tcp {HOST}:9091")).starts_with("error"), "nor does it hear as the host");
    assert_eq!(world.witness.seen(), []);
    // The next agent knows it.
    world.site.start();
    let status = world.wait_for("engine", "running");
    assert_eq!(status["cgroup"], world.cgroups.path(&unit), "{status}");
    assert_eq!(engine.ask(&format!("tcp {PEER}")), seen);
    assert_eq!(backup.ask(&format!("udp {PEER} from={BACKUP}:0")).split(' ').next(), Some("error"));
}

#[test]
fn a_unit_that_starts_again_is_its_new_cgroup_or_dropped() {
    let mut world = World::new("again", "");
    let (mut engine, _, _) = world.start();
    let unit = format!("system.slice/{}", world.engine_unit);
    let seen = format!("seen {ENGINE}");
    for round in 0..10 {
        let old = world.cgroups.id(&unit);
        engine.kill();
        world.cgroups.remove(&unit);
        world.witness.seen();
        engine = world.engine();
        assert_ne!(world.cgroups.id(&unit), old);
        // From its first moment on.
        let mut answers = Vec::new();
        while answers.last() != Some(&seen) {
            answers.push(engine.ask(&format!("tcp {PEER}")));
            assert!(answers.len() < 2000, "round {round}: {:?}", answers.last());
        }
        assert!(
            answers.iter().all(|answer| *answer == seen || answer == "error PermissionDenied"),
            "{answers:?}"
        );
        let others: Vec<_> =
            world.witness.seen().into_iter().filter(|(from, _)| from.to_string() != ENGINE).collect();
        assert_eq!(others, [], "round {round}");
        println!("round {round}: known after {} refusals", answers.len() - 1);
    }
    // What was attached to the cgroups that are gone is gone as well.
    // The kernel lets go of it once the last connection is, which nobody may answer any more; then the next look finds that.
    let places = || std::fs::read_dir(world.site.layout().join("cgroups")).unwrap().count();
    let deadline = std::time::Instant::now() + Duration::from_secs(150);
    while places() != 3 {
        assert!(std::time::Instant::now() < deadline, "{} beside the root's, and two workloads'", places());
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_socket_that_outlives_its_unit_is_not_the_hosts() {
    let mut world = World::new("outlives", "");
    let (mut engine, _, mut other) = world.start();
    let unit = format!("system.slice/{}", world.engine_unit);
    let id = world.cgroups.id(&unit).to_string();
    for name in ["first", "second"] {
        assert_eq!(engine.ask(&format!("open udp {name}")), "open");
    }
    let elsewhere = world.cgroups.at("user.slice/other.scope");
    assert_eq!(engine.ask(&format!("move {}", elsewhere.display())), "moved");
    world.cgroups.remove(&unit);
    world.wait_for("engine", "not_running");
    for name in ["first", "second"] {
        // Looks are taken meanwhile; the second time another agent takes them.
        std::thread::sleep(Duration::from_millis(2500));
        let answer = engine.ask(&format!("use {name} {TO_HOST}"));
        assert!(answer.starts_with("error"), "{answer}");
        assert_eq!(pinned(&world, &id), 9);
        world.site.kill();
        world.site.start();
    }
    assert_eq!(other.ask(&format!("udp {TO_HOST}")), format!("seen {HOST}"));
    engine.kill();
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while pinned(&world, &id) != 0 {
        assert!(std::time::Instant::now() < deadline, "{} are left", pinned(&world, &id));
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_directory_of_a_users_is_no_workload() {
    let mut world = World::new("delegated", "");
    let (mut engine, _, mut other) = world.start();
    // As a user's manager makes it, and one that a pattern reaches.
    let own = format!("user.slice/user@9.service/{}", world.engine_unit);
    drop(world.actor(&own));
    let pattern = world.cgroups.path("user.slice/mine-*");
    world.write_inventory(&format!(r#""unit": "{}", "cgroup": "{pattern}""#, world.engine_unit), "");
    world.site.done(&["apply"]);
    let mine = world.cgroups.at("user.slice/mine-1");
    std::os::unix::fs::chown(&mine, Some(65534), None).unwrap();
    let path = world.cgroups.path("user.slice/mine-1");
    let status = world.site.wait_for("a warning", |status| {
        let warnings = status["agent"]["warnings"].as_array().unwrap();
        warnings.iter().any(|warning| warning.as_str().unwrap().contains(&path))
    });
    assert_eq!(of(&status, "server/engine")["state"], "running", "{status}");
    assert_eq!(engine.ask(&format!("tcp {PEER}")), format!("seen {ENGINE}"));
    assert_eq!(other.ask(&format!("tcp {TO_HOST}")), format!("seen {HOST}"));
}

#[test]
fn a_unit_that_does_not_run_is_nobody() {
    let mut world = World::new("stopped", "");
    let mut other = world.other();
    let mut client = world.client();
    world.site.start();
    assert_eq!(world.wait_for("engine", "not_running")["cgroup"], serde_json::Value::Null);
    assert_eq!(other.ask("listen tcp 0.0.0.0:9090 other"), "listening");
    assert!(client.ask(&format!("tcp {ENGINE}:9090")).starts_with("error"), "nobody hears it");
    assert_eq!(other.ask(&format!("tcp {PEER} from={ENGINE}:0")), "error PermissionDenied");
    let mut engine = world.engine();
    world.wait_for("engine", "running");
    assert_eq!(engine.ask(&format!("tcp {PEER}")), format!("seen {ENGINE}"));
    engine.kill();
    world.cgroups.remove(&format!("system.slice/{}", world.engine_unit));
    world.wait_for("engine", "not_running");
    let records = world.site.bulkhead(&["audit", "show", "--kind", "workload", "--json"]);
    let records = String::from_utf8(records.stdout).unwrap();
    let states: Vec<_> = records
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|record| record["event"].clone())
        .filter(|event| event["workload"] == "server/engine")
        .map(|event| event["state"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(states, ["not_running", "running", "not_running"], "{records}");
}

#[test]
fn what_matches_twice_is_nobody_and_told() {
    let mut world = World::new("twice", "");
    let (mut engine, _, mut other) = world.start();
    assert_eq!(engine.ask(&format!("tcp {PEER}")), format!("seen {ENGINE}"));
    let twin = format!("user.slice/{}", world.engine_unit);
    let second = world.actor(&twin);
    let status = world.wait_for("engine", "ambiguous");
    let problem = status["problem"].as_str().unwrap();
    assert!(problem.contains(&world.cgroups.path(&twin)), "{problem}");
    assert_eq!(world.site.status()["state"], "degraded");
    assert!(engine.ask(&format!("tcp {PEER}")).starts_with("error"));
    second.kill();
    world.cgroups.remove(&twin);
    world.wait_for("engine", "running");
    assert_eq!(engine.ask(&format!("tcp {PEER}")), format!("seen {ENGINE}"));

    // Two workloads that are one cgroup, as only shows when they run.
    let backup = world.cgroups.path(&format!("system.slice/{}", world.backup_unit));
    let above = backup.rsplit_once('/').unwrap().0;
    world.write_inventory(&format!(r#""cgroup": "{above}""#), "");
    world.site.done(&["apply"]);
    for workload in ["engine", "backup"] {
        let status = world.wait_for(workload, "ambiguous");
        assert!(status["problem"].as_str().unwrap().contains("as well"), "{status}");
    }
    assert!(engine.ask(&format!("tcp {PEER}")).starts_with("error"));
    assert_eq!(other.ask(&format!("tcp {TO_HOST}")), format!("seen {HOST}"), "the host goes on");
}

#[test]
fn bad_input_changes_nothing_that_is_enforced() {
    let mut world = World::new("badinput", "");
    let (mut engine, _, _) = world.start();
    let unit = world.engine_unit.clone();
    let twin = format!(
        r#", {{"name": "twin", "addresses": ["100.64.9.3"], "tags": ["tag:backup"], "match": {{"unit": "{unit}"}}}}"#
    );
    let same = format!(
        r#", {{"name": "same", "addresses": ["{BACKUP}"], "tags": ["tag:backup"], "match": {{"unit": "c.service"}}}}"#
    );
    let unrouted = r#", {"name": "far", "addresses": ["100.64.10.1"], "tags": ["tag:backup"], "match": {"unit": "c.service"}}"#;
    for (more, words) in [(twin.as_str(), "twin"), (&same, BACKUP), (unrouted, "does not route 100.64.10.1")]
    {
        world.write_inventory(&format!(r#""unit": "{unit}""#), more);
        let output = world.site.bulkhead(&["apply"]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && said.contains(words), "{said}");
        assert!(said.contains("inventory.json:"), "{said}");
        assert_eq!(engine.ask(&format!("tcp {PEER}")), format!("seen {ENGINE}"));
    }
    // Nine addresses of one family: what the kernel's programs have no room for.
    let many: Vec<_> = (10..19).map(|last| format!("\"100.64.9.{last}\"")).collect();
    let many = format!(
        r#", {{"name": "many", "addresses": [{}], "tags": ["tag:backup"], "match": {{"unit": "c.service"}}}}"#,
        many.join(", ")
    );
    world.write_inventory(&format!(r#""unit": "{unit}""#), &many);
    let output = world.site.bulkhead(&["apply"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() != Some(0) && said.contains("more than 8 addresses"), "{said}");
    assert_eq!(engine.ask(&format!("tcp {PEER}")), format!("seen {ENGINE}"));
}

#[test]
fn other_workloads_are_put_in_force_without_a_gap() {
    let mut world = World::new("otherwise", "");
    let (mut engine, mut backup, mut other) = world.start();
    assert_eq!(engine.ask(&format!("open connection long {PEER}")), "open");
    for round in 0..5 {
        let more = r#", {"name": "third", "addresses": ["100.64.9.7"], "tags": ["tag:backup"], "match": {"unit": "third.service"}}"#;
        let more = if round % 2 == 0 { more } else { "" };
        world.write_inventory(&format!(r#""unit": "{}""#, world.engine_unit), more);
        world.site.done(&["apply"]);
        assert_eq!(engine.ask("say long"), "seen hello", "round {round}");
        assert_eq!(engine.ask(&format!("tcp {PEER}")), format!("seen {ENGINE}"));
        assert_eq!(engine.ask(&format!("raw {HOST} {PEER}")), "error PermissionDenied");
    }
    // Quarantined alone.
    world.site.done(&["quarantine", "server/engine"]);
    assert!(engine.ask(&format!("tcp {PEER}")).starts_with("error"));
    assert_eq!(other.ask(&format!("tcp {TO_HOST}")), format!("seen {HOST}"));
    world.site.done(&["release", "server/engine"]);
    assert_eq!(engine.ask(&format!("tcp {PEER}")), format!("seen {ENGINE}"));
    // No workloads any more: nothing of them is left.
    world.site.write(
        "inventory.json",
        r#"{"nodes": [{"name": "server", "addresses": ["100.64.0.1"], "tags": ["tag:server"]},
            {"name": "client", "addresses": ["100.64.0.2"], "tags": ["tag:client"]}]}"#,
    );
    let rule = r#"{"action": "accept", "src": ["tag:server"], "dst": ["tag:client:*"]}"#;
    world.write_policy(&[rule]);
    world.site.done(&["apply"]);
    assert_eq!(pinned(&world, "host"), 0);
    assert_eq!(backup.ask(&format!("tcp {PEER} from={HOST}:0")), format!("seen {HOST}"));
    assert_eq!(of(&world.site.status(), "server/engine"), serde_json::Value::Null);
}

#[test]
fn an_agent_that_is_killed_at_any_moment_leaves_nothing_open() {
    let mut world = World::new("killed", "");
    let (mut engine, backup, mut other) = world.start();
    drop(backup);
    let unit = format!("system.slice/{}", world.engine_unit);
    let third = r#", {"name": "third", "addresses": ["100.64.9.7"], "tags": ["tag:backup"], "match": {"unit": "third.service"}}"#;
    for round in 0..bulkhead_testkit::setting("BULKHEAD_KILLS", 8) {
        // While it puts others in force, and a unit starts again.
        let more = if round % 2 == 0 { third } else { "" };
        world.write_inventory(&format!(r#""unit": "{}""#, world.engine_unit), more);
        engine.kill();
        world.cgroups.remove(&unit);
        let delay = Duration::from_millis(fastrand::u64(..700));
        engine = std::thread::scope(|scope| {
            let site = &world.site;
            let applying = scope.spawn(move || site.bulkhead(&["apply"]).status.code());
            std::thread::sleep(delay / 2);
            let engine = world.engine();
            std::thread::sleep(delay / 2);
            site.signal(libc::SIGKILL);
            let code = applying.join().unwrap();
            assert!(matches!(code, Some(0 | 3)), "{code:?}");
            engine
        });
        world.site.kill();
        world.witness.seen();
        let attempts = |actor: &mut super::Actor| {
            for command in [
                format!("tcp {PEER}"),
                format!("udp {PEER} source={HOST}"),
                format!("raw {HOST} {PEER}"),
                format!("tcp {TO_HOST}"),
            ] {
                actor.ask(&command);
            }
            std::thread::sleep(Duration::from_millis(50));
        };
        attempts(&mut engine);
        let others = |from: &(std::net::IpAddr, _)| from.0.to_string() != ENGINE;
        let seen: Vec<_> = world.witness.seen().into_iter().filter(others).collect();
        assert_eq!(seen, [], "round {round}, killed after {delay:?}");
        other.ask(&format!("tcp {PEER} from={ENGINE}:0"));
        other.ask(&format!("raw {ENGINE} {PEER}"));
        assert_eq!(world.witness.seen(), [], "round {round}, killed after {delay:?}");
        world.site.start();
        world.wait_for("engine", "running");
        attempts(&mut engine);
        let seen = world.witness.seen();
        assert!(!seen.is_empty() && !seen.iter().any(others), "round {round}: {seen:?}");
        assert_eq!(other.ask(&format!("tcp {TO_HOST}")), format!("seen {HOST}"));
    }
}

#[test]
fn what_others_take_away_is_put_back() {
    let mut world = World::new("meddled", "");
    let (mut engine, _, mut other) = world.start();
    let cgroups = world.site.layout().join("cgroups");
    let id = world.cgroups.id(&format!("system.slice/{}", world.engine_unit)).to_string();
    let before = (pinned(&world, "host"), pinned(&world, &id));
    assert_eq!(before, (7, 9));
    std::fs::remove_file(cgroups.join(&id).join("egress")).unwrap();
    std::fs::remove_dir_all(cgroups.join("host")).unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while (pinned(&world, "host"), pinned(&world, &id)) != before {
        assert!(std::time::Instant::now() < deadline, "{}", world.site.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(world.site.log().contains("the link is not pinned"), "{}", world.site.log());
    assert_eq!(engine.ask(&format!("raw {HOST} {PEER}")), "error PermissionDenied");
    assert_eq!(other.ask(&format!("tcp {PEER} from={ENGINE}:0")), "error PermissionDenied");
    // Detached on purpose, nothing is held any more, whatever becomes of the agent.
    world.site.done(&["detach"]);
    assert!(!cgroups.exists());
    assert_eq!(engine.ask(&format!("tcp {PEER} from={HOST}:0")), format!("seen {HOST}"));
    assert_eq!(other.ask(&format!("tcp {PEER} from={ENGINE}:0")), format!("seen {ENGINE}"));
}

#[test]
fn a_detach_that_fails_leaves_nobody_off_the_overlay() {
    let mut world = World::new("stuck", "");
    let (_engine, _, mut other) = world.start();
    // What nobody can remove among the pins.
    let stuck = world.site.layout().join("cgroups/a-mount");
    std::fs::create_dir(&stuck).unwrap();
    let with = |words: &[&str]| {
        let status = std::process::Command::new(words[0]).args(&words[1..]).arg(&stuck).status().unwrap();
        assert!(status.success(), "{words:?}");
    };
    with(&["mount", "-t", "tmpfs", "none"]);
    let output = world.site.bulkhead(&["detach"]);
    let said = String::from_utf8_lossy(&output.stderr);
    // All else is gone, with the agent: a new cgroup, which nobody would look at any more, is as any.
    let mut new = world.actor("user.slice/new.scope");
    let answers = [&mut new, &mut other].map(|actor| actor.ask(&format!("tcp {PEER} from={ENGINE}:0")));
    with(&["umount"]);
    assert!(output.status.code() != Some(0) && said.contains("a-mount: removing it"), "{output:?}");
    assert_eq!(answers, [format!("seen {ENGINE}"), format!("seen {ENGINE}")]);
    world.site.done(&["detach"]);
    assert!(!world.site.layout().join("cgroups").exists());
}
