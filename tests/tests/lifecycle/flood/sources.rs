//! A flood from very many sources, sent as fast as the machine can: each packet is accounted for, the few of an honest
//! stranger are told of, and the agent stays small.

use std::time::Duration;

use bulkhead_testkit::setting;
use rustix::param::clock_ticks_per_second;
use serde_json::Value;

use super::{DENIED, Flood, probe_at, told};
use crate::site::account::{self, drops, lost, number, told_in};
use crate::site::{Over, Site, WEB};

/// Packets for each source.
const EACH: u64 = 100;

/// When the stranger knocks, in parts of the flood.
const MOMENTS: [u64; 3] = [1, 2, 3];

/// What the agent has used of a CPU.
fn used(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // proc_pid_stat(5): utime and stime are the 14th and 15th, the 12th and 13th after the name.
    let (_, after) = stat.rsplit_once(')').unwrap();
    let ticks = |place: usize| after.split_whitespace().nth(place).unwrap().parse::<u64>().unwrap();
    Duration::from_secs_f64((ticks(11) + ticks(12)) as f64 / clock_ticks_per_second() as f64)
}

/// Bytes of its own that the agent holds: without the pages of its binary and of the kernel's tables.
fn held(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

#[test]
fn every_packet_of_very_many_sources_is_accounted_for() {
    let packets = setting("BULKHEAD_DENIED", 400_000);
    // In thousandths of a core; a debug build has no bound that says anything.
    let core = setting("BULKHEAD_CORE", 1000);
    let mut site = Site::with_hosts("flood-many", Over::Ethernet, &[DENIED, WEB], &["visitor"]);
    // Each balance has a summary made at once, which costs as much as the summary has lines.
    let attest = setting("BULKHEAD_ATTEST", 5);
    let events = format!("[events]\nattest_seconds = {attest}\n");
    site.write("agent.toml", &(site.configuration("server", "eth0") + &events));
    site.start();
    let agent = site.agent_pid();
    let before = used(agent);
    let flood = Flood::of_sources(&site, "visitor", "server", packets, (packets / EACH) as u32);
    let (mut most, mut probes) = (0, (20..).zip(MOMENTS).peekable());
    while !flood.is_over() {
        most = most.max(held(agent));
        if let Some((port, _)) = probes.next_if(|(_, part)| flood.sent() >= packets * part / 4) {
            probe_at(&site, port);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(probes.next(), None, "the flood was over before the last probe");
    let (rate, took) = flood.join();
    let used = used(agent) - before;
    let journal = site.journal_file();
    let is_told = |status: &Value| drops(status) == account::told(status) + lost(status);
    // The kernels of the other hosts solicit routers now and then. The log has over a million records: it is read last.
    let status = site.wait_for("all is told of in the log", |status| {
        is_told(status) && told_in(&journal) == account::told(status)
    });
    site.signal(libc::SIGTERM);
    assert_eq!(site.exit_code(), Some(0), "{}", site.log());
    let share = used.as_secs_f64() / took.as_secs_f64();
    let dropped = drops(&status);
    let most = most >> 20;
    println!(
        "{packets} datagrams of {} sources, {rate:.0} a second: {dropped} arrived; the agent used {share:.3} of a core \
         and held {most} MiB at most; {}",
        packets / EACH,
        status["lost"]
    );
    // The network itself may lose some.
    assert!(dropped > packets / 2, "{status}");
    let rules = status["agent"]["rule_counters"].as_array().unwrap();
    let arrived = number(&rules.iter().find(|rule| rule["name"] == "denied").unwrap()["packets"]);
    assert!(arrived > 0, "{status}");
    assert_eq!(told(&site).len() as u64, arrived, "{:?} of {arrived}: {status}", told(&site));
    let balance = site.bulkhead(&["audit", "balance"]);
    assert_eq!(balance.status.code(), Some(0), "{balance:?}");
    assert!(most <= 64, "{most} MiB");
    assert!(share * 1000.0 <= core as f64, "{share:.3} of a core");
}
