//! The guard in the kernel, in network namespaces that the tests make.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use super::install::{Installed, set_attached};
use super::nft::nft;
use super::state::{self, read};
use super::{Dropped, Guard, Kind, Log, counts, remove};

/// Runs `test` in a network namespace of its own.
fn alone(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(|| {
        // SAFETY: only this thread is moved, and nft is started from it.
        assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNET) }, 0, "{}", std::io::Error::last_os_error());
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn guard() -> Guard {
    Guard {
        managed: ["wg0".to_owned()].into(),
        underlay: BTreeSet::new(),
        attached: [(7, 5)].into(),
        own: ["100.64.0.1".parse().unwrap(), "fd7a::1".parse().unwrap()].into(),
        others: ["100.64.0.2".parse().unwrap(), "fd7a::2".parse().unwrap()].into(),
        log: Some(4711),
    }
}

#[test]
fn the_script_has_every_kind_and_no_empty_elements() {
    let script = guard().script("x");
    for part in ["{ \"wg0\" }", "{ 7 . 5 }", "{ 100.64.0.1 }", "{ fd7a::1 }", "{ 100.64.0.2 }", "{ fd7a::2 }"]
    {
        assert!(script.contains(part), "{part} in {script}");
    }
    for kind in Kind::ALL {
        assert!(script.contains(&format!("goto {}\n", kind.object())), "{kind:?} in {script}");
        assert_eq!(Kind::of_object(kind.object()), Some(kind));
    }
    // An empty set has no elements clause, which nft would refuse.
    assert!(!Guard::default().script("x").contains("elements"));
    assert!(!Guard::default().script("x").contains("log"));
    // What leads beneath the overlay is not free of its addresses, whatever is attached there.
    let beneath = Guard { underlay: ["eth0".to_owned()].into(), ..guard() }.script("x");
    for side in ["i", "o"] {
        let rule = format!("{side}ifname \"eth0\" {side}if . {side}ifgroup @attached goto {side}overlay\n");
        let accept = format!("{side}ifname @managed {side}if . {side}ifgroup @attached accept");
        let (rule, accept) = (beneath.find(&rule).unwrap(), beneath.find(&accept).unwrap());
        assert!(rule < accept, "{beneath}");
    }
}

#[test]
fn whatever_is_meddled_with_is_noticed_and_restored() {
    alone(|| {
        let guard = guard();
        let mut installed = guard.install("x").unwrap();
        assert_eq!(installed.difference().unwrap(), None);
        let rule = "inet bulkhead-x output oifname lo accept";
        for meddling in [
            "flush table inet bulkhead-x",
            "flush chain inet bulkhead-x input",
            "flush chain inet bulkhead-x ioverlay",
            "flush chain inet bulkhead-x own_source",
            "delete table inet bulkhead-x",
            "flush ruleset",
            "add chain inet bulkhead-x input { policy drop ; }",
            "add table inet bulkhead-x { flags dormant ; }",
            "delete element inet bulkhead-x managed { \"wg0\" }",
            "delete element inet bulkhead-x own6 { fd7a::1 }",
            "add element inet bulkhead-x attached { 8 . 5 }",
            "add element inet bulkhead-x others4 { 100.64.0.3 }",
            "flush set inet bulkhead-x others6",
            "add chain inet bulkhead-x more { type filter hook input priority 0 ; }",
            "add set inet bulkhead-x more { type ipv4_addr ; }",
            "add map inet bulkhead-x more { type ipv4_addr : verdict ; elements = { 192.0.2.1 : goto own_source } ; }",
            "add counter inet bulkhead-x more",
            &format!("insert rule {rule}"),
            &format!("add rule {rule}"),
        ] {
            nft(meddling).unwrap();
            assert!(installed.difference().unwrap().is_some(), "not noticed: {meddling}");
            installed = guard.install("x").unwrap_or_else(|error| panic!("after {meddling}: {error:#}"));
            assert_eq!(installed.difference().unwrap(), None, "after {meddling}");
        }
        let rules = nft("-a list chain inet bulkhead-x ioverlay\n");
        assert!(rules.is_err(), "flags are no commands: {rules:?}");
        // One rule of many.
        let listed = std::process::Command::new("nft")
            .args(["-a", "list", "chain", "inet", "bulkhead-x", "ioverlay"])
            .output()
            .unwrap();
        let listed = String::from_utf8(listed.stdout).unwrap();
        let line = listed.lines().find(|line| line.contains("ip saddr @own4")).unwrap();
        let handle = line.rsplit(' ').next().unwrap();
        nft(&format!("delete rule inet bulkhead-x ioverlay handle {handle}")).unwrap();
        assert!(installed.difference().unwrap().is_some());
        remove("x").unwrap();
        assert_eq!(read("x").unwrap(), None);
    });
}

