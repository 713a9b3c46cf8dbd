//! Events of every kind, with every member and with none that may be absent.

use bulkhead_abi::Reason as OfPrograms;
use bulkhead_api::event::{
    Action, AlarmKind, AlarmState, BindingState, GuardReason, Kind, Outcome, WorkloadState,
};
use bulkhead_export::Exported;
use serde_json::{Value, json};

const SHA: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

/// A record of the event log whose event has these members.
pub fn record(sequence: u64, event: &Value) -> Exported {
    let mut event = event.clone();
    for (name, value) in [("time", json!("2026-11-28T08:53:14.926000001Z")), ("node", json!("oms-1"))] {
        event.as_object_mut().unwrap().entry(name).or_insert(value);
    }
    let clock =
        json!({"source": "tsc", "synchronized": sequence.is_multiple_of(2), "offset": -5, "error": 16_000});
    let mut record = json!({"host": "oms-1.example", "sequence": sequence, "clock": clock, "event": event});
    if sequence.is_multiple_of(3) {
        record["files"] = json!({"policy": SHA, "inventory": SHA});
    }
    let exported = Exported::new(sequence, serde_json::to_vec(&record).unwrap());
    assert!(exported.record().is_some(), "no record: {record}");
    exported
}

pub fn drop() -> Value {
    json!({
        "kind": "drop", "direction": "ingress",
        "source": {"address": "100.64.0.6", "name": "backup-1", "key": "AAAA", "user": "ann@example.com",
                   "tags": ["tag:backup"], "route": "100.64.0.0/24"},
        "source_port": 51514,
        "destination": {"address": "fd7a:115c:a1e0::1", "name": "oms-1"},
        "destination_port": 22, "protocol": "tcp", "reason": "deny_rule",
        "rule": {"number": 5, "name": "no-ssh", "position": "policy.hujson:10:5"},
        "interface": "wg0", "count": 3, "bytes": 180, "generation": 7, "audit": false,
    })
}

/// With some members of others; `null` takes one away.
fn with(mut base: Value, changes: Value) -> Value {
    let members = base.as_object_mut().unwrap();
    for (name, value) in changes.as_object().unwrap().clone() {
        if value.is_null() {
            members.remove(&name)
        } else {
            members.insert(name, value)
        };
    }
    base
}

fn drops() -> Vec<Value> {
    let programs = OfPrograms::ALL.iter().map(|reason| reason.name().to_owned());
    let guard = GuardReason::ALL.into_iter().map(|reason| reason.name().to_owned());
    let reasons = programs.chain(guard).chain(["250".to_owned()]);
    let mut drops: Vec<_> = reasons.map(|reason| with(drop(), json!({"reason": reason}))).collect();
    let addresses =
        ["::", "::1", "::ffff:192.0.2.1", "2001:db8::a:b", "0.0.0.0", "255.255.255.255", "fe80::1:2:3:4"];
    drops.extend(addresses.map(|address| with(drop(), json!({"source": {"address": address}}))));
    drops.push(with(drop(), json!({"audit": true, "direction": "egress", "rule": {"number": 0}})));
    drops.push(with(
        drop(),
        json!({"many": true, "destination": null, "destination_port": null, "protocol": null}),
    ));
    drops.push(with(
        drop(),
        json!({"source": null, "destination": null, "rule": null, "interface": null,
        "source_port": null, "destination_port": null, "protocol": null, "ethertype": "0x88cc"}),
    ));
    drops
        .push(with(drop(), json!({"count": u64::MAX, "bytes": u64::MAX, "generation": 0, "protocol": "41"})));
    drops
}

fn controls() -> Vec<Value> {
    let actors = [
        json!({"via": "socket", "uid": 1000, "gid": 1000, "pid": 42, "comm": "bulkhead", "exe": "/usr/bin/bulkhead"}),
        json!({"via": "socket", "uid": 0, "gid": 0}),
        json!({"via": "command", "uid": 0, "pid": 7}),
        json!({"via": "signal", "signal": "SIGTERM"}),
        json!({"via": "file"}),
        json!({"via": "agent"}),
    ];
    let mut controls = Vec::new();
    for action in Action::ALL {
        for outcome in Outcome::ALL {
            for actor in &actors {
                let bare = json!({"kind": "control", "action": action, "outcome": outcome, "by": actor,
                    "generation_before": 1, "generation": 2});
                let more =
                    json!({"subject": "backup-1", "detail": "a \"reason\"", "policy": SHA, "inventory": SHA});
                controls.extend([bare.clone(), with(bare, more)]);
            }
        }
    }
    controls
}

