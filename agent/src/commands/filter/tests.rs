use bulkhead_api::event::Event;

use super::{Filter, Meant, Times};

fn drop() -> Event {
    let line = br#"{"time":"2026-11-28T08:53:14Z","node":"n","kind":"drop","direction":"ingress",
        "source":{"address":"10.0.0.1","name":"engine-1","tags":["tag:engine"],"key":"k"},
        "destination":{"address":"10.0.0.2","user":"a@b"},"destination_port":22,"protocol":"tcp",
        "interface":"wg0","rule":{"number":5,"name":"no-ssh"},
        "reason":"no_rule","count":1,"bytes":60,"generation":1,"audit":false}"#;
    Event::read(line).unwrap()
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn is_meant(change: impl Fn(&mut Filter)) -> bool {
    let mut filter = Filter::default();
    assert!(filter.is_empty());
    change(&mut filter);
    filter.meant().unwrap().is_meant(&drop())
}

fn is_within(since: Option<&str>, until: Option<&str>) -> bool {
    let times = Times { since: since.map(str::to_owned), until: until.map(str::to_owned) };
    times.of(Meant::default()).unwrap().is_meant(&drop())
}

#[test]
fn all_that_is_given_must_hold() {
    assert!(is_meant(|_| ()));
    for who in ["engine-1", "tag:engine", "k", "10.0.0.1", "10.0.0.0/31"] {
        assert!(is_meant(|filter| filter.from = some(who)), "{who}");
        assert!(is_meant(|filter| filter.with = some(who)), "{who}");
        assert!(!is_meant(|filter| filter.to = some(who)), "{who}");
    }
    assert!(is_meant(|filter| (filter.to, filter.port) = (some("a@b"), Some(22))));
    assert!(!is_meant(|filter| (filter.to, filter.port) = (some("a@b"), Some(23))));
    assert!(is_meant(|filter| filter.reason = some("no_rule")));
    assert!(!is_meant(|filter| filter.reason = some("quarantined")));
    for (is, protocol) in [(true, "tcp"), (true, "6"), (false, "udp")] {
        assert_eq!(is_meant(|filter| filter.protocol = some(protocol)), is, "{protocol}");
    }
    for (is, rule) in [(true, "no-ssh"), (true, "5"), (false, "6"), (false, "ssh")] {
        assert_eq!(is_meant(|filter| filter.rule = some(rule)), is, "{rule}");
    }
    for (is, name) in [(true, "wg0"), (false, "wg")] {
        assert_eq!(is_meant(|filter| filter.interface = some(name)), is, "{name}");
    }
    for (is, name) in [(true, "ingress"), (false, "egress")] {
        assert_eq!(is_meant(|filter| filter.direction = some(name)), is, "{name}");
    }
    assert!(!is_meant(|filter| filter.kind = some("control")));
    assert!(is_within(Some("2026-11-28T08:53:14Z"), None));
    assert!(!is_within(None, Some("2026-11-28T08:53:14Z")));
    assert!(!is_within(None, Some("36500d")));
}

#[test]
fn what_only_packets_have_no_other_event_has() {
    let line = br#"{"time":"2026-11-28T08:53:14Z","node":"n","kind":"missed","missed":1}"#;
    let event = Event::read(line).unwrap();
    assert!(Filter::default().meant().unwrap().is_meant(&event));
    for filter in [
        Filter { with: some("engine-1"), ..Filter::default() },
        Filter { interface: some("wg0"), ..Filter::default() },
        Filter { protocol: some("tcp"), ..Filter::default() },
        Filter { rule: some("5"), ..Filter::default() },
    ] {
        assert!(!filter.is_empty() && !filter.meant().unwrap().is_meant(&event), "{filter:?}");
    }
}

#[test]
fn what_means_nothing_is_said() {
    for filter in [
        Filter { kind: some("drops"), ..Filter::default() },
        Filter { reason: some("because"), ..Filter::default() },
        Filter { protocol: some("tcpp"), ..Filter::default() },
    ] {
        assert!(filter.meant().is_err(), "{filter:?}");
    }
    for time in ["yesterday", "é", "", "99999999999999999999d"] {
        assert!(super::time::read(time).is_err(), "{time}");
    }
}
