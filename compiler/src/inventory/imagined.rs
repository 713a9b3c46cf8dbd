//! An inventory for a policy that is checked without one.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Inventory, Node, Owner};
use crate::policy::{Policy, Selector};
use crate::source::{Source, Span};

/// One node for each tag and each user that the policy names.
#[must_use]
pub fn imagined(policy: &Policy) -> Inventory {
    let tags = policy.tag_owners.iter().map(|(tag, _)| Owner::Tags(vec![tag.value.clone()]));
    let rules = policy.acls.iter().chain(&policy.grants).flatten();
    let in_rules = rules.flat_map(|rule| {
        rule.sources.iter().chain(rule.destinations.iter().map(|destination| &destination.selector))
    });
    let in_tests = policy.tests.iter().flat_map(|test| {
        let targets = test.accept.iter().chain(&test.deny).map(|target| &target.selector);
        std::iter::once(&test.source).chain(targets)
    });
    let in_venues = policy.venues.iter().flat_map(|venue| venue.feeds.iter().chain(&venue.sessions));
    let in_venues = in_venues.flat_map(|lane| &lane.ours);
    let named = in_rules.chain(in_tests).chain(in_venues).filter_map(|selector| match &selector.value {
        Selector::User(login) => Some(login.clone()),
        _ => None,
    });
    let members = policy.groups.iter().flat_map(|(_, members)| members).map(|member| member.value.clone());
    let users: BTreeSet<String> = named.chain(members).collect();
    let owners = tags.chain(users.into_iter().map(Owner::User));
    let nodes = (1u32..).zip(owners).map(|(number, owner)| {
        let name = match &owner {
            Owner::User(login) => login.clone(),
            Owner::Tags(tags) => tags.join("+"),
        };
        let v4 = Ipv4Addr::from_bits((0x6440_0000) | (number & 0x003f_ffff));
        let v6 = Ipv6Addr::from_bits((0xfd7a_115c_a1e0 << 80) | u128::from(number));
        Node {
            name,
            key: None,
            addresses: vec![IpAddr::V4(v4), IpAddr::V6(v6)],
            underlay: Vec::new(),
            routes: Vec::new(),
            owner,
            posture: serde_json::Map::new(),
            expires: None,
            span: Span::default(),
        }
    });
    Inventory::new(Source::new("(imagined inventory)", ""), nodes.collect(), None)
}
