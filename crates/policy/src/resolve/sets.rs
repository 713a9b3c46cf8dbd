//! Selectors → address sets.

use std::collections::HashMap;

use super::directory::Directory;
use super::ipsets::{self, internet};
use crate::Dialect;
use crate::address::AddressSet;
use crate::frontend::inventory::{Inventory, Network};
use crate::frontend::policy::ipset::Target;
use crate::frontend::policy::{Action, Autogroup, Policy, Selector};
use crate::suggest;

/// Which side of a rule a selector stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Side {
    Source,
    Destination,
}

/// Where a selector stands: `*` means different things on the two sides, and in a deny.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub(super) side: Side,
    pub(super) action: Action,
}

impl Place {
    pub(super) fn source(action: Action) -> Self {
        Self { side: Side::Source, action }
    }

    pub(super) fn destination(action: Action) -> Self {
        Self { side: Side::Destination, action }
    }
}

/// A selector that means nothing: why, and what to do.
#[derive(Clone)]
pub(super) struct Unresolved {
    pub(super) message: String,
    pub(super) help: Option<String>,
}

/// The names that a policy defines, over an inventory.
pub(super) struct Sets<'a> {
    pub(super) directory: Directory<'a>,
    pub(super) dialect: Dialect,
    /// Members of each group, in small letters.
    groups: HashMap<&'a str, Vec<String>>,
    hosts: HashMap<&'a str, ipnet::IpNet>,
    tags: Vec<&'a str>,
    ipsets: HashMap<&'a str, AddressSet>,
}

/// Tailscale's ranges for `*` as a source: 100.64.0.0/10 without the part that ChromeOS
/// uses, and its IPv6 range.
fn tailscale_ranges() -> AddressSet {
    let nets = |texts: &[&str]| {
        let nets: Vec<ipnet::IpNet> = texts.iter().filter_map(|text| text.parse().ok()).collect();
        AddressSet::from_prefixes(&nets)
    };
    nets(&["100.64.0.0/10", "fd7a:115c:a1e0::/48"]).minus(&nets(&["100.115.92.0/23"]))
}

impl<'a> Sets<'a> {
    pub(super) fn new(
        policy: &'a Policy,
        inventory: &'a Inventory,
        dialect: Dialect,
        network: Network,
    ) -> Self {
        let members = policy.groups.iter().map(|(name, members)| {
            (name.value.as_str(), members.iter().map(|member| member.value.to_lowercase()).collect())
        });
        let mut sets = Self {
            directory: Directory::new(inventory, network),
            dialect,
            groups: members.collect(),
            hosts: policy.hosts.iter().map(|(name, net)| (name.value.as_str(), *net)).collect(),
            tags: policy.tag_owners.iter().map(|(name, _)| name.value.as_str()).collect(),
            ipsets: ipsets::ipsets(policy),
        };
        sets.tags.sort_unstable();
        sets
    }

    /// What a step of an IP set is about.
    pub(super) fn target(&self, target: &Target) -> Option<AddressSet> {
        ipsets::target(target, &self.hosts, &self.ipsets)
    }

    /// A group's members, in small letters.
    pub(super) fn members(&self, group: &str) -> &[String] {
        self.groups.get(group).map_or(&[], Vec::as_slice)
    }

    /// Whether a tag is defined; if not, what to say.
    pub(super) fn tag(&self, name: &str) -> Result<(), Unresolved> {
        if self.tags.binary_search(&name).is_ok() {
            return Ok(());
        }
        let help = suggest::did_you_mean(name, self.tags.iter().copied())
            .unwrap_or_else(|| "name its owners in tagOwners".into());
        Err(Unresolved { message: format!("tag not found: \"{name}\""), help: Some(help) })
    }

    /// What only Tailscale knows: a service, or a group that it synchronises from elsewhere. Nobody here
    /// knows who that is.
    pub(super) fn is_foreign(&self, selector: &Selector) -> bool {
        match selector {
            Selector::Service(_) => true,
            Selector::Group(name) => name.contains('@') && !self.groups.contains_key(name.as_str()),
            _ => false,
        }
    }

    /// Whom a selector means at its place. Who never starts is no source, whatever it is named by; a deny
    /// means it all the same.
    pub(super) fn set(&self, selector: &Selector, place: Place) -> Result<AddressSet, Unresolved> {
        let set = self.meant(selector, place)?;
        let jailed = self.directory.jailed();
        let starts = place == Place::source(Action::Accept) && !jailed.is_empty();
        Ok(if starts { set.minus(jailed) } else { set })
    }

