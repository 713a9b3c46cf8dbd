//! What the log has of the half year.

use bulkhead_api::event::{Action, Actor, Event, Timestamp};
use bulkhead_api::history::{Entry, Origin, Standing, Summary};
use bulkhead_api::mode::Mode;
use bulkhead_api::record::{Clock, Record};
use bulkhead_history::DAY;

use crate::{NOW, SECOND, SINCE};

fn record(time: u64, event: &str) -> Record {
    let event = event.trim().trim_start_matches('{');
    let text = format!(r#"{{"time":"{}","node":"oms-1",{event}"#, Timestamp::from_unix(time));
    let event = Event::read(text.as_bytes()).unwrap_or_else(|error| panic!("{error}: {text}"));
    Record {
        host: "oms-1".to_owned(),
        sequence: 0,
        clock: Clock { synchronized: true, ..Clock::default() },
        files: None,
        event,
    }
}

fn covered(generation: u32, mode: &str) -> String {
    let hook = r#"{"interface":"wg0","hook":"tcx-ingress","program":7,"tag":"0011223344556677"}"#;
    let [policy, inventory] = ["c0ffee", "decade"].map(|digest| digest.repeat(10));
    format!(
        r#"{{"generation":{generation},"mode":"{mode}","policy":"{policy}","inventory":"{inventory}","hooks":[{hook}]}}"#
    )
}

fn interval(from: u64, generation: u32, mode: &str, unenforced: u64) -> String {
    let open =
        if unenforced == 0 { String::new() } else { format!(r#","unenforced":{{"wg0":{unenforced}}}"#) };
    format!(
        r#"{{"kind":"coverage","since":"{}","whole":{},"at_start":{}{open},"looks":60,"longest_look":1000000000}}"#,
        Timestamp::from_unix(from),
        unenforced == 0,
        covered(generation, mode)
    )
}

fn drops(reason: &str, count: u64) -> String {
    format!(
        r#"{{"kind":"drop","direction":"ingress","source":{{"address":"100.64.0.8","name":"research-1"}},
        "destination":{{"address":"100.64.0.1","name":"oms-1"}},"destination_port":9000,"protocol":"tcp",
        "reason":"{reason}","interface":"wg0","count":{count},"bytes":{},"generation":4,"audit":false}}"#,
        count * 60
    )
}

fn balance(dropped: u64, settled: bool) -> String {
    let account = |dropped| {
        format!(
            r#"{{"dropped":{dropped},"told":{dropped},"unwritten":0,"lost":0,"records":0,"settled":{settled}}}"#
        )
    };
    format!(
        r#"{{"kind":"balance","counted_since":"2026-12-01T00:00:00Z","even":{},"odd":{},"unreported":0,"unread":0,"reasons":[]}}"#,
        account(dropped),
        account(0)
    )
}

/// A node scans twice; the agent cuts it off the first time, and withholds it the second. A rule's end is told from
/// before the time that is asked about.
fn alarms() -> Vec<(u64, String)> {
    let since = |at: u64| Timestamp::from_unix((NOW - 9 * DAY + at) * SECOND);
    let alarm = |alarm: &str, state: &str, cause: &str, at: u64, more: &str| {
        format!(
            r#"{{"kind":"alarm","alarm":"{alarm}","state":"{state}","cause":"{cause}","since":"{}",{more}
            "count":25,"detail":"{cause} <b>found</b>","generation":4}}"#,
            since(at)
        )
    };
    let research = r#""source":{"address":"100.64.0.8","name":"research-1"},"#;
    let scan = |state, at| alarm("scan", state, "scan ingress 100.64.0.8", at, research);
    let by_agent = |action: &str, detail: &str| {
        format!(
            r#"{{"kind":"control","action":"{action}","outcome":"done","by":{{"via":"agent"}},"subject":"research-1",
            "detail":"{detail}","generation_before":4,"generation":4}}"#
        )
    };
    let withheld = alarm("quarantine_withheld", "raised", "quarantine_withheld research-1", 810, "");
    vec![
        (100, scan("raised", 100)),
        (102, by_agent("quarantine", "denied 50 times within 60 s")),
        (160, scan("ended", 100)),
        // Told again by an agent that was killed before it had kept that it was told.
        (170, scan("ended", 100)),
        (700, by_agent("release", "its time is over")),
        (800, scan("raised", 800)),
        (810, withheld),
    ]
}

