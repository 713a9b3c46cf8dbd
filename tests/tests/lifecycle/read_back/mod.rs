//! What the kernel holds is what was approved: whatever root changes in the running tables is named, and the agent
//! puts it right.

mod bits;
mod memory;
mod recorded;

use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bulkhead_dataplane::{Pins, held_tables};
use bulkhead_engine::memory::Tables;
use bulkhead_policy::compile::{Limits, Program, compile};
use bulkhead_policy::diagnostic::Findings;
use bulkhead_policy::inventory::{self, Inventory, Network};
use bulkhead_policy::resolve::{Ruleset, resolve};
use bulkhead_policy::source::Source;
use bulkhead_policy::{Dialect, policy as language};
use serde_json::Value;

use self::memory::Memory;
use crate::site::account::{number, reports};
use crate::site::{Over, Site, WEB, load};

/// Denies the stranger what the client may.
const DENY: &str =
    r#"{"name": "no stranger", "action": "deny", "src": ["tag:stranger"], "dst": ["tag:server:8080"]}"#;

/// A site whose agent looks every so many seconds.
fn site(label: &str, seconds: u32) -> Site {
    let mut site = Site::new(label, Over::Ethernet, &[DENY, WEB]);
    let limits = format!("[limits]\nread_back_seconds = {seconds}\n[events]\nattest_seconds = 1\n");
    site.write("agent.toml", &(site.configuration("server", "eth0") + &limits));
    site.start();
    site
}

/// What `audit live` says, and its exit code.
fn live(site: &Site) -> (Value, Option<i32>) {
    let output = site.bulkhead(&["audit", "live", "--json"]);
    let said = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    (said, output.status.code())
}

/// The pin of a map of the generation that is enforced.
fn pin(site: &Site, map: &str) -> PathBuf {
    let generation = number(&site.status()["agent"]["generation"]);
    site.layout().join(format!("generation-{generation}")).join(map)
}

/// What the site's files give for the server.
fn compiled(site: &Site) -> (Ruleset, Inventory, Program) {
    let read = |name: &str| Source::new(name, &std::fs::read_to_string(site.path(name)).unwrap());
    let mut findings = Findings::default();
    let inventory = inventory::parse(&read("inventory.json"), &mut findings).unwrap();
    let policy = language::parse(&read("policy.hujson"), Dialect::Bulkhead, &mut findings).unwrap();
    let ruleset = resolve(&policy, &inventory, Dialect::Bulkhead, Network::Overlay, &mut findings);
    let program = compile(&ruleset, &inventory, "server", Limits::default()).unwrap();
    (ruleset, inventory, program)
}

/// What the kernel holds of them.
fn held(site: &Site, generation: u32, expected: &Tables) -> Tables {
    let pins = Pins::new(&PathBuf::from("/sys/fs/bpf/bulkhead"), site.instance());
    held_tables(&pins, generation, expected, false).unwrap()
}

/// The first cell of a deny rule.
fn denying_cell(program: &Program) -> usize {
    program.tables.cells.iter().position(|cell| cell.action == 2).unwrap()
}

/// Turns the action of a cell over: deny (2) to allow (1), and back.
fn let_in(cells: &Memory, cell: usize) {
    let action = cell as u64 * 128 + std::mem::offset_of!(bulkhead_abi::Cell, action) as u64 * 8;
    cells.flip(action);
    cells.flip(action + 1);
}

/// Whether a datagram comes to port 8080 of the server. Nothing that the tables say of the other way matters to it.
fn arrives(site: &Site, from: &str) -> bool {
    let [server, client] = ["server", from].map(|name| {
        let at = SocketAddr::new(site.address(name), if name == "server" { 8080 } else { 0 });
        // A child that another test has just forked may hold the port of the time before.
        (0..50)
            .find_map(|_| {
                let bound = site.namespace(name).run(|| UdpSocket::bind(at)).unwrap();
                bound.inspect_err(|_| std::thread::sleep(Duration::from_millis(20))).ok()
            })
            .unwrap()
    });
    server.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    client.send_to(b"?", server.local_addr().unwrap()).unwrap();
    server.recv(&mut [0; 1]).is_ok()
}