/// The whole guard is there, and the agent knows it for what it is.
#[track_caller]
fn is_in_place(installed: &mut Installed, shape: [u8; 32]) {
    let found = read("x").unwrap().unwrap();
    assert_eq!((found.outline.shape, installed.shape), (shape, shape));
    assert_eq!(found.contents, guard().contents());
    assert_eq!(installed.difference().unwrap(), None);
}

#[test]
fn what_others_make_of_it_meanwhile_is_never_taken_for_it() {
    alone(|| {
        let shape = guard().install("x").unwrap().shape;
        for meddling in [
            "flush table inet bulkhead-x",
            "insert rule inet bulkhead-x input accept",
            "add chain inet bulkhead-x more",
            "add table inet bulkhead-x { flags dormant ; }",
            "add element inet bulkhead-x attached { 8 . 5 }",
            "delete table inet bulkhead-x",
        ] {
            // Whoever does the same again and again gets no guard that is his.
            let error = guard().put("x", || _ = nft(meddling).unwrap()).unwrap_err();
            assert!(error.to_string().contains("others change the table"), "{meddling}: {error}");
            // As soon as he pauses it is there.
            let mut times = 0;
            let mut twice = || {
                times += 1;
                if times < 3 {
                    nft(meddling).unwrap();
                }
            };
            let mut installed = guard().put("x", &mut twice).unwrap();
            assert_eq!(times, 3, "{meddling}");
            is_in_place(&mut installed, shape);
        }
    });
}

#[test]
fn what_others_do_elsewhere_meanwhile_costs_no_second_try() {
    alone(|| {
        let shape = guard().install("x").unwrap().shape;
        let mut times = 0;
        let mut elsewhere = || {
            times += 1;
            nft("add table inet other\nflush table inet other\n").unwrap();
        };
        let mut installed = guard().put("x", &mut elsewhere).unwrap();
        is_in_place(&mut installed, shape);
        assert_eq!(times, 1);
    });
}

#[test]
fn what_others_do_while_interfaces_are_opened_is_noticed() {
    alone(|| {
        for meddling in ["flush table inet bulkhead-x", "insert rule inet bulkhead-x input accept"] {
            let mut installed = guard().install("x").unwrap();
            nft(meddling).unwrap();
            installed.set_attached(&[(7, 5)].into()).unwrap();
            assert!(installed.difference().unwrap().is_some(), "{meddling}");
        }
    });
}

#[test]
fn what_others_do_elsewhere_is_no_difference() {
    alone(|| {
        let mut installed = guard().install("x").unwrap();
        let generation = || state::generation(&state::open().unwrap()).unwrap();
        let before = generation();
        nft("add table inet other\nadd chain inet other input\n").unwrap();
        assert_eq!(generation(), before + 1);
        assert_eq!(installed.difference().unwrap(), None);
        // The guard of another instance is another's, one whose name begins alike among them.
        guard().install("xy").unwrap();
        assert_eq!(installed.difference().unwrap(), None);
        nft("add element inet bulkhead-xy attached { 9 . 5 }\n").unwrap();
        assert_eq!(installed.difference().unwrap(), None);
        remove("xy").unwrap();
        assert_eq!(installed.difference().unwrap(), None);
    });
}

#[test]
fn interfaces_are_opened_and_closed_by_one_set_alone() {
    alone(|| {
        let mut installed = guard().install("x").unwrap();
        let mut before = read("x").unwrap().unwrap();
        for indices in [&[][..], &[7, 8], &[8]] {
            installed.set_attached(&indices.iter().map(|index| (*index, 5)).collect()).unwrap();
            let after = read("x").unwrap().unwrap();
            assert_eq!(after.outline.generation, before.outline.generation + 1, "one transaction");
            assert_eq!(after.contents["attached"].len(), indices.len());
            before.contents.insert("attached".to_owned(), after.contents["attached"].clone());
            before.outline.generation = after.outline.generation;
            assert_eq!(before, after);
            assert_eq!(installed.difference().unwrap(), None);
        }
        // Behind its back it is a difference.
        set_attached("x", &[(7, 5)].into()).unwrap();
        assert!(installed.difference().unwrap().is_some());
        remove("x").unwrap();
        assert!(installed.set_attached(&[(7, 5)].into()).is_err(), "there is no guard");
    });
}

