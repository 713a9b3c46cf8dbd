//! Who changed what is enforced, or tried to, is in the event log and in `watch`.

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::{Duration, Instant};

use bulkhead_testkit::lab::{self, Process, slower};
use serde_json::Value;

use crate::site::account::{number, reports};
use crate::site::{OTHER, Over, Site, WEB, policy};

/// The control events of an action on record.
fn of(site: &Site, action: &str) -> Vec<Value> {
    let reports = reports(&site.journal_file()).into_iter();
    reports.filter(|report| report["kind"] == "control" && report["action"] == action).collect()
}

/// Waits for the next control event of an action.
#[track_caller]
fn next(site: &Site, action: &str, known: usize) -> Value {
    let deadline = Instant::now() + slower(Duration::from_secs(20));
    loop {
        if let Some(event) = of(site, action).get(known) {
            return event.clone();
        }
        assert!(Instant::now() < deadline, "no {action} after {known}:\n{}", site.log());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// By a command of root.
#[track_caller]
fn is_by_command(event: &Value) {
    let by = &event["by"];
    assert_eq!((&by["via"], &by["uid"], &by["gid"]), (&"socket".into(), &0.into(), &0.into()), "{event}");
    assert_eq!(by["comm"], "bulkhead", "{event}");
    assert!(by["pid"].is_u64() && by["exe"].as_str().unwrap().ends_with("/bulkhead"), "{event}");
}

#[track_caller]
fn is(event: &Value, outcome: &str, subject: Value, detail: Value) {
    assert_eq!(
        (&event["outcome"], &event["subject"], &event["detail"]),
        (&outcome.into(), &subject, &detail)
    );
    assert_eq!(event["node"], "server", "{event}");
}

#[test]
fn who_changed_what_is_on_record_and_watched() {
    let mut site = Site::new("control", Over::Ethernet, &[WEB]);
    site.start();
    let started = next(&site, "start", 0);
    is(&started, "done", Value::Null, Value::Null);
    assert_eq!((&started["by"]["via"], &started["generation_before"]), (&"agent".into(), &0.into()));
    let watched = site.lab.directory().join("watched");
    let mut watch = Command::new(lab::bulkhead().unwrap());
    watch.args(["--json", "--instance", site.instance(), "watch"]);
    let watch = Process::spawn(site.namespace("server"), &mut watch, &watched).unwrap();
    std::thread::sleep(slower(Duration::from_millis(500)));

    // By command: another policy, known by its digest, and one that is not enforced.
    site.write_policy(&[OTHER]);
    site.done(&["apply"]);
    let applied = next(&site, "apply", 0);
    is_by_command(&applied);
    is(&applied, "done", Value::Null, Value::Null);
    assert_eq!(number(&applied["generation"]), number(&applied["generation_before"]) + 1);
    let digest = Command::new("sha256sum").arg(site.path("policy.hujson")).output().unwrap().stdout;
    assert_eq!(applied["policy"].as_str().unwrap().as_bytes(), &digest[..64]);
    assert!(applied["policy"] != started["policy"] && applied["inventory"] == started["inventory"]);
    site.write("broken.hujson", r#"{"acls": [{"action": "accept", "src": ["tag:nobody"]}]}"#);
    assert_eq!(site.bulkhead(&["apply", &site.path("broken.hujson")]).status.code(), Some(1));
    let refused = next(&site, "apply", 1);
    is_by_command(&refused);
    assert_eq!((&refused["outcome"], &refused["generation"]), (&"refused".into(), &applied["generation"]));
    assert!(refused["detail"].as_str().unwrap().contains("broken.hujson"), "{refused}");

    // Somebody is cut off for a time, which ends.
    site.done(&["quarantine", "client", "--for", "1s", "--reason", "breach"]);
    let cut = next(&site, "quarantine", 0);
    is_by_command(&cut);
    is(&cut, "done", "client".into(), "breach".into());
    let released = next(&site, "release", 0);
    is(&released, "done", "client".into(), "its time is over".into());
    assert_eq!(released["by"]["via"], "agent");

    // A change that nobody confirms.
    site.done(&["apply", "--confirm", "1s"]);
    is_by_command(&next(&site, "apply", 2));
    let back = next(&site, "rollback", 0);
    is(&back, "done", Value::Null, "not confirmed in time".into());
    assert_eq!((&back["by"]["via"], &back["policy"]), (&"agent".into(), &applied["policy"]));
    assert_eq!(number(&back["generation"]), number(&back["generation_before"]) + 1);

    // Others take a link away: the agent has restored it.
    std::fs::remove_file(site.link("eth0", "tcx-egress")).unwrap();
    let restored = next(&site, "restore", 0);
    assert_eq!((&restored["subject"], &restored["by"]["via"]), (&"eth0".into(), &"agent".into()));

    // By signals.
    site.signal(libc::SIGHUP);
    let applied = next(&site, "apply", 3);
    is(&applied, "done", Value::Null, Value::Null);
    assert_eq!(applied["by"], serde_json::json!({"via": "signal", "signal": "SIGHUP"}));
    site.signal(libc::SIGTERM);
    assert!(site.has_ended());
    let stopped = next(&site, "stop", 0);
    assert_eq!(
        (&stopped["by"]["signal"], &stopped["generation"]),
        (&"SIGTERM".into(), &applied["generation"])
    );

    // Whoever watched has seen the same.
    watch.signal(libc::SIGTERM);
    let seen = reports(&watched);
    for action in ["apply", "quarantine", "release", "rollback", "restore", "stop"] {
        let seen: Vec<_> = seen.iter().filter(|event| event["action"] == action).cloned().collect();
        assert_eq!(seen, of(&site, action), "{action}");
    }

    // The agent after one that was killed says what was enforced before it, and what is over by then.
    site.start();
    site.done(&["quarantine", "client", "--for", "5s"]);
    site.done(&["apply", "--confirm", "5s"]);
    let waiting = next(&site, "apply", 4);
    site.kill();
    std::thread::sleep(Duration::from_millis(5500));
    site.start();
    let again = next(&site, "start", 2);
    assert_eq!(again["generation_before"], waiting["generation"], "{again}");
    assert_eq!(number(&again["generation"]), number(&again["generation_before"]) + 1, "{again}");
    let released = next(&site, "release", 1);
    is(&released, "done", "client".into(), "its time was over while no agent ran".into());
    let back = next(&site, "rollback", 1);
    is(&back, "done", Value::Null, "not confirmed in time, while no agent ran".into());

    // And what ends enforcement; then there is none before.
    site.done(&["detach"]);
    let detached = next(&site, "detach", 0);
    is_by_command(&detached);
    assert_eq!((&detached["generation_before"], &detached["generation"]), (&again["generation"], &0.into()));
    assert!(site.has_ended());
    site.start();
    assert_eq!(next(&site, "start", 3)["generation_before"], 0);
}

#[test]
fn a_detach_without_an_agent_is_on_record() {
    let mut site = Site::new("alone", Over::Ethernet, &[WEB]);
    site.start();
    let generation = site.status()["agent"]["generation"].clone();
    site.kill();
    site.done(&["detach"]);
    let detached = of(&site, "detach");
    assert_eq!(detached.len(), 1, "{detached:?}");
    assert_eq!(detached[0]["outcome"], "done");
    assert_eq!((&detached[0]["generation_before"], &detached[0]["generation"]), (&generation, &0.into()));
    assert_eq!((&detached[0]["by"]["via"], &detached[0]["by"]["uid"]), (&"command".into(), &0.into()));
    // What detaches nothing changes nothing.
    site.done(&["detach"]);
    assert_eq!(of(&site, "detach").len(), 1);
    site.start();
    assert_eq!(next(&site, "start", 1)["generation_before"], 0);
}

/// Asks and leaves, before it can be answered.
fn ask_and_leave(site: &Site, route: &str, body: &str) {
    let socket = format!("/run/bulkhead/{}/agent.sock", site.instance());
    let mut stream = UnixStream::connect(socket).unwrap();
    let length = body.len();
    write!(stream, "POST {route} HTTP/1.1\r\nhost: bulkhead\r\ncontent-length: {length}\r\n\r\n{body}")
        .unwrap();
    // Long enough to be heard, and not to be answered: a generation takes longer to build.
    std::thread::sleep(Duration::from_millis(20));
}

#[test]
fn what_is_begun_is_done_and_on_record_though_whoever_asked_has_left() {
    let mut site = Site::new("left", Over::Ethernet, &[WEB]);
    site.start();
    let generation = site.status()["agent"]["generation"].as_u64().unwrap();
    let policy = policy(&[OTHER]);
    let head = format!("{{\"policy\": {{\"name\": \"sent\", \"bytes\": {}}}}}\n", policy.len());
    ask_and_leave(&site, "/v1/apply", &(head + &policy));
    let applied = next(&site, "apply", 0);
    is(&applied, "done", "sent".into(), Value::Null);
    assert_eq!(number(&applied["generation_before"]), generation);
    assert_eq!(number(&applied["generation"]), generation + 1);
    assert!(site.connects("client", 8081) && site.is_denied("client", 8080));

    // Changes that wait for each other tell which generation each of them has replaced.
    let begin = |_| {
        let mut command = Command::new(lab::bulkhead().unwrap());
        command.args(["--instance", site.instance(), "apply"]);
        site.namespace("server").prepare(&mut command).unwrap();
        command.spawn().unwrap()
    };
    let begun: Vec<_> = (0..4).map(begin).collect();
    begun.into_iter().for_each(|mut command| assert!(command.wait().unwrap().success()));
    let told: Vec<_> = (1..5).map(|known| next(&site, "apply", known)).collect();
    for event in &told {
        assert_eq!(number(&event["generation"]), number(&event["generation_before"]) + 1, "{event}");
    }

    // Nobody is deceived by a name, and what breaks off is no request.
    ask_and_leave(&site, "/v1/quarantine", "{\"subject\": \"client\", \"reason\": \"\\u001b[2J\"}");
    let refused = next(&site, "quarantine", 0);
    assert_eq!(refused["outcome"], "refused", "{refused}");
    assert!(site.connects("client", 8080));
    let head = "{\"policy\": {\"name\": \"sent\", \"bytes\": 4000}}\n";
    let socket = format!("/run/bulkhead/{}/agent.sock", site.instance());
    let mut stream = UnixStream::connect(socket).unwrap();
    write!(stream, "POST /v1/apply HTTP/1.1\r\nhost: b\r\ncontent-length: 5000\r\n\r\n{head}").unwrap();
    drop(stream);

    ask_and_leave(&site, "/v1/detach", "");
    let detached = next(&site, "detach", 0);
    is(&detached, "done", Value::Null, Value::Null);
    assert!(site.has_ended(), "{}", site.log());
    assert_eq!(of(&site, "apply").len(), 5, "what broke off is on no record");
}
