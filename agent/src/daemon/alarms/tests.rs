use std::net::IpAddr;

use bulkhead_abi::Reason as OfPrograms;
use bulkhead_api::event::{
    Alarm, AlarmKind, AlarmState, Direction, Drop, End, Event, Kind, Protocol, Reason, Timestamp,
};

use super::telling::Remembered;
use super::{Alarms, MOST};
use crate::config;

fn end(address: &str) -> End {
    let address: IpAddr = address.parse().unwrap();
    End { address, name: None, key: None, user: None, tags: Vec::new(), route: None }
}

/// So many denials at a port.
pub fn drop(source: &str, port: u16, count: u64) -> Drop {
    Drop {
        direction: Direction::Ingress,
        source: Some(end(source)),
        source_port: None,
        destination: Some(end("10.0.0.99")),
        destination_port: Some(port),
        protocol: Some(Protocol(6)),
        ethertype: None,
        reason: Reason::Program(OfPrograms::NoRule),
        rule: None,
        interface: Some("eth0".to_owned()),
        count,
        bytes: 60,
        generation: 1,
        audit: false,
        odd: false,
        many: false,
    }
}

fn note(alarms: &Alarms, drop: Drop) {
    let kind = Kind::Drop(Box::new(drop));
    alarms.note(&Event { time: Timestamp::from_unix(1), node: "n".to_owned(), kind });
}

fn told(alarms: &Alarms) -> Vec<(AlarmKind, AlarmState, String)> {
    alarms.take().0.into_iter().map(|Alarm { alarm, state, cause, .. }| (alarm, state, cause)).collect()
}

#[test]
fn a_scan_is_raised_once_and_other_reasons_are_none() {
    let alarms = Alarms::new(&config::Alarms::default());
    for port in 0..1000 {
        let malformed = Reason::Program(OfPrograms::ALL[0]);
        note(&alarms, Drop { reason: malformed, ..drop("10.0.0.1", port, 1) });
    }
    assert_eq!(told(&alarms), []);
    (0..1000).for_each(|port| note(&alarms, drop("10.0.0.1", port, 1)));
    assert_eq!(told(&alarms), [(AlarmKind::Scan, AlarmState::Raised, "scan ingress 10.0.0.1".to_owned())]);
    assert_eq!(alarms.status().active.len(), 1);
}

#[test]
fn a_restart_raises_nothing_again() {
    let alarms = Alarms::new(&config::Alarms::default());
    (0..100).for_each(|port| note(&alarms, drop("10.0.0.1", port, 1)));
    let (untold, on) = alarms.take();
    assert_eq!(untold.len(), 1);
    let text = serde_json::to_vec(&Remembered { on: on.clone(), untold: Vec::new() }).unwrap();
    let later = Alarms::new(&config::Alarms::default());
    later.take_up(serde_json::from_slice(&text).unwrap());
    assert_eq!(later.active(), on);
    (0..100).for_each(|port| note(&later, drop("10.0.0.1", port, 1)));
    assert_eq!(told(&later), []);
}

#[test]
fn too_many_alarms_of_a_kind_are_counted() {
    let alarms = Alarms::new(&config::Alarms::default());
    for sender in 1..=100 {
        (0..30).for_each(|port| note(&alarms, drop(&format!("10.0.1.{sender}"), port, 1)));
    }
    assert_eq!(told(&alarms).len(), MOST);
    assert_eq!((alarms.status().active.len(), alarms.status().suppressed), (MOST, 100 - MOST as u64));
}