#[test]
fn a_changed_cell_is_named_by_source_destination_and_port() {
    let site = site("altered", 0);
    let (_, _, program) = compiled(&site);
    let (said, code) = live(&site);
    assert_eq!(
        (code, &said["same"], &said["meaningless"]),
        (Some(0), &Value::from(true), &Value::from(0)),
        "{said}"
    );
    assert!(site.is_denied("stranger", 8080));
    let cell = denying_cell(&program);
    let cells = Memory::open(&pin(&site, "CELLS"));
    let_in(&cells, cell);
    // Traffic goes on while it is looked at.
    let load = load::start(&site, 8080, 8081);
    let (said, code) = live(&site);
    assert_eq!(code, Some(1), "{said}");
    let found = said["differences"].as_array().unwrap();
    assert_eq!(found.len(), 1, "{said}");
    let end = |name: &str| format!("{name} ({})", site.address(name));
    for (field, wanted) in [
        ("source", end("stranger")),
        ("destination", end("server")),
        ("direction", "ingress".to_owned()),
        ("table", "CELLS".to_owned()),
    ] {
        assert_eq!(found[0][field], wanted, "{said}");
    }
    assert!(found[0]["port"].as_str().unwrap().contains("8080/tcp"), "{said}");
    assert!(found[0]["expected"].as_str().unwrap().starts_with("deny_rule by no stranger"), "{said}");
    assert!(found[0]["found"].as_str().unwrap().starts_with("allow by no stranger"), "{said}");
    let text = site.bulkhead(&["audit", "live"]);
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.starts_with(&format!("{} → {} ", end("stranger"), end("server"))), "{text}");
    let counts = load::check(load);
    assert!(counts.sent > 100, "looking loses no packet: {counts:?}");
    let_in(&cells, cell);
    assert_eq!(live(&site).1, Some(0));
    // Who is cut off at run time is expected to be; whoever is released again, too.
    for words in [["quarantine", "client"], ["release", "client"], ["quarantine", "198.51.100.7"]] {
        site.done(&words);
        let (said, code) = live(&site);
        assert_eq!(code, Some(0), "{words:?}: {said}");
    }
    // Without an agent, too.
    let mut site = site;
    site.kill();
    assert_eq!(live(&site).1, Some(0));
    let_in(&cells, cell);
    assert_eq!(live(&site).1, Some(1));
    // A file that was changed behind the agent's back is not what was approved.
    let_in(&cells, cell);
    let kept = PathBuf::from("/var/lib/bulkhead").join(site.instance());
    let kept = std::fs::read_dir(kept).unwrap().flatten().map(|entry| entry.path());
    let kept: Vec<_> = kept.filter(|path| path.join("built.json").exists()).collect();
    let text = std::fs::read_to_string(kept[0].join("policy")).unwrap();
    std::fs::write(kept[0].join("policy"), text.replace("\"deny\"", "\"accept\"")).unwrap();
    let refused = site.bulkhead(&["audit", "live"]);
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(2) && words.contains("gone, damaged or changed"), "{words}");
}

#[test]
fn the_agent_tells_of_what_was_changed_and_puts_it_right() {
    let mut site = site("restored", 1);
    let (_, _, program) = compiled(&site);
    let before = number(&site.status()["agent"]["generation"]);
    let looked =
        site.wait_for("it was looked at", |status| status["agent"]["read_back"]["generation"] == before);
    assert_eq!(looked["agent"]["read_back"]["differences"], 0, "{looked}");
    let_in(&Memory::open(&pin(&site, "CELLS")), denying_cell(&program));
    assert!(arrives(&site, "stranger"), "the change is in force: {}", site.log());
    site.wait_for("another generation took its place", |status| status["agent"]["generation"] != before);
    assert!(!arrives(&site, "stranger") && arrives(&site, "client"));
    site.wait_for("the next look found nothing", |status| {
        let look = &status["agent"]["read_back"];
        look["differences"] == 0 && look["generation"] != before
    });
    assert_eq!(live(&site).1, Some(0));
    // Coverage tells of the look that found something, and of one after that which did not.
    let covered = || -> Vec<Value> {
        let coverage = reports(&site.journal_file()).into_iter().filter(|event| event["kind"] == "coverage");
        coverage.map(|event| serde_json::json!([event["read_back"]["differences"], event["whole"]])).collect()
    };
    let [good, bad] = [serde_json::json!([0, true]), serde_json::json!([1, false])];
    let deadline = Instant::now() + Duration::from_secs(20);
    while !covered().iter().skip_while(|is| **is != bad).any(|is| is[0] == 0) {
        assert!(Instant::now() < deadline, "{:?}", covered());
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(covered().contains(&good), "{:?}", covered());
    assert_eq!(site.bulkhead(&["audit", "coverage"]).status.code(), Some(1));
    let events = reports(&site.journal_file());
    let of = |kind: &str| events.iter().filter(|event| event["kind"] == kind).cloned().collect::<Vec<_>>();
    let altered = of("altered");
    assert_eq!(altered.len(), 1, "{altered:?}");
    assert!(altered[0]["table"] == "CELLS" && altered[0]["generation"] == before, "{altered:?}");
    let restored = of("control").into_iter().filter(|event| event["action"] == "restore").count();
    assert_eq!(restored, 1, "{events:?}");
}
