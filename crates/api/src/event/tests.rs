use std::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::hook::Hook;
use crate::mode::Mode;
use crate::record::{Clock, Record};

fn text() -> impl Strategy<Value = String> {
    proptest::string::string_regex("[a-zA-Z0-9 ()/:.\"\\\\→-]{0,20}").unwrap()
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![any::<[u8; 4]>().prop_map(IpAddr::from), any::<[u8; 16]>().prop_map(IpAddr::from)]
}

fn end() -> impl Strategy<Value = End> {
    let names = (proptest::option::of(text()), proptest::option::of(text()), proptest::option::of(text()));
    let tags = proptest::collection::vec(text(), 0..3);
    (address(), names, tags, proptest::option::of(0_u8..=32)).prop_map(
        |(address, (name, key, user), tags, length)| {
            let route = length.map(|length| ipnet::IpNet::new(address, length).unwrap());
            End { address, name, key, user, tags, route }
        },
    )
}

fn rule() -> impl Strategy<Value = Option<Rule>> {
    let named = (any::<u32>(), proptest::option::of(text()), proptest::option::of(text()));
    proptest::option::of(named.prop_map(|(number, name, position)| Rule::plain(number, name, position)))
}

fn reason() -> impl Strategy<Value = Reason> {
    let guard = prop::sample::select(&GuardReason::ALL[..]).prop_map(Reason::Guard);
    prop_oneof![any::<u8>().prop_map(Reason::of), guard]
}

fn drop() -> impl Strategy<Value = Drop> {
    let direction = prop_oneof![Just(Direction::Ingress), Just(Direction::Egress)];
    let ends = (proptest::option::of(end()), proptest::option::of(end()));
    let ports = (any::<Option<u16>>(), any::<Option<u16>>(), any::<Option<u8>>(), any::<Option<u16>>());
    let numbers = (any::<u64>(), any::<u64>(), any::<u32>(), any::<bool>(), any::<bool>(), any::<bool>());
    (direction, ends, ports, (reason(), rule(), proptest::option::of(text())), numbers).prop_map(
        |(
            direction,
            ends,
            ports,
            (reason, rule, interface),
            (count, bytes, generation, audit, many, odd),
        )| Drop {
            direction,
            source: ends.0,
            source_port: ports.0,
            destination: ends.1,
            destination_port: ports.1,
            protocol: ports.2.map(Protocol),
            ethertype: ports.3.map(EtherType),
            reason,
            rule,
            interface,
            count,
            bytes,
            generation,
            audit,
            odd,
            many,
        },
    )
}

fn actor() -> impl Strategy<Value = Actor> {
    let peer = (any::<u32>(), any::<u32>(), any::<Option<i32>>());
    let names = (proptest::option::of(text()), proptest::option::of(text()));
    prop_oneof![
        (peer, names).prop_map(|((uid, gid, pid), (comm, exe))| Actor::Socket { uid, gid, pid, comm, exe }),
        text().prop_map(|signal| Actor::Signal { signal }),
        Just(Actor::Agent),
        Just(Actor::File),
        text().prop_map(|name| Actor::Source { name }),
        text().prop_map(|name| Actor::Fleet { name }),
    ]
}