    fn meant(&self, selector: &Selector, place: Place) -> Result<AddressSet, Unresolved> {
        let not_found = |kind: &str, name: &str, help: Option<String>| Unresolved {
            message: format!("{kind} not found: \"{name}\""),
            help,
        };
        Ok(match selector {
            Selector::Any => self.everyone(place),
            Selector::AnyTag => self.directory.tagged(),
            Selector::Tag(name) => {
                self.tag(name)?;
                self.directory.tag(name)
            }
            Selector::Group(name) => match self.groups.get(name.as_str()) {
                Some(members) => self.directory.users(members.iter().map(String::as_str)),
                None => {
                    let help = suggest::did_you_mean(name, self.groups.keys().copied())
                        .unwrap_or_else(|| "name its members in groups".into());
                    return Err(not_found("group", name, Some(help)));
                }
            },
            Selector::User(login) => self.directory.users([login.as_str()]),
            Selector::Service(name) => return Err(not_found("service", name, None)),
            Selector::Domain(domain) => self.directory.users(self.directory.domain(domain)),
            Selector::IpSet(name) => match self.ipsets.get(name.as_str()) {
                Some(set) => set.clone(),
                None => {
                    let help = suggest::did_you_mean(name, self.ipsets.keys().copied())
                        .unwrap_or_else(|| "name what is in it in ipsets".into());
                    return Err(not_found("ipset", name, Some(help)));
                }
            },
            Selector::Autogroup(autogroup) => self.autogroup(*autogroup, place.side)?,
            Selector::Spiffe(pattern) => {
                self.directory.devices(|node| node.spiffe().is_some_and(|id| pattern.holds(id)))
            }
            Selector::Prefix(net) => AddressSet::from_prefixes([net]),
            Selector::Host(name) => match self.hosts.get(name.as_str()) {
                Some(net) => AddressSet::from_prefixes([net]),
                None => return Err(not_found("host", name, self.host_help(name))),
            },
        })
    }

    fn host_help(&self, name: &str) -> Option<String> {
        let tag = format!("tag:{name}");
        let group = format!("group:{name}");
        if self.tag(&tag).is_ok() {
            return Some(format!("did you mean \"{tag}\"?"));
        }
        if self.groups.contains_key(group.as_str()) {
            return Some(format!("did you mean \"{group}\"?"));
        }
        let known = suggest::did_you_mean(name, self.hosts.keys().copied());
        known.or_else(|| Some("name its address in hosts".into()))
    }

    /// `*`. To admit, in our dialect: whoever the inventory knows, and what they route; a route
    /// to everything (an exit node) makes nobody a source. To deny: every address, so that no
    /// later rule about a prefix admits past it somebody whom the inventory does not know.
    fn everyone(&self, Place { side, action }: Place) -> AddressSet {
        match (self.dialect, side, action) {
            (_, _, Action::Deny) | (Dialect::Tailscale, Side::Destination, _) => AddressSet::all(),
            (Dialect::Bulkhead, Side::Source, _) => {
                self.directory.everyone().union(&self.directory.sources())
            }
            (Dialect::Bulkhead, Side::Destination, _) => {
                self.directory.everyone().union(&self.directory.routes())
            }
            (Dialect::Tailscale, Side::Source, _) => tailscale_ranges().union(&self.directory.sources()),
        }
    }

    fn autogroup(&self, autogroup: Autogroup, side: Side) -> Result<AddressSet, Unresolved> {
        let refused = |side: &str| Unresolved {
            message: format!("\"{}\" not valid on the {side} side of a rule", autogroup.name()),
            help: None,
        };
        Ok(match (autogroup, side) {
            (Autogroup::Member, _) => self.directory.members(),
            (Autogroup::Tagged, _) => self.directory.tagged(),
            (Autogroup::Role(role), _) => self.directory.users(self.directory.holders(role).iter().copied()),
            (Autogroup::Internet, Side::Destination) => internet(),
            (Autogroup::DangerAll, Side::Source) => AddressSet::all(),
            (Autogroup::OwnDevices | Autogroup::Internet, Side::Source) => return Err(refused("src")),
            (Autogroup::OwnDevices, Side::Destination) => return Err(refused("dst")),
            (Autogroup::DangerAll, Side::Destination) => {
                return Err(Unresolved {
                    message: "cannot use autogroup:danger-all as a dst".into(),
                    help: None,
                });
            }
        })
    }
}