/// The log: audit mode for two weeks, a night without an agent, an interface that was open for a while.
pub fn records() -> Vec<Record> {
    let mut records = Vec::new();
    let hour = 3600 * SECOND;
    let start = (SINCE + 5 * DAY) * SECOND;
    let mut dropped = 0;
    let mut add = |time, event: &str| records.push(record(time, event));
    add(
        start,
        r#"{"kind":"control","action":"start","outcome":"done","by":{"via":"agent"},"generation_before":0,"generation":3}"#,
    );
    add(start, &balance(0, true));
    for at in 0..175 * 24 {
        let from = start + at * hour;
        let day = at / 24;
        if day == 60 && at % 24 < 9 {
            continue;
        }
        if at == 14 * 24 {
            let by = r#"{"via":"socket","uid":1000,"gid":1000,"pid":77,"comm":"bulkhead"}"#;
            let (policy, inventory) = ("c0ffee".repeat(10), "decade".repeat(10));
            add(
                from,
                &format!(
                    r#"{{"kind":"control","action":"apply","outcome":"done","by":{by},"subject":"/etc/bulkhead/policy.hujson",
                "generation_before":3,"generation":4,"policy":"{policy}","inventory":"{inventory}"}}"#
                ),
            );
        }
        if at % 24 == 10 {
            let noise = 40 + at * 7919 % 90;
            add(from, &drops("no_rule", noise));
            add(from, &drops("unknown_address", noise / 3));
            dropped += noise + noise / 3;
            if day % 31 == 5 {
                add(from, &drops("initiator_rate", 900));
                dropped += 900;
            }
        }
        let mode = if day < 14 { "audit" } else { "enforce" };
        let generation = if day < 14 { 3 } else { 4 };
        let is_open = at == 100 * 24;
        if is_open {
            add(
                from + 40 * SECOND,
                &format!(
                    r#"{{"kind":"unenforced","interface":"wg0","since":"{}","milliseconds":40000,
                "cause":"tcx-ingress is not attached","effect":"closed","generation":4,"agent":true}}"#,
                    Timestamp::from_unix(from)
                ),
            );
        }
        add(from + hour, &interval(from, generation, mode, if is_open { 40 * SECOND } else { 0 }));
        add(from + hour, &balance(dropped, day != 120 || at % 24 != 0));
    }
    for (at, event) in alarms() {
        add((NOW - 9 * DAY + at) * SECOND, &event);
    }
    let lost =
        r#"{"kind":"lost","events":12,"drops":31,"cause":"refused","detail":"No space left on device"}"#;
    add((NOW - 9 * DAY) * SECOND, lost);
    records.sort_by_key(|record| record.event.time);
    records
}

/// The change whose files are kept.
pub fn kept() -> Entry {
    let by =
        Actor::Socket { uid: 1000, gid: 1000, pid: Some(77), comm: Some("bulkhead".to_owned()), exe: None };
    let lines = ["+ bastion-1 -> oms-1  tcp:22", "- research-1 -> oms-1  tcp:9000  (IPv4 only)"];
    let difference = Summary { lines: lines.map(str::to_owned).to_vec(), more: 0 };
    let time = (SINCE + 19 * DAY) * SECOND;
    Entry {
        generation: 4,
        standing: Standing::Enforced,
        applied: String::new(),
        origin: Origin { action: Action::Apply, by, time, difference },
        mode: Mode::Enforce,
        policy: "policy".to_owned(),
        inventory: "inventory".to_owned(),
        policy_sha256: "c0ffee".repeat(10),
        inventory_sha256: "decade".repeat(10),
    }
}