fn kind() -> impl Strategy<Value = Kind> {
    let enforced = (reason(), any::<bool>(), rule()).prop_map(|(reason, passed, rule)| Enforced {
        reason,
        passed,
        rule,
    });
    let effect = prop_oneof![Just(Effect::None), Just(Effect::Closed), Just(Effect::Open)];
    let unenforced = (text(), any::<u64>(), any::<u64>(), text(), effect, any::<u32>(), any::<bool>());
    let what = (prop::sample::select(Action::ALL), prop::sample::select(Outcome::ALL), actor());
    let words = proptest::collection::vec(proptest::option::of(text()), 4);
    prop_oneof![
        drop().prop_map(|drop| Kind::Drop(Box::new(drop))),
        (drop(), enforced)
            .prop_map(|(staged, enforced)| Kind::WouldDiffer(Box::new(WouldDiffer { staged, enforced }))),
        (drop(), any::<u32>()).prop_map(|(first, one_in)| Kind::Allowed(Box::new(Allowed { first, one_in }))),
        unenforced.prop_map(|(interface, since, milliseconds, cause, effect, generation, agent)| {
            let since = Timestamp::from_unix(since);
            Kind::Unenforced(Box::new(Unenforced {
                interface,
                since,
                milliseconds,
                cause,
                effect,
                generation,
                agent,
            }))
        }),
        (what, words, any::<u32>(), any::<u32>()).prop_map(
            |((action, outcome, by), words, before, generation)| {
                let mut words = words.into_iter();
                let mut next = || words.next().flatten();
                Kind::Control(Box::new(Control {
                    action,
                    outcome,
                    by,
                    subject: next(),
                    detail: next(),
                    signers: next().into_iter().collect(),
                    generation_before: before,
                    generation,
                    policy: next(),
                    inventory: next(),
                }))
            }
        ),
        (proptest::collection::vec(proptest::option::of(text()), 4), text(), any::<u32>(), any::<u64>())
            .prop_map(|(words, text, generation, others)| {
                let mut words = words.into_iter();
                let mut next = || words.next().flatten();
                Kind::Altered(Box::new(Altered {
                    generation,
                    table: text.clone(),
                    entry: text.clone(),
                    direction: next(),
                    source: next(),
                    destination: next(),
                    port: next(),
                    others,
                    expected: text.clone(),
                    found: text,
                    omitted: others / 2,
                }))
            }),
        prop_oneof![binding(), workload()],
        alarm(),
        coverage(),
        balance(),
        (any::<Option<u64>>(), any::<Option<u64>>(), proptest::option::of(text())).prop_map(
            |(events, drops, detail)| {
                Kind::Lost(Box::new(LostEvents { events, drops, cause: LostCause::Refused, detail }))
            }
        ),
        any::<u64>().prop_map(|missed| Kind::Missed(Missed { missed })),
    ]
}

fn binding() -> impl Strategy<Value = Kind> {
    let what = (prop::sample::select(BindingState::ALL), address(), any::<bool>(), any::<u64>());
    let words = proptest::collection::vec(proptest::option::of(text()), 3);
    (what, words, text(), any::<u32>()).prop_map(
        |((state, address, enforced, omitted), words, text, generation)| {
            let mut words = words.into_iter();
            let mut next = || words.next().flatten();
            Kind::Binding(Box::new(Binding {
                identity: text.clone(),
                address,
                state,
                expected: vec![text; usize::from(enforced)],
                found: next(),
                holder: next(),
                interface: next(),
                enforced,
                omitted,
                generation,
            }))
        },
    )
}

fn workload() -> impl Strategy<Value = Kind> {
    let words = proptest::collection::vec(proptest::option::of(text()), 2);
    (prop::sample::select(WorkloadState::ALL), text(), words, any::<Option<u64>>(), any::<u32>()).prop_map(
        |(state, workload, mut words, cgroup_id, generation)| {
            let (cgroup, problem) = (words.pop().flatten(), words.pop().flatten());
            Kind::Workload(Box::new(WorkloadChange {
                workload,
                state,
                cgroup,
                cgroup_id,
                problem,
                generation,
            }))
        },
    )
}

fn alarm() -> impl Strategy<Value = Kind> {
    let what = (
        prop::sample::select(AlarmKind::ALL),
        prop::sample::select(AlarmState::ALL),
        proptest::option::of(end()),
        rule(),
    );
    (what, text(), any::<u64>(), any::<Option<u64>>(), any::<u32>()).prop_map(
        |((alarm, state, source, rule), text, count, usual, generation)| {
            Kind::Alarm(Box::new(Alarm {
                alarm,
                state,
                cause: text.clone(),
                since: Timestamp::from_unix(count),
                destination: source.clone(),
                source,
                rule,
                count,
                usual,
                seconds: usual,
                expires: usual.map(Timestamp::from_unix),
                level: usual.map(|number| ExpiryLevel::ALL[number as usize % 4]),
                names: usual.iter().map(u64::to_string).collect(),
                detail: text,
                generation,
            }))
        },
    )
}

