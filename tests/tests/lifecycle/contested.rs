//! Names that go from one managed interface to another, and somebody who takes enforcement away again and again.

use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bulkhead_testkit::lab::{self, slower};
use bulkhead_testkit::measure::Hook;
use bulkhead_testkit::measure::bpf::{self, Place};

use crate::disk::run;
use crate::recreated::{index, unenforced};
use crate::site::{Over, Site, WEB};

/// A site with a second managed interface, `spare`.
fn with_spare(label: &str, hook: &str) -> Site {
    let mut site = Site::new(label, Over::Ethernet, &[WEB]);
    let server = site.namespace("server");
    server.ip("link add spare type veth peer name unused").unwrap();
    server.ip("link set spare up").unwrap();
    let line = format!("hook = \"{hook}\"\noptional = true\n");
    let config = site.configuration("server", "eth0") + &line;
    site.write("agent.toml", &format!("{config}[[interface]]\nname = \"spare\"\n{line}"));
    site.start();
    site
}

/// Renames of one moment.
fn rename(site: &Site, names: &[(&str, &str)]) {
    let lines: String = names.iter().map(|(old, new)| format!("link set {old} name {new}\n")).collect();
    site.write("batch", &lines);
    let server = site.namespace("server").name().to_owned();
    lab::ip(&format!("-n {server} -batch {}", site.path("batch"))).unwrap();
}

const SWAP: [(&str, &str); 3] = [("eth0", "between"), ("spare", "eth0"), ("between", "spare")];

#[track_caller]
fn is_enforced(site: &mut Site) {
    site.wait_for("enforced", |status| status["state"] == "enforced");
    assert!(site.connects("client", 8080) && site.is_denied("stranger", 8080));
}

#[test]
fn managed_interfaces_that_swap_their_names_are_enforced_on() {
    for hook in ["auto", "tcx"] {
        let mut site = with_spare("swapped", hook);
        rename(&site, &SWAP);
        is_enforced(&mut site);
        rename(&site, &SWAP);
        is_enforced(&mut site);
        // Nobody is there to see it.
        site.kill();
        rename(&site, &SWAP);
        site.start();
        is_enforced(&mut site);
        rename(&site, &SWAP);
        is_enforced(&mut site);
        site.done(&["apply"]);
        site.kill();
        site.start();
        is_enforced(&mut site);
        site.done(&["detach"]);
    }
}

#[test]
fn a_name_that_another_managed_interface_gets_is_enforced_on() {
    for hook in ["auto", "tcx"] {
        let mut site = with_spare("inherited", hook);
        rename(&site, &[("spare", "gone"), ("eth0", "spare")]);
        site.wait_for("enforced as spare", |status| {
            let links = status["links"].as_array().unwrap();
            links.iter().filter(|link| link["interface"] == "spare" && link["fault"].is_null()).count() == 2
        });
        assert!(site.connects("client", 8080) && site.is_denied("stranger", 8080));
        site.done(&["apply"]);
        assert!(site.connects("client", 8080) && site.is_denied("stranger", 8080));
        rename(&site, &[("spare", "eth0"), ("gone", "spare")]);
        is_enforced(&mut site);
    }
}

#[test]
fn who_takes_enforcement_away_again_and_again_closes_the_interface() {
    let mut site = Site::new("contest", Over::Ethernet, &[WEB]);
    site.write("agent.toml", &(site.configuration("server", "eth0") + "hook = \"tcx\"\n"));
    site.start();
    let index = index(&site, "eth0");
    // `r0 = TCX_PASS; exit`
    let program = bpf::load(Hook::Tc, &[0xb7, 0x95]).unwrap();
    let stop = AtomicBool::new(false);
    let server = site.namespace("server");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let meddle = || {
                while !stop.load(Ordering::Relaxed) {
                    let link = bpf::attach_first(Place::TcxIngress, program.as_fd(), index);
                    std::thread::sleep(Duration::from_millis(50));
                    drop(link);
                }
            };
            server.run(meddle).unwrap();
        });
        let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let taken =
                |status: &serde_json::Value| status["problems"].to_string().contains("taken away 30 times");
            for _ in 0..200 {
                if taken(&site.status()) {
                    break;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            let status = site.status();
            assert!(taken(&status) && status["state"] == "degraded", "{status}");
            assert!(site.is_denied("stranger", 8080) && site.is_denied("client", 8080));
        }));
        stop.store(true, Ordering::Relaxed);
        told.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    // Left alone, it opens.
    is_enforced(&mut site);
}

#[test]
fn an_interface_whose_pin_cannot_be_made_is_closed_and_on_record_as_that() {
    let mut site = Site::new("unpinnable", Over::Ethernet, &[WEB]);
    site.start();
    let place = site.link("eth0", "tcx-egress").parent().unwrap().display().to_string();
    run("mount", &["-t", "tmpfs", "tmpfs", &place]);
    site.wait_for("told", |status| status["state"] == "degraded");
    std::thread::sleep(slower(Duration::from_millis(500)));
    let is_open = site.connects("stranger", 8080);
    run("umount", &[&place]);
    assert!(!is_open);
    is_enforced(&mut site);
    let recorded = unenforced(&site);
    assert!(recorded.iter().any(|time| time["effect"] == "closed"), "{recorded:?}");
    assert!(recorded.iter().all(|time| time["effect"] != "open"), "{recorded:?}");
}