fn evidence() -> Vec<Value> {
    let covered = json!({"generation": 7, "mode": "enforce", "policy": SHA, "inventory": SHA, "hooks":
        [{"interface": "wg0", "hook": "tcx-ingress", "program": 12, "tag": "0123456789abcdef"}],
        "absent": ["wg1"], "quarantined": ["backup-1"]});
    let since = "2026-11-28T08:52:14.926000001Z";
    let coverage = |whole: bool| {
        json!({"kind": "coverage", "since": since, "whole": whole, "at_start": covered,
        "at_end": covered, "unenforced": {"wg0": 5}, "looks": 60, "longest_look": 1_000_000_000,
        "read_back": {"time": since, "generation": 7, "differences": 0}})
    };
    let balance = serde_json::to_value(Kind::Balance(Box::default())).unwrap();
    let mut evidence = vec![coverage(true), coverage(false), balance];
    for effect in ["none", "closed", "open"] {
        evidence.push(json!({"kind": "unenforced", "interface": "wg0", "since": since, "milliseconds": 926,
            "cause": "detached", "effect": effect, "generation": 2, "agent": true}));
    }
    for cause in ["overflow", "refused", "set_aside", "crash"] {
        evidence.push(json!({"kind": "lost", "cause": cause}));
        evidence.push(json!({"kind": "lost", "cause": cause, "events": 7, "drops": 9, "detail": "no space"}));
    }
    let altered = json!({"kind": "altered", "generation": 2, "table": "CELLS", "entry": "7", "others": 0,
        "expected": "deny_rule by 3", "found": "allow by 3", "omitted": 0});
    let named = json!({"direction": "ingress", "source": "client (10.0.0.3)", "destination": "server (10.0.0.9)",
        "port": "22/tcp", "others": u64::MAX, "omitted": u64::MAX});
    evidence.extend([altered.clone(), with(altered, named)]);
    for state in BindingState::ALL {
        let binding = json!({"kind": "binding", "identity": "oms-1", "address": "100.64.0.7", "state": state,
            "expected": [], "enforced": true, "generation": 2});
        let named = json!({"expected": [SHA, SHA], "found": SHA, "holder": "backup-1", "interface": "wg0",
            "enforced": false, "omitted": u64::MAX});
        evidence.extend([binding.clone(), with(binding, named)]);
    }
    for state in WorkloadState::ALL {
        let change = json!({"kind": "workload", "workload": "oms-1/engine", "state": state, "generation": 2});
        let named =
            json!({"cgroup": "/system.slice/engine.service", "cgroup_id": u64::MAX, "problem": "two match"});
        evidence.extend([change.clone(), with(change, named)]);
    }
    for kind in AlarmKind::ALL {
        for state in AlarmState::ALL {
            let alarm = json!({"kind": "alarm", "alarm": kind, "state": state, "cause": "scan ingress 10.0.0.3",
                "since": since, "count": 0, "detail": "10.0.0.3 was denied", "generation": 0});
            let named = json!({"source": {"address": "10.0.0.3", "name": "client"}, "rule": {"number": 5},
                "destination": {"address": "fd7a::1"}, "count": u64::MAX, "usual": 7, "seconds": 60,
                "expires": since, "generation": 7});
            evidence.extend([alarm.clone(), with(alarm, named)]);
        }
    }
    evidence.push(json!({"kind": "missed", "missed": 7}));
    evidence
}

/// All of them.
pub fn all() -> Vec<Exported> {
    let differs = |(index, drop): (usize, Value)| {
        let enforced = json!({"reason": "no_rule", "passed": index % 2 == 0, "rule": {"number": 1}});
        with(drop, json!({"kind": "would_differ", "enforced": enforced}))
    };
    let allowed = |(index, drop): (usize, Value)| {
        with(drop, json!({"kind": "allowed", "reason": "rule", "one_in": 1 + index % 2 * 63}))
    };
    let mut events = drops();
    events.extend(drops().into_iter().enumerate().map(differs));
    events.extend(drops().into_iter().enumerate().map(allowed));
    events.extend(controls());
    events.extend(evidence());
    events.push(with(drop(), json!({"node": ""})));
    (0..).zip(&events).map(|(sequence, event)| record(sequence, event)).collect()
}

/// Records that this version does not know.
pub fn unknown() -> Vec<Exported> {
    let later =
        json!({"host": "h", "sequence": 1, "event": {"time": "2026-11-28T08:53:14Z", "kind": "later"}});
    let texts = [later.to_string().into_bytes(), b"no\nJSON".to_vec(), vec![0xff, 0xfe], Vec::new()];
    (0..).zip(texts).map(|(sequence, bytes)| Exported::new(sequence, bytes)).collect()
}