fn covered() -> impl Strategy<Value = Covered> {
    let files = (proptest::option::of(text()), proptest::option::of(text()));
    let hook = (text(), prop::sample::select(&Hook::ALL[..]), any::<u32>(), proptest::option::of(text()))
        .prop_map(|(interface, hook, program, tag)| CoveredHook { interface, hook, program, tag });
    let lists = (proptest::collection::vec(hook, 0..3), proptest::collection::vec(text(), 0..3));
    let mode = prop_oneof![Just(Mode::Enforce), Just(Mode::Audit)];
    (any::<u32>(), mode, files, lists, proptest::collection::vec(text(), 0..3)).prop_map(
        |(generation, mode, (policy, inventory), (hooks, absent), quarantined)| Covered {
            generation,
            mode,
            policy,
            inventory,
            hooks,
            absent,
            quarantined,
        },
    )
}

fn coverage() -> impl Strategy<Value = Kind> {
    let read_back = (any::<u64>(), any::<u32>(), any::<u64>()).prop_map(|(time, generation, differences)| {
        ReadBack { time: Timestamp::from_unix(time), generation, differences }
    });
    let ends = (covered(), proptest::option::of(covered()));
    let unenforced = proptest::collection::btree_map(text(), any::<u64>(), 0..3);
    let numbers = (any::<u64>(), any::<u64>(), any::<u64>(), proptest::option::of(read_back));
    (any::<bool>(), ends, unenforced, numbers).prop_map(
        |(whole, (at_start, at_end), unenforced, (since, looks, longest_look, read_back))| {
            let since = Timestamp::from_unix(since);
            Kind::Coverage(Box::new(Coverage {
                since,
                whole,
                at_start,
                at_end,
                unenforced,
                looks,
                longest_look,
                read_back,
            }))
        },
    )
}

fn balance() -> impl Strategy<Value = Kind> {
    let count = || {
        let direction = proptest::option::of(prop_oneof![Just(Direction::Ingress), Just(Direction::Egress)]);
        let count = (direction, reason(), any::<u64>()).prop_map(|(direction, reason, packets)| Count {
            direction,
            reason,
            packets,
        });
        proptest::collection::vec(count, 0..3)
    };
    let account = || {
        (proptest::array::uniform5(0..u64::MAX / 16), any::<bool>()).prop_map(
            |([dropped, told, unwritten, lost, records], settled)| Account {
                dropped,
                told,
                unwritten,
                lost,
                records,
                settled,
            },
        )
    };
    let numbers = proptest::array::uniform2(0..u64::MAX / 16);
    (account(), account(), numbers, any::<Option<u64>>(), count(), count()).prop_map(
        |(even, odd, [unreported, unread], since, reasons, guard)| {
            Kind::Balance(Box::new(Balance {
                counted_since: since.map(Timestamp::from_unix),
                even,
                odd,
                unreported,
                unread,
                reasons,
                guard,
            }))
        },
    )
}

/// Whether members are sorted at every depth, and a second pass changes nothing (RFC 8785, 3.2).
fn is_canonical(bytes: &[u8]) -> bool {
    fn is_sorted(value: &serde_json::Value) -> bool {
        match value {
            serde_json::Value::Object(members) => {
                members.keys().is_sorted_by_key(|name| name.encode_utf16().collect::<Vec<_>>())
                    && members.values().all(is_sorted)
            }
            serde_json::Value::Array(items) => items.iter().all(is_sorted),
            serde_json::Value::Number(number) => number.is_u64() || number.is_i64(),
            _ => true,
        }
    }
    let value: serde_json::Value = serde_json::from_slice(bytes).unwrap();
    is_sorted(&value) && serde_json::to_vec(&value).unwrap() == bytes
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(unix in any::<u64>(), node in text(), kind in kind()) {
        let event = Event { time: Timestamp::from_unix(unix), node, kind };
        let line = serde_json::to_vec(&event).unwrap();
        let name: serde_json::Value = serde_json::from_slice(&line).unwrap();
        prop_assert_eq!(&name["kind"], event.kind.name());
        prop_assert!(!line.contains(&b'\n'));
        prop_assert_eq!(Event::read(&line).unwrap(), event.clone());
        prop_assert!(!event.to_string().is_empty());
        let clock = Clock { source: "tsc".to_owned(), synchronized: true, offset: -1, error: 2 };
        let record = Record { host: "h\u{1}é\u{2028}".to_owned(), sequence: unix, clock, files: None, event };
        let bytes = record.canonical().unwrap();
        prop_assert!(is_canonical(&bytes), "{}", String::from_utf8_lossy(&bytes));
        prop_assert_eq!(Record::read(&bytes).unwrap(), record);
    }

    #[test]
    fn texts_of_times_have_one_width_and_sort_as_they_do(one in any::<u64>(), other in any::<u64>()) {
        let [a, b] = [one, other].map(Timestamp::from_unix);
        prop_assert_eq!(a.to_string().len(), "2026-11-28T08:53:14.926000001Z".len());
        prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
        prop_assert_eq!(a.to_string().parse::<Timestamp>(), Ok(a));
    }

    #[test]
    fn no_line_is_a_reason_to_stop(line in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Event::read(&line);
    }
}

