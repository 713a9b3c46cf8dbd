//! What is done to the kernel while nobody looks: a status says so without an agent, and the next agent reports it.

use std::os::fd::AsFd as _;
use std::process::Command;
use std::time::Duration;

use bulkhead_testkit::lab;
use bulkhead_testkit::measure::Hook;
use bulkhead_testkit::measure::bpf::{self, Place};
use serde_json::Value;

use crate::site::account::reports;
use crate::site::{Over, Site, WEB};

/// After it, the next agent knows when all was well.
const NOTED: Duration = Duration::from_millis(1200);

/// `r0 = XDP_PASS; exit` and `r0 = TCX_PASS; exit`.
const XDP_PASS: [u64; 2] = [0x2_0000_00b7, 0x95];
const TCX_PASS: [u64; 2] = [0xb7, 0x95];

fn problems(status: &Value) -> String {
    status["problems"].to_string()
}

/// The times without enforcement that are on record: interface, effect, whether an agent ran.
fn unenforced(site: &Site) -> Vec<(String, String, bool)> {
    let events = reports(&site.journal_file()).into_iter();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    events
        .filter(|event| event["kind"] == "unenforced")
        .map(|event| (text(&event["interface"]), text(&event["effect"]), event["agent"] == true))
        .collect()
}

fn nft(site: &Site, words: &str) {
    let mut command = Command::new("nft");
    command.args(words.split(' '));
    site.namespace("server").prepare(&mut command).unwrap();
    let output = lab::run_within(&mut command, Duration::from_secs(5)).unwrap();
    assert!(output.status.success(), "{words}: {output:?}");
}

fn update_links(site: &Site) {
    let programs = [(Hook::Xdp, XDP_PASS, "xdp-native"), (Hook::Tc, TCX_PASS, "tcx-egress")];
    for (hook, code, pin) in programs {
        bpf::update_link(&site.link("eth0", pin), bpf::load(hook, &code).unwrap().as_fd()).unwrap();
    }
}

fn remove_links(site: &Site) {
    std::fs::remove_dir_all(site.layout().join("links/eth0")).unwrap();
}

#[test]
fn what_nobody_saw_is_in_the_status_and_reported_by_the_next_agent() {
    type Meddling = fn(&Site);
    let meddlings: [(&str, &str, &str, Meddling); 7] = [
        ("eth0", "eth0: xdp-native: the program is not attached", "the xdp pin is removed", |site| {
            std::fs::remove_file(site.link("eth0", "xdp-native")).unwrap();
        }),
        ("eth0", "eth0: tcx-egress: the program is not attached", "its pins are removed", remove_links),
        ("eth0", "eth0: xdp-native: the program is not attached", "all pins are removed", |site| {
            std::fs::remove_dir_all(site.pins()).unwrap();
        }),
        ("eth0", "that is not the generation's", "both links run another program", update_links),
        ("guard", "the table is gone", "the guard is removed", |site| {
            nft(site, &format!("delete table inet bulkhead-{}", site.instance()));
        }),
        ("guard", "chains, rules or sets are not those", "the guard is flushed", |site| {
            nft(site, &format!("flush table inet bulkhead-{}", site.instance()));
        }),
        ("guard", "what is in the sets is not what was put there", "an address is taken out", |site| {
            nft(site, &format!("flush set inet bulkhead-{} own4", site.instance()));
        }),
    ];
    let mut site = Site::new("unseen", Over::Ethernet, &[WEB]);
    for (what, words, name, meddle) in meddlings {
        site.start();
        site.wait_for("enforced", |status| status["state"] == "enforced");
        std::thread::sleep(NOTED);
        site.kill();
        let status = site.status();
        assert_eq!((&status["state"], problems(&status)), (&"enforced".into(), "[]".into()), "before {name}");
        let before = unenforced(&site).len();
        meddle(&site);
        let status = site.status();
        assert_eq!(status["state"], "degraded", "{name}: {status}");
        assert!(problems(&status).contains(words), "{name}: {status}");
        site.start();
        site.wait_for("enforced", |status| status["state"] == "enforced");
        let recorded = unenforced(&site).split_off(before);
        assert_eq!(recorded, [(what.to_owned(), "open".to_owned(), false)], "{name}");
        assert!(site.is_denied("stranger", 8080), "{name}");
        site.kill();
    }
}

#[test]
fn a_stopped_agent_does_not_hide_what_is_missing() {
    let mut site = Site::new("asleep", Over::Ethernet, &[WEB]);
    site.start();
    site.wait_for("enforced", |status| status["state"] == "enforced");
    site.suspend();
    remove_links(&site);
    nft(&site, &format!("delete table inet bulkhead-{}", site.instance()));
    let status = site.status();
    assert_eq!(status["state"], "degraded", "{status}");
    for words in ["does not answer", "eth0: xdp-native: the link is not pinned", "the table is gone"] {
        assert!(problems(&status).contains(words), "{words}: {status}");
    }
    assert!(site.is_denied("stranger", 8080), "the process holds the links");
    site.signal(libc::SIGCONT);
    site.wait_for("enforced", |status| status["state"] == "enforced");
}

