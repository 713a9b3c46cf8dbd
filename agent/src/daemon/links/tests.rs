use bulkhead_api::event::{Drop, End};

use super::{Missed, advertisements, foreign_groups, groups4, groups6, is_of_link, memberships};
use crate::config::{HookChoice, Link, Managed};

fn drop_of(reason: &str, direction: &str) -> Drop {
    serde_json::from_str(&format!(
        r#"{{"direction": "{direction}", "source": {{"address": "fe80::1"}},
            "destination": {{"address": "ff02::1"}}, "protocol": "ipv6-icmp", "reason": "{reason}", "interface": "eth0",
            "count": 1, "bytes": 100, "generation": 1, "audit": false}}"#
    ))
    .unwrap()
}

#[test]
fn what_is_missed_is_told_of_with_the_next_step_until_it_is_named() {
    let (missed, mut managed) = (Missed::default(), Managed::new("eth0", HookChoice::Auto));
    missed.note(&drop_of("router_discovery", "egress"));
    missed.note(&drop_of("no_rule", "ingress"));
    let asks = drop_of("router_discovery", "ingress");
    let destination = asks.destination.clone().map(|end| End { address: "ff02::2".parse().unwrap(), ..end });
    missed.note(&Drop { destination, ..asks });
    assert_eq!(missed.of("eth0"), super::Drops::default(), "a solicitation tells of no router");
    missed.note(&drop_of("membership_group", "ingress"));
    assert_eq!(missed.of("eth0"), super::Drops::default(), "another host's report is not missed here");
    missed.note(&drop_of("router_discovery", "ingress"));
    missed.note(&drop_of("membership_group", "egress"));
    let told = advertisements(&managed, missed.of("eth0")).unwrap();
    assert!(told.starts_with("interface eth0: IPv6 router advertisements of fe80::1"), "{told}");
    assert!(told.contains("add \"ra\""), "{told}");
    let told = memberships(&managed, missed.of("eth0")).unwrap();
    assert!(told.contains("(IGMP, MLD) are dropped") && told.contains("add \"igmp\""), "{told}");
    let elsewhere = missed.of("eth1");
    assert_eq!((advertisements(&managed, elsewhere), memberships(&managed, elsewhere)), (None, None));
    managed.link = vec![Link::Ra];
    assert_eq!(advertisements(&managed, missed.of("eth0")), None, "those are of before");
}

#[test]
fn the_kernels_lists_are_read_by_interface() {
    let igmp = "Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n\
                1\tlo        :     1      V3\n\t\t\t\t010000E0     1 0:00000000\t\t0\n\
                12\teth1      :     3      V3\n\t\t\t\tFAFFFFEF     1 0:00000000\t\t0\n\
                \t\t\t\t010C36E9     2 1:00000010\t\t1\n\t\t\t\t010000E0     1 0:00000000\t\t0\n";
    let words = |groups: Vec<_>| groups.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(words(groups4(igmp, 12)), ["239.255.255.250", "233.54.12.1", "224.0.0.1"]);
    assert_eq!((words(groups4(igmp, 1)).len(), groups4(igmp, 2)), (1, vec![]));
    let igmp6 = "1    lo              ff020000000000000000000000000001     1 0000000C 0\n\
                 12   eth1            ff1e0000000000000000000000000007     1 00000004 0\n\
                 12   eth1            ff010000000000000000000000000001     1 00000008 0\n";
    let groups = groups6(igmp6, 12);
    assert_eq!(words(groups.clone()), ["ff1e::7", "ff01::1"]);
    assert_eq!(groups.into_iter().map(is_of_link).collect::<Vec<_>>(), [false, true]);
}

#[test]
fn foreign_groups_are_named_and_counted() {
    let groups: Vec<_> = (1..=5).map(|last| std::net::IpAddr::from([239, 1, 1, last])).collect();
    assert_eq!(foreign_groups("eth1", &[]), None);
    let told = foreign_groups("eth1", &groups[..1]).unwrap();
    assert!(told.contains("no feed: 239.1.1.1; "), "{told}");
    let told = foreign_groups("eth1", &groups).unwrap();
    assert!(told.contains("239.1.1.1, 239.1.1.2, 239.1.1.3 and 2 more"), "{told}");
}