#[test]
fn an_event_says_who_by_fields_and_not_by_prose() {
    let line = r#"{"time":"2026-11-28T08:53:14.926000001Z","node":"oms-1","kind":"drop","direction":"ingress","source":{"address":"10.1.2.3","name":"gateway-a","key":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE=","tags":["tag:gateway"],"route":"10.0.0.0/8"},"source_port":40000,"destination":{"address":"100.64.0.2","name":"oms-1","user":"ann@example.com"},"destination_port":22,"protocol":"tcp","reason":"deny_rule","rule":{"number":5,"name":"no-ssh","position":"policy.hujson:10:5"},"interface":"wg0","count":1,"bytes":60,"generation":3,"audit":false}"#;
    let event = Event::read(line.as_bytes()).unwrap();
    assert_eq!(serde_json::to_string(&event).unwrap(), line);
    assert_eq!(
        event.to_string(),
        "2026-11-28T08:53:14.926Z drop ingress gateway-a (route 10.0.0.0/8) (10.1.2.3) → oms-1 (100.64.0.2) \
         22/tcp deny_rule on wg0 by no-ssh at policy.hujson:10:5"
    );
    for (number, name) in [(58, "\"ipv6-icmp\""), (47, "\"gre\""), (41, "\"41\"")] {
        assert_eq!(serde_json::to_string(&Protocol(number)).unwrap(), name);
    }
}

#[test]
fn lines_of_earlier_agents_are_read() {
    assert_eq!("venue_guard".parse::<Reason>().unwrap(), "venue_default_deny".parse().unwrap());
    let line = r#"{"time": "2026-11-28T08:53:14.9Z", "direction": "ingress", "source": "100.64.0.9",
        "source_name": "stranger", "source_port": 0, "destination": null, "destination_name": null, "port": 0,
        "protocol": "any", "reason": "no_rule", "rule": null, "rule_name": null, "position": null,
        "interface": "wg0", "count": 3742, "bytes": 1, "generation": 1, "audit": false, "many": true}"#;
    let shown = "2026-11-28T08:53:14.900Z drop ingress stranger (100.64.0.9) → many no_rule on wg0 ×3742";
    assert_eq!(Event::read(line.as_bytes()).unwrap().to_string(), shown);
    let line = r#"{"time": "2026-11-28T08:53:14Z", "direction": "egress", "source": "10.0.0.7",
        "source_name": "gateway-a (route 10.0.0.0/8)", "source_port": 5, "destination": "fd7a::1",
        "destination_name": null, "port": 0, "protocol": "icmpv6", "reason": "rule", "rule": 2, "rule_name": null,
        "position": "p:1:1", "interface": "wg0", "count": 1, "bytes": 1, "generation": 1, "audit": false,
        "enforced": {"reason": "no_rule", "passed": false, "rule": null, "rule_name": null, "position": null}}"#;
    let shown = "2026-11-28T08:53:14.000Z staged would pass egress gateway-a (route 10.0.0.0/8) (10.0.0.7) → \
                 unknown (fd7a::1) ipv6-icmp rule on wg0 by rule 2 at p:1:1; dropped now, no_rule";
    assert_eq!(Event::read(line.as_bytes()).unwrap().to_string(), shown);
    let line = r#"{"time":"2026-11-28T08:53:14.926Z","kind":"unenforced","interface":"wg0",
        "since":"2026-11-28T08:53:14Z","milliseconds":926,"cause":"detached","effect":"open","generation":2,
        "agent":true}"#;
    assert!(matches!(Event::read(line.as_bytes()).unwrap().kind, Kind::Unenforced(_)));
    assert!(matches!(Event::read(b"{\"missed\":7}").unwrap().kind, Kind::Missed(Missed { missed: 7 })));
    assert!(Event::read(b"{}").is_err());
}
