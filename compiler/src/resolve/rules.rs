//! Rules and tests: every selector becomes an address set, each distinct one once.

use std::collections::HashMap;

use super::directory::Directory;
use super::{Block, Rule, Ruleset, Selected, SelectorId, ServiceId, Test, TestTarget};
use crate::Dialect;
use crate::address::AddressSet;
use crate::diagnostic::{Diagnostic, Findings, Location};
use crate::inventory::{Inventory, Network};
use crate::policy::{self, Action, Autogroup, Policy, Section, Selector};
use crate::service::Service;
use crate::source::{Span, Spanned};
use crate::suggest;

/// Which side of a rule a selector stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Side {
    Source,
    Destination,
}

/// Where a selector stands: `*` means different things on the two sides, and in a deny.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Place {
    side: Side,
    action: Action,
}

impl Place {
    fn source(action: Action) -> Self {
        Self { side: Side::Source, action }
    }

    fn destination(action: Action) -> Self {
        Self { side: Side::Destination, action }
    }
}

/// A selector that means nothing: why, and what to do.
#[derive(Clone)]
struct Unresolved {
    message: String,
    help: Option<String>,
}

struct Resolver<'a> {
    policy: &'a Policy,
    directory: Directory<'a>,
    dialect: Dialect,
    groups: HashMap<&'a str, Vec<&'a str>>,
    hosts: HashMap<&'a str, ipnet::IpNet>,
    tags: HashMap<&'a str, Span>,
    known: HashMap<(Selector, Option<Place>), Result<SelectorId, Unresolved>>,
    selectors: Vec<Selected>,
    services: Vec<Service>,
    known_services: HashMap<Service, ServiceId>,
    findings: &'a mut Findings,
}

