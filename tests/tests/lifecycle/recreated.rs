//! Whatever has the managed name now is what is enforced on, also if nobody was there to see how it got it.

use std::os::fd::AsFd as _;

use bulkhead_testkit::lab;
use bulkhead_testkit::measure::Hook;
use bulkhead_testkit::measure::bpf::{self, Place};
use serde_json::Value;

use crate::site::account::reports;
use crate::site::{Over, Site, WEB};

/// The times without enforcement that are on record.
pub fn unenforced(site: &Site) -> Vec<Value> {
    let events = reports(&site.journal_file()).into_iter();
    events.filter(|event| event["kind"] == "unenforced").collect()
}

pub fn index(site: &Site, interface: &str) -> u32 {
    let said = site.namespace("server").ip(&format!("-o link show {interface}")).unwrap();
    said.split(':').next().unwrap().parse().unwrap()
}

/// The server's Ethernet interface is removed, and another one has its name and its index.
fn make_again(site: &Site) {
    let (server, address) = (site.namespace("server"), site.address("server"));
    let index = index(site, "eth0");
    let core = site.core();
    site.write(
        "batch",
        &format!(
            "link del eth0\nlink add eth0 index {index} type veth peer name again netns {core}\n\
             addr add {address}/24 dev eth0\nlink set eth0 up\n"
        ),
    );
    lab::ip(&format!("-n {} -batch {}", server.name(), site.path("batch"))).unwrap();
    lab::ip(&format!("-n {core} link set again master br0 up")).unwrap();
    for name in ["client", "stranger"] {
        site.namespace(name).ip("neigh flush all").unwrap();
    }
}

#[test]
fn another_interface_with_the_same_index_is_closed_while_no_agent_runs() {
    let mut site = Site::new("again", Over::Ethernet, &[WEB]);
    site.start();
    assert!(site.connects("client", 8080) && site.is_denied("stranger", 8080));
    // The next agent is to know when all was well.
    std::thread::sleep(std::time::Duration::from_millis(1200));
    site.kill();
    make_again(&site);
    assert!(site.is_denied("client", 8080) && site.is_denied("stranger", 8080));
    let status = site.status();
    assert_eq!(status["state"], "degraded");
    assert!(status["problems"][0].as_str().unwrap().contains("the program is not attached"), "{status}");

    site.start();
    site.wait_for("enforced", |status| status["state"] == "enforced");
    assert!(site.connects("client", 8080) && site.is_denied("stranger", 8080));
    let recorded = unenforced(&site);
    let [time] = &recorded[..] else { panic!("{recorded:?}") };
    assert_eq!(
        (&time["interface"], &time["agent"], &time["effect"]),
        (&"eth0".into(), &false.into(), &"closed".into())
    );

    // The same beside an agent.
    make_again(&site);
    site.wait_for("enforced", |status| status["state"] == "enforced");
    assert!(site.connects("client", 8080) && site.is_denied("stranger", 8080));
    site.done(&["apply"]);
    assert!(site.connects("client", 8080) && site.is_denied("stranger", 8080));
    let group = site.namespace("server").ip("-o link show eth0").unwrap();
    assert!(group.contains("group 1651862635"), "{group}");
    site.done(&["detach"]);
    let group = site.namespace("server").ip("-o link show eth0").unwrap();
    assert!(group.contains("group default"), "{group}");
}

#[test]
fn what_runs_before_ours_is_found_without_an_agent_and_by_the_next_one() {
    let mut site = Site::new("before", Over::Tunnel, &[WEB]);
    site.start();
    site.kill();
    let index = index(&site, site.interface());
    // `r0 = TCX_PASS; exit`
    let program = bpf::load(Hook::Tc, &[0xb7, 0x95]).unwrap();
    let attach = || {
        [Place::TcxIngress, Place::TcxEgress]
            .map(|place| bpf::attach_first(place, program.as_fd(), index).unwrap())
    };
    let foreign = site.namespace("server").run(attach).unwrap();
    assert!(site.connects("stranger", 8080), "nobody asks our program any more");
    let status = site.status();
    assert_eq!(status["state"], "degraded");
    assert!(status["problems"][0].as_str().unwrap().contains("other programs run before ours"), "{status}");
    site.start();
    site.wait_for("enforced", |status| status["state"] == "enforced");
    assert!(site.connects("client", 8080) && site.is_denied("stranger", 8080));
    let recorded = unenforced(&site);
    assert!(recorded.iter().any(|time| time["effect"] == "open" && time["agent"] == false), "{recorded:?}");
    drop(foreign);
    assert!(site.connects("client", 8080) && site.is_denied("stranger", 8080));
}