/// A guard that keeps `lo` closed, which is no managed interface elsewhere.
fn closed_lo(group: u16) -> Guard {
    let up = std::process::Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap();
    assert!(up.success());
    Guard { managed: ["lo".to_owned()].into(), attached: [].into(), log: Some(group), ..guard() }
}

/// Sends a datagram, which is dropped on its way.
fn send_on_lo() {
    let socket = std::net::UdpSocket::bind("127.0.0.1:4000").unwrap();
    assert!(socket.send_to(b"x", "127.0.0.1:9").is_err());
}

#[test]
fn what_is_dropped_is_logged_to_whoever_it_concerns() {
    alone(|| {
        // Both would take the same group.
        let (log, other) = (Log::open("Aa").unwrap(), Log::open("BB").unwrap());
        assert_ne!(log.group, other.group);
        let drained = |log: &Log| {
            let mut found: Vec<Dropped> = Vec::new();
            log.drain(|dropped| found.push(dropped)).unwrap();
            found
        };
        closed_lo(log.group).install("Aa").unwrap();
        send_on_lo();
        let found = drained(&log);
        let headers = found[0].headers.unwrap();
        assert_eq!(
            (found.len(), found[0].kind, found[0].interface, found[0].bytes),
            (1, Kind::ClosedOut, 1, 29)
        );
        assert_eq!((headers.source, headers.destination), ([127, 0, 0, 1].into(), [127, 0, 0, 1].into()));
        assert_eq!((headers.protocol, headers.ports), (17, (4000, 9)));
        assert_eq!(drained(&other), []);
        remove("Aa").unwrap();
        // A guard without its agent logs to a group that somebody else has taken meanwhile.
        closed_lo(log.group).install("BB").unwrap();
        send_on_lo();
        assert_eq!((drained(&log), drained(&other)), (vec![], vec![]));
        assert_eq!(counts("BB").unwrap()[&Kind::ClosedOut].packets, 1);
    });
}

#[test]
fn counters_survive_what_replaces_the_table() {
    alone(|| {
        let closed = closed_lo(4711);
        closed.install("x").unwrap();
        let send = || {
            send_on_lo();
            counts("x").unwrap()[&Kind::ClosedOut]
        };
        let first = send();
        assert_eq!((first.packets, first.bytes), (1, 29));
        Guard { log: None, ..closed.clone() }.install("x").unwrap();
        assert_eq!(counts("x").unwrap()[&Kind::ClosedOut], first);
        let second = send();
        assert_eq!((second.packets, second.counter), (2, first.counter));
        // GenerationMeta anew, it counts anew, and says so.
        nft("delete table inet bulkhead-x\n").unwrap();
        closed.install("x").unwrap();
        let anew = counts("x").unwrap()[&Kind::ClosedOut];
        assert!(anew.packets == 0 && anew.counter != first.counter, "{anew:?}");
    });
}

#[test]
fn a_hundred_thousand_addresses_are_looked_after_in_passing() {
    alone(|| {
        let address = |last: u32| IpAddr::from(Ipv4Addr::from_bits(0x6440_0000 + last));
        let guard = Guard { others: (2..100_000).map(address).collect(), ..guard() };
        let timed = |what: &str, work: &mut dyn FnMut()| {
            let start = Instant::now();
            work();
            println!("{what}: {:?}", start.elapsed());
            start.elapsed()
        };
        let mut installed = guard.install("x").unwrap();
        timed("replacing it", &mut || installed = guard.install("x").unwrap());
        let unchanged = timed("unchanged", &mut || assert_eq!(installed.difference().unwrap(), None));
        assert!(unchanged < Duration::from_millis(20), "{unchanged:?}");
        nft("add table inet other\n").unwrap();
        timed("changed elsewhere", &mut || assert_eq!(installed.difference().unwrap(), None));
        timed("opened", &mut || installed.set_attached(&[(7, 5), (8, 5)].into()).unwrap());
        nft("delete element inet bulkhead-x others4 { 100.64.3.3 }\n").unwrap();
        timed("one address less", &mut || assert!(installed.difference().unwrap().is_some()));
    });
}