pub(super) fn resolve(
    policy: &Policy,
    inventory: &Inventory,
    dialect: Dialect,
    network: Network,
    findings: &mut Findings,
) -> Ruleset {
    let members = policy.groups.iter().map(|(name, members)| {
        (name.value.as_str(), members.iter().map(|member| member.value.as_str()).collect())
    });
    let mut resolver = Resolver {
        policy,
        directory: Directory::new(inventory, network),
        dialect,
        groups: members.collect(),
        hosts: policy.hosts.iter().map(|(name, net)| (name.value.as_str(), *net)).collect(),
        tags: policy.tag_owners.iter().map(|(name, _)| (name.value.as_str(), name.span)).collect(),
        known: HashMap::new(),
        selectors: Vec::new(),
        services: Vec::new(),
        known_services: HashMap::new(),
        findings,
    };
    resolver.group_members();
    let rules = resolver.rules();
    let tests = policy.tests.iter().filter_map(|test| resolver.test(test)).collect();
    Ruleset { rules, selectors: resolver.selectors, services: resolver.services, tests, network }
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

/// What `autogroup:internet` means: everything that is not private, shared or link-local.
fn internet() -> AddressSet {
    let nets = |texts: &[&str]| {
        let nets: Vec<ipnet::IpNet> = texts.iter().filter_map(|text| text.parse().ok()).collect();
        AddressSet::from_prefixes(&nets)
    };
    let private = ["10.0.0.0/8", "100.64.0.0/10", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"];
    nets(&["0.0.0.0/0", "2000::/3"]).minus(&nets(&private))
}

impl Resolver<'_> {
    /// A login that the inventory's list of users does not have is a mistake, in our dialect.
    fn group_members(&mut self) {
        let policy = self.policy;
        for member in policy.groups.iter().flat_map(|(_, members)| members) {
            if let Some(unresolved) = self.unknown_user(&member.value) {
                self.complain(member.span, unresolved);
            }
        }
    }

    fn unknown_user(&self, login: &str) -> Option<Unresolved> {
        let checked = self.dialect == Dialect::Bulkhead && self.directory.lists_users();
        (checked && login.contains('@') && !self.directory.knows(login)).then(|| Unresolved {
            message: format!("user not found: \"{login}\""),
            help: suggest::did_you_mean(login, self.directory.logins())
                .or_else(|| Some("add the user to the inventory's users".into())),
        })
    }

    fn complain(&mut self, span: Span, unresolved: Unresolved) {
        let error = Diagnostic::error(&self.policy.source, span, unresolved.message);
        self.findings.push(error.maybe_help(unresolved.help));
    }

    fn rules(&mut self) -> Vec<Rule> {
        let policy = self.policy;
        let absent = policy.acls.is_none() && policy.grants.is_none();
        if absent && self.dialect == Dialect::Tailscale {
            return vec![self.allow_all()];
        }
        if absent {
            let error = Diagnostic::error(
                &policy.source,
                Span::default(),
                "the policy has neither \"acls\" nor \"grants\"",
            );
            self.findings.push(error.help("write \"acls\": [] to deny everything"));
        }
        let acls = policy.acls.iter().flatten().map(|rule| (Section::Acls, rule));
        let grants = policy.grants.iter().flatten().map(|rule| (Section::Grants, rule));
        let mut rules = Vec::new();
        for (section, rule) in acls.chain(grants) {
            let number = rules.len() as u32 + 1;
            let blocks = self.blocks(rule);
            rules.push(Rule {
                number,
                section,
                action: rule.action,
                name: rule.name.as_ref().map(|name| name.value.clone()),
                location: Some(Location::new(&policy.source, rule.span)),
                expires: rule.expires.as_ref().map(|time| time.value),
                blocks,
            });
        }
        rules
    }

    /// What Tailscale puts in place of absent rules.
    fn allow_all(&mut self) -> Rule {
        let warning = Diagnostic::warning(
            &self.policy.source,
            Span::default(),
            "neither acls nor grants: everything is allowed, as Tailscale does",
        );
        self.findings.push(warning);
        let mut select = |place| self.select(&Selector::Any, place).into_iter().collect::<Vec<_>>();
        let (sources, destinations) =
            (select(Place::source(Action::Accept)), select(Place::destination(Action::Accept)));
        let service = self.service(Service::new(None, crate::interval::Intervals::all(), false));
        let destinations = destinations.into_iter().map(|id| (id, service)).collect();
        Rule {
            number: 1,
            section: Section::Acls,
            action: Action::Accept,
            name: None,
            location: None,
            expires: None,
            blocks: vec![Block { sources, destinations }],
        }
    }

    fn blocks(&mut self, rule: &policy::Rule) -> Vec<Block> {
        let own = |destination: &&policy::Destination| {
            destination.selector.value == Selector::Autogroup(Autogroup::OwnDevices)
        };
        let mut blocks = Vec::new();
        let sources: Vec<_> =
            rule.sources.iter().filter_map(|source| self.used(source, Place::source(rule.action))).collect();
        let mut destinations = Vec::new();
        for destination in rule.destinations.iter().filter(|destination| !own(destination)) {
            if let Some(id) = self.used(&destination.selector, Place::destination(rule.action)) {
                destinations.extend(self.services(destination, rule.action).map(|service| (id, service)));
            }
        }
        if !sources.is_empty() && !destinations.is_empty() {
            blocks.push(Block { sources, destinations });
        }
        let own: Vec<_> = rule.destinations.iter().filter(own).collect();
        if !own.is_empty() {
            let services: Vec<_> =
                own.iter().flat_map(|own| self.services(own, rule.action).collect::<Vec<_>>()).collect();
            for login in self.own_users(rule) {
                let Ok(user) = self.select(&Selector::User(login), Place::source(rule.action)) else {
                    continue;
                };
                let destinations = services.iter().map(|service| (user, *service)).collect();
                blocks.push(Block { sources: vec![user], destinations });
            }
        }
        blocks
    }

    /// The users whose devices a rule to `autogroup:self` joins.
    fn own_users(&mut self, rule: &policy::Rule) -> Vec<String> {
        let mut logins = Vec::new();
        for source in &rule.sources {
            match &source.value {
                Selector::Any | Selector::Autogroup(Autogroup::Member) => {
                    logins.extend(self.directory.logins().map(str::to_string));
                }
                Selector::User(login) => logins.push(login.clone()),
                Selector::Group(group) => {
                    let members = self.groups.get(group.as_str()).into_iter().flatten();
                    logins.extend(members.map(|login| login.to_string()));
                }
                Selector::Autogroup(Autogroup::Role(role)) => {
                    logins.extend(self.directory.holders(role).iter().map(|login| login.to_string()));
                }
                _ => {
                    let message =
                        "autogroup:self can only be used with users, groups, or supported autogroups";
                    let help = "give tagged devices and addresses a rule of their own";
                    self.complain(
                        source.span,
                        Unresolved { message: message.into(), help: Some(help.into()) },
                    );
                }
            }
        }
        logins.sort_unstable();
        logins.dedup();
        logins
    }

    fn services<'s>(
        &'s mut self,
        destination: &'s policy::Destination,
        action: Action,
    ) -> impl Iterator<Item = ServiceId> + 's {
        let services = destination.services.iter();
        services.map(move |(protocol, ports)| {
            self.service(Service::new(*protocol, ports.clone(), action == Action::Deny))
        })
    }

    fn service(&mut self, service: Service) -> ServiceId {
        if let Some(id) = self.known_services.get(&service) {
            return *id;
        }
        let id = ServiceId(self.services.len() as u32);
        self.services.push(service.clone());
        self.known_services.insert(service, id);
        id
    }

    /// A selector at its place in a rule: an unknown one is an error there, an empty one a warning.
    fn used(&mut self, selector: &Spanned<Selector>, place: Place) -> Option<SelectorId> {
        match self.select(&selector.value, place) {
            Ok(id) => {
                if self.selectors[id.0 as usize].set.is_empty() {
                    let message = format!("{} matches nobody in the inventory", selector.value);
                    self.findings.push(Diagnostic::warning(&self.policy.source, selector.span, message));
                }
                Some(id)
            }
            Err(mut unresolved) => {
                if self.dialect == Dialect::Tailscale && unresolved.message.contains("not found") {
                    let before = match place.side {
                        Side::Source => "src=".to_string(),
                        Side::Destination => format!("dst=\"{}\": ", selector.value),
                    };
                    unresolved.message.insert_str(0, &before);
                }
                self.complain(selector.span, unresolved);
                None
            }
        }
    }

    fn select(&mut self, selector: &Selector, place: Place) -> Result<SelectorId, Unresolved> {
        // Only these mean different things in different places.
        let placed = matches!(selector, Selector::Any | Selector::Autogroup(_));
        let key = (selector.clone(), placed.then_some(place));
        if let Some(known) = self.known.get(&key) {
            return known.clone();
        }
        let result = self.set(selector, place).map(|set| {
            self.selectors.push(Selected { label: selector.to_string(), set });
            SelectorId(self.selectors.len() as u32 - 1)
        });
        self.known.insert(key, result.clone());
        result
    }

    fn set(&self, selector: &Selector, place: Place) -> Result<AddressSet, Unresolved> {
        let not_found = |kind: &str, name: &str, help: Option<String>| Unresolved {
            message: format!("{kind} not found: \"{name}\""),
            help,
        };
        Ok(match selector {
            Selector::Any => self.everyone(place),
            Selector::AnyTag => self.directory.tagged(),
            Selector::Tag(name) => {
                if !self.tags.contains_key(name.as_str()) {
                    let help = suggest::did_you_mean(name, self.tags.keys().copied())
                        .unwrap_or_else(|| "name its owners in tagOwners".into());
                    return Err(not_found("tag", name, Some(help)));
                }
                self.directory.tag(name)
            }
            Selector::Group(name) => match self.groups.get(name.as_str()) {
                Some(members) => self.directory.users(members.iter().copied()),
                None => {
                    let help = suggest::did_you_mean(name, self.groups.keys().copied())
                        .unwrap_or_else(|| "name its members in groups".into());
                    return Err(not_found("group", name, Some(help)));
                }
            },
            Selector::User(login) => match self.unknown_user(login) {
                Some(unresolved) => return Err(unresolved),
                None => self.directory.users([login.as_str()]),
            },
            Selector::Autogroup(autogroup) => self.autogroup(*autogroup, place.side)?,
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
        if self.tags.contains_key(tag.as_str()) {
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
                self.directory.everyone().union(&self.directory.routes(false))
            }
            (Dialect::Bulkhead, Side::Destination, _) => {
                self.directory.everyone().union(&self.directory.routes(true))
            }
            (Dialect::Tailscale, Side::Source, _) => tailscale_ranges().union(&self.directory.routes(false)),
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
            (Autogroup::OwnDevices | Autogroup::DangerAll, Side::Destination) => return Err(refused("dst")),
        })
    }

    fn test(&mut self, test: &policy::Test) -> Option<Test> {
        let source = self.used(&test.source, Place::source(Action::Accept));
        let mut targets = Vec::new();
        for (admitted, list) in [(true, &test.accept), (false, &test.deny)] {
            for target in list {
                if let Some(destination) = self.used(&target.selector, Place::destination(Action::Accept)) {
                    let location = Location::new(&self.policy.source, target.selector.span);
                    targets.push(TestTarget { destination, port: target.port, admitted, location });
                }
            }
        }
        let location = Location::new(&self.policy.source, test.span);
        Some(Test { location, source: source?, protocol: test.protocol, targets })
    }
}