#[test]
fn a_note_that_is_gone_is_no_reason_to_believe_in_anything() {
    let mut site = Site::new("unnoted", Over::Ethernet, &[WEB]);
    site.start();
    site.wait_for("enforced", |status| status["state"] == "enforced");
    site.kill();
    let note = format!("/run/bulkhead/{}/in-place.json", site.instance());
    std::fs::remove_file(&note).unwrap();
    let status = site.status();
    assert!(status["state"] == "degraded" && problems(&status).contains(&note), "{status}");
    site.done(&["detach"]);
    assert_eq!(site.status()["state"], "detached");
}

#[test]
fn a_port_of_a_bridge_is_told_of() {
    let mut site = Site::new("port", Over::Ethernet, &[WEB]);
    site.start();
    site.wait_for("enforced", |status| status["state"] == "enforced");
    let server = site.namespace("server");
    server.ip("link add bridge0 up type bridge").unwrap();
    server.ip("link set eth0 master bridge0").unwrap();
    let status = site.status();
    assert_eq!(status["state"], "degraded", "{status}");
    assert!(problems(&status).contains("eth0 is a port of bridge bridge0"), "{status}");
    assert!(!site.connects("client", 8080), "it carries nothing");
    site.namespace("server").ip("link set eth0 nomaster").unwrap();
    site.wait_for("enforced", |status| status["state"] == "enforced");
    assert!(site.connects("client", 8080));
}

#[test]
fn a_status_from_another_namespace_asks_where_the_instance_is() {
    let mut site = Site::new("afar", Over::Ethernet, &[WEB]);
    site.start();
    site.wait_for("enforced", |status| status["state"] == "enforced");
    site.kill();
    let ask = || {
        let mut command = Command::new(lab::bulkhead().unwrap());
        command.args(["--instance", site.instance(), "status"]);
        site.namespace("stranger").prepare(&mut command).unwrap();
        let output = lab::run_within(&mut command, Duration::from_secs(20)).unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (code, told) = ask();
    assert!(code == Some(0) && told.contains("attached: eth0 xdp-native"), "{told}");
    remove_links(&site);
    let (code, told) = ask();
    assert!(code == Some(1) && told.contains("eth0: xdp-native: the program is not attached"), "{told}");
}

#[test]
fn a_second_agent_does_not_start_though_the_state_was_moved_away() {
    let mut site = Site::new("moved", Over::Ethernet, &[WEB]);
    site.start();
    let pid = site.status()["agent"]["pid"].to_string();
    for directory in ["/var/lib/bulkhead", "/run/bulkhead"] {
        let (place, away) =
            (format!("{directory}/{}", site.instance()), format!("{directory}/{}-away", site.instance()));
        std::fs::rename(&place, &away).unwrap();
        let output = site.bulkhead(&["run", "--config", &site.path("agent.toml")]);
        let _ = std::fs::remove_dir_all(&place);
        std::fs::rename(&away, &place).unwrap();
        assert_eq!(output.status.code(), Some(3), "{directory}: {output:?}");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(told.contains(&format!("process {pid} already")), "{directory}: {told}");
    }
}

#[test]
fn a_hook_without_a_place_left_is_told_of() {
    const PLACES: usize = 63;
    let mut site = Site::new("full", Over::Ethernet, &[WEB]);
    let said = site.namespace("server").ip("-o link show eth0").unwrap();
    let index = said.split(':').next().unwrap().parse().unwrap();
    let fill = || {
        let link = |_| {
            let program = bpf::load(Hook::Tc, &TCX_PASS).unwrap();
            bpf::attach_first(Place::TcxEgress, program.as_fd(), index).unwrap()
        };
        (0..PLACES).map(link).collect::<Vec<_>>()
    };
    let others = site.namespace("server").run(fill).unwrap();
    site.launch();
    assert_eq!(site.exit_code(), Some(3));
    let log = site.log();
    assert!(log.contains("eth0: tcx-egress: other programs have all of the hook's 63 places"), "{log}");
    drop(others);
    site.start();
    site.wait_for("enforced", |status| status["state"] == "enforced");
}

#[test]
fn a_guard_that_others_remove_all_the_time_is_not_said_to_be_well() {
    let mut site = Site::new("restless", Over::Ethernet, &[WEB]);
    site.start();
    site.wait_for("enforced", |status| status["state"] == "enforced");
    site.write("remove", &format!("delete table inet bulkhead-{}\n", site.instance()));
    let mut remove = Command::new("sh");
    let file = site.path("remove");
    remove.args(["-c", &format!("for i in $(seq 300); do nft -f {file}; sleep 0.01; done 2>/dev/null")]);
    site.namespace("server").prepare(&mut remove).unwrap();
    let mut removing = remove.spawn().unwrap();
    let mut states = Vec::new();
    while removing.try_wait().unwrap().is_none() {
        states.push(site.status());
    }
    let told = states.iter().filter(|status| problems(status).contains("the guard is not")).count();
    assert!(told > 0, "none of {} answers", states.len());
    site.wait_for("enforced", |status| status["state"] == "enforced");
}
