//! Rules that no packet can meet, whatever the inventory: what is admitted is unicast, and each family
//! has an ICMP of its own.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::address::AddressSet;
use crate::frontend::diagnostic::{Diagnostic, Findings};
use crate::frontend::policy::{Action, Destination, Policy};
use crate::resolve::Ruleset;
use crate::service::{ICMP, ICMPV6, name_of};

const IGMP: u8 = 2;
const OSPF: u8 = 89;
const PIM: u8 = 103;
const VRRP: u8 = 112;

/// Warns of each destination of an accept at which nothing, or less than it says, is admitted.
pub(crate) fn check(policy: &Policy, ruleset: &Ruleset, findings: &mut Findings) {
    let rules = policy.acls.iter().chain(&policy.grants).flatten();
    for rule in rules.filter(|rule| rule.action == Action::Accept) {
        for destination in &rule.destinations {
            for (message, help) in wrong(destination, ruleset) {
                let warning = Diagnostic::warning(&policy.source, destination.selector.span, message);
                findings.push(warning.help(help));
            }
        }
    }
}

fn multicast() -> AddressSet {
    let v4 = Ipv4Net::new_assert(Ipv4Addr::new(224, 0, 0, 0), 4);
    let v6 = Ipv6Net::new_assert(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8);
    AddressSet::from_prefixes(&[IpNet::V4(v4), IpNet::V6(v6)])
}

/// What is wrong with a destination, and what to do.
fn wrong(destination: &Destination, ruleset: &Ruleset) -> Vec<(String, &'static str)> {
    let name = destination.selector.value.to_string();
    let set = ruleset.selectors.iter().find(|selected| selected.label == name).map(|selected| &selected.set);
    let set = set.filter(|set| !set.is_empty());
    if set.is_some_and(|set| set.minus(&multicast()).is_empty()) {
        let message = format!("{name} is multicast, which rules do not admit: no packet meets it");
        return vec![(message, "a venue's feed admits multicast: write its groups there")];
    }
    let mut all = Vec::new();
    for (protocol, _) in &destination.services {
        let Some(protocol) = *protocol else { continue };
        let word = name_of(protocol);
        match protocol {
            IGMP => all.push((
                "igmp goes to multicast groups, which rules do not admit: no packet meets it".into(),
                "membership reports of a feed's groups pass by themselves: remove it",
            )),
            OSPF | PIM | VRRP => all.push((
                format!("{word} is admitted by unicast only: what it sends to a group is dropped"),
                "name its neighbours in its configuration, or list it in the interface's link protocols",
            )),
            ICMP if set.is_some_and(|set| set.v4.is_empty()) => {
                all.push((
                    format!("{name} has IPv6 addresses only, and {word} is IPv4's"),
                    "write ipv6-icmp",
                ));
            }
            ICMPV6 if set.is_some_and(|set| set.v6.is_empty()) => {
                all.push((format!("{name} has IPv4 addresses only, and {word} is IPv6's"), "write icmp"));
            }
            _ => {}
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use crate::analysis::check::{Loaded, Scope};
    use crate::frontend::source::Source;

    fn told(to: &str, proto: &str) -> Vec<String> {
        let policy = format!(
            r#"{{"tagOwners": {{"tag:a": []}}, "hosts": {{"group-1": "233.54.12.1"}},
            "acls": [{{"action": "accept", "src": ["*"], "dst": ["{to}:*"]{proto}}}]}}"#
        );
        let inventory = r#"{"nodes": [{"name": "a", "addresses": ["100.64.0.1"], "tags": ["tag:a"]},
            {"name": "b", "addresses": ["100.64.0.2"], "tags": ["tag:a"]}]}"#;
        let inventory = Some(Source::new("i", inventory));
        let mut loaded = Loaded::new(Source::new("p", &policy), inventory, &Scope::default());
        loaded.check(0);
        loaded.findings.0.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_no_packet_meets_is_warned_of() {
        for (to, proto, wanted) in [
            ("224.0.0.18", "", "is multicast"),
            ("group-1", "", "is multicast"),
            ("ff02::/16", "", "is multicast"),
            ("tag:a", r#", "proto": "igmp""#, "igmp goes to multicast groups"),
            ("tag:a", r#", "proto": "vrrp""#, "vrrp is admitted by unicast only"),
            ("tag:a", r#", "proto": "ospf""#, "ospf is admitted by unicast only"),
            ("tag:a", r#", "proto": "ipv6-icmp""#, "has IPv4 addresses only"),
            ("fd7a::/48", r#", "proto": "icmp""#, "has IPv6 addresses only"),
        ] {
            let found = told(to, proto);
            let about = found.iter().filter(|text| text.starts_with("p:2:") && text.contains(wanted));
            assert_eq!(about.count(), 1, "{to} {proto}: {found:?}");
        }
        for (to, proto) in [("tag:a", ""), ("tag:a", r#", "proto": "icmp""#), ("0.0.0.0/0", "")] {
            assert_eq!(told(to, proto), [""; 0], "{to} {proto}");
        }
    }
}
