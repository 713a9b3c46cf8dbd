//! Rules and tests: every selector becomes an address set, each distinct one once.

use std::collections::HashMap;

use super::postures::{FilterId, Postures};
use super::sets::{Place, Sets, Side, Unresolved};
use super::{Block, Rule, Ruleset, Selected, SelectorId, ServiceId, Test, TestTarget};
use crate::Dialect;
use crate::address::AddressSet;
use crate::diagnostic::{Diagnostic, Findings, Location};
use crate::inventory::{Inventory, Network};
use crate::policy::posture::Attributes;
use crate::policy::{self, Action, Autogroup, Policy, Section, Selector};
use crate::service::Service;
use crate::source::{Span, Spanned};

struct Resolver<'a> {
    policy: &'a Policy,
    sets: Sets<'a>,
    postures: Postures<'a>,
    inventory: &'a Inventory,
    known: HashMap<Key, Result<SelectorId, Unresolved>>,
    selectors: Vec<Selected>,
    services: Vec<Service>,
    known_services: HashMap<Service, ServiceId>,
    findings: &'a mut Findings,
}

/// What tells one resolved selector from another.
#[derive(PartialEq, Eq, Hash)]
struct Key {
    selector: Selector,
    /// For those that mean different things in different places.
    place: Option<Place>,
    /// Cut down to devices of a posture.
    filter: Option<FilterId>,
    /// Cut down to what a router routes: its index among the inventory's nodes.
    via: Option<u32>,
}

pub(super) fn resolve(
    policy: &Policy,
    inventory: &Inventory,
    dialect: Dialect,
    network: Network,
    findings: &mut Findings,
) -> Ruleset {
    let mut resolver = Resolver {
        policy,
        sets: Sets::new(policy, inventory, dialect, network),
        postures: Postures::new(policy, dialect),
        inventory,
        known: HashMap::new(),
        selectors: Vec::new(),
        services: Vec::new(),
        known_services: HashMap::new(),
        findings,
    };
    resolver.group_members();
    resolver.default_posture();
    let rules = resolver.rules(None);
    let mut assumed: Vec<(Attributes, Vec<Rule>)> = Vec::new();
    let mut tests = Vec::new();
    for test in &policy.tests {
        let assumption = test.attributes.as_ref().map(|attributes| {
            let known = assumed.iter().position(|(known, _)| known == attributes);
            known.unwrap_or_else(|| {
                assumed.push((attributes.clone(), resolver.rules(Some(attributes))));
                assumed.len() - 1
            })
        });
        tests.extend(resolver.test(test, assumption));
    }
    let assumed = assumed.into_iter().map(|(_, rules)| rules).collect();
    let (selectors, services) = (resolver.selectors, resolver.services);
    Ruleset { rules, selectors, services, tests, assumed, network, dialect }
}

impl Resolver<'_> {
    /// A login that the inventory's list of users does not have is a mistake, in our dialect.
    fn group_members(&mut self) {
        let policy = self.policy;
        for member in policy.groups.iter().flat_map(|(_, members)| members) {
            if let Some(unresolved) = self.sets.unknown_user(&member.value) {
                self.complain(member.span, unresolved);
            }
        }
    }

    /// Postures that every rule without its own asks for must exist.
    fn default_posture(&mut self) {
        let policy = self.policy;
        for name in &policy.default_posture {
            if let Some(unresolved) = self.postures.unknown(&name.value) {
                self.complain(name.span, unresolved);
            }
        }
    }

    fn complain(&mut self, span: Span, unresolved: Unresolved) {
        let error = Diagnostic::error(&self.policy.source, span, unresolved.message);
        self.findings.push(error.maybe_help(unresolved.help));
    }

    /// The rules; `assumed` says what every source's device is taken to be, for a test.
    fn rules(&mut self, assumed: Option<&Attributes>) -> Vec<Rule> {
        let policy = self.policy;
        let absent = policy.acls.is_none() && policy.grants.is_none();
        if absent && self.sets.dialect == Dialect::Tailscale {
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
            let blocks = self.blocks(rule, assumed);
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
        let mut select = |place| self.select(&Selector::Any, place, None).into_iter().collect::<Vec<_>>();
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
            blocks: vec![Block { sources, destinations, via: None }],
        }
    }

    fn blocks(&mut self, rule: &policy::Rule, assumed: Option<&Attributes>) -> Vec<Block> {
        let own = |destination: &&policy::Destination| {
            destination.selector.value == Selector::Autogroup(Autogroup::OwnDevices)
        };
        let (filter, known) = match self.filter(rule, assumed) {
            Ok(filter) => (filter, true),
            Err(()) => (None, false),
        };
        let mut blocks = Vec::new();
        let place = Place::source(rule.action);
        let sources: Vec<_> =
            rule.sources.iter().filter_map(|source| self.used(source, place, filter)).collect();
        if rule.via.is_empty() {
            let mut destinations = Vec::new();
            for destination in rule.destinations.iter().filter(|destination| !own(destination)) {
                if let Some(id) = self.used(&destination.selector, Place::destination(rule.action), None) {
                    destinations.extend(self.services(destination, rule.action).map(|service| (id, service)));
                }
            }
            blocks.push(Block { sources, destinations, via: None });
        } else {
            self.routed(rule, &sources, &mut blocks);
        }
        let own: Vec<_> = rule.destinations.iter().filter(own).collect();
        if !own.is_empty() {
            let services: Vec<_> =
                own.iter().flat_map(|own| self.services(own, rule.action).collect::<Vec<_>>()).collect();
            for login in self.own_users(rule) {
                let user = Selector::User(login);
                let (Ok(from), Ok(to)) = (self.select(&user, place, filter), self.select(&user, place, None))
                else {
                    continue;
                };
                let destinations = services.iter().map(|service| (to, *service)).collect();
                blocks.push(Block { sources: vec![from], destinations, via: None });
            }
        }
        // The other words of a rule are looked up all the same: their errors are said at once.
        blocks.retain(|block| known && !block.sources.is_empty() && !block.destinations.is_empty());
        blocks
    }

    /// The posture that the sources of a rule must have. An unknown one leaves no rule.
    fn filter(&mut self, rule: &policy::Rule, assumed: Option<&Attributes>) -> Result<Option<FilterId>, ()> {
        let wanted = match (rule.action, &rule.posture[..]) {
            (Action::Deny, _) => return Ok(None),
            (Action::Accept, []) => &self.policy.default_posture,
            (Action::Accept, _) => &rule.posture,
        };
        let unknown: Vec<_> =
            wanted.iter().filter_map(|name| Some((name.span, self.postures.unknown(&name.value)?))).collect();
        if unknown.is_empty() {
            return Ok(self.postures.filter(wanted, assumed, &self.sets.directory));
        }
        unknown.into_iter().for_each(|(span, unresolved)| self.complain(span, unresolved));
        Err(())
    }

    /// A grant with `via`: one block for each router, of what that router routes.
    fn routed(&mut self, rule: &policy::Rule, sources: &[SelectorId], blocks: &mut Vec<Block>) {
        for tag in &rule.via {
            if let Err(mut unresolved) = self.sets.tag(&tag.value) {
                unresolved.message = format!("tag \"{}\" not found", tag.value);
                self.complain(tag.span, unresolved);
            }
        }
        let tags: Vec<&str> = rule.via.iter().map(|tag| tag.value.as_str()).collect();
        for destination in &rule.destinations {
            // An unknown name is an error here as everywhere.
            self.used(&destination.selector, Place::destination(rule.action), None);
            if !by_address(&destination.selector.value) {
                let message = format!(
                    "{}: via is about routed addresses only: nothing is admitted",
                    destination.selector.value
                );
                let warning = Diagnostic::warning(&self.policy.source, destination.selector.span, message);
                self.findings.push(warning.help("name a prefix, a host, an IP set or autogroup:internet"));
            }
        }
        for router in self.sets.directory.routers(&tags) {
            let mut destinations = Vec::new();
            for destination in rule.destinations.iter().filter(|to| by_address(&to.selector.value)) {
                if let Some(id) = self.through(&destination.selector.value, router) {
                    destinations.extend(self.services(destination, rule.action).map(|service| (id, service)));
                }
            }
            blocks.push(Block { sources: sources.to_vec(), destinations, via: Some(router) });
        }
    }

    /// What a router routes of a destination; `None` if nothing.
    fn through(&mut self, selector: &Selector, router: u32) -> Option<SelectorId> {
        let key = Key { selector: selector.clone(), place: None, filter: None, via: Some(router) };
        if let Some(known) = self.known.get(&key) {
            return known.clone().ok();
        }
        let node = &self.inventory.nodes[router as usize];
        let exit = *selector == Selector::Autogroup(Autogroup::Internet);
        let routes = node.routes.iter().filter(|route| (route.prefix_len() == 0) == exit);
        let routes = AddressSet::from_prefixes(routes);
        let set = self.sets.set(selector, Place::destination(Action::Accept)).ok()?.intersection(&routes);
        if set.is_empty() {
            return None;
        }
        let id = self.push(format!("{selector} via {}", node.name), set);
        self.known.insert(key, Ok(id));
        Some(id)
    }

    /// The users whose devices a rule to `autogroup:self` joins.
    fn own_users(&mut self, rule: &policy::Rule) -> Vec<String> {
        let mut logins = Vec::new();
        for source in &rule.sources {
            match &source.value {
                Selector::Any if rule.section == Section::Grants => self.no_own_devices(source),
                Selector::Any | Selector::Autogroup(Autogroup::Member) => {
                    logins.extend(self.sets.directory.logins().map(str::to_string));
                }
                Selector::User(login) => logins.push(login.clone()),
                Selector::Group(group) => logins.extend_from_slice(self.sets.members(group)),
                Selector::Domain(domain) => {
                    logins.extend(self.sets.directory.domain(domain).into_iter().map(str::to_string));
                }
                Selector::Autogroup(Autogroup::Role(role)) => {
                    logins.extend(self.sets.directory.holders(role).iter().map(|login| login.to_string()));
                }
                _ => self.no_own_devices(source),
            }
        }
        logins.sort_unstable();
        logins.dedup();
        logins
    }

    fn no_own_devices(&mut self, source: &Spanned<Selector>) {
        let message = "autogroup:self can only be used with users, groups, or supported autogroups".into();
        let help = Some("give tagged devices and addresses a rule of their own".into());
        self.complain(source.span, Unresolved { message, help });
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
    fn used(
        &mut self,
        selector: &Spanned<Selector>,
        place: Place,
        filter: Option<FilterId>,
    ) -> Option<SelectorId> {
        match self.select(&selector.value, place, filter) {
            Ok(id) => {
                if self.selectors[id.0 as usize].set.is_empty() {
                    self.empty(selector, place, filter);
                }
                Some(id)
            }
            Err(mut unresolved) => {
                if self.sets.dialect == Dialect::Tailscale && unresolved.message.contains("not found") {
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

    fn empty(&mut self, selector: &Spanned<Selector>, place: Place, filter: Option<FilterId>) {
        let message = match filter {
            // What a test assumes is nobody's fault.
            Some(filter) if self.postures.is_assumed(filter) => return,
            Some(filter) if self.sets.set(&selector.value, place).is_ok_and(|set| !set.is_empty()) => {
                format!("no device of {} meets {}", selector.value, self.postures.label(filter))
            }
            _ => format!("{} matches nobody in the inventory", selector.value),
        };
        self.findings.push(Diagnostic::warning(&self.policy.source, selector.span, message));
    }

    fn select(
        &mut self,
        selector: &Selector,
        place: Place,
        filter: Option<FilterId>,
    ) -> Result<SelectorId, Unresolved> {
        let placed = matches!(selector, Selector::Any | Selector::Autogroup(_));
        let key = Key { selector: selector.clone(), place: placed.then_some(place), filter, via: None };
        if let Some(known) = self.known.get(&key) {
            return known.clone();
        }
        let result = self.sets.set(selector, place).map(|set| match filter {
            None => self.push(selector.to_string(), set),
            Some(filter) => {
                let label = format!("{selector} ({})", self.postures.label(filter));
                self.push(label, self.postures.narrow(filter, &set))
            }
        });
        self.known.insert(key, result.clone());
        result
    }

    fn push(&mut self, label: String, set: AddressSet) -> SelectorId {
        self.selectors.push(Selected { label, set });
        SelectorId(self.selectors.len() as u32 - 1)
    }

    fn test(&mut self, test: &policy::Test, assumed: Option<usize>) -> Option<Test> {
        let source = self.used(&test.source, Place::source(Action::Accept), None);
        let mut targets = Vec::new();
        for (admitted, list) in [(true, &test.accept), (false, &test.deny)] {
            for target in list {
                if let Some(destination) =
                    self.used(&target.selector, Place::destination(Action::Accept), None)
                {
                    let location = Location::new(&self.policy.source, target.selector.span);
                    targets.push(TestTarget { destination, port: target.port, admitted, location });
                }
            }
        }
        let location = Location::new(&self.policy.source, test.span);
        Some(Test { location, source: source?, assumed, protocol: test.protocol, targets })
    }
}

/// Whether a destination is one that routers route, whoever holds it.
fn by_address(selector: &Selector) -> bool {
    matches!(
        selector,
        Selector::Prefix(_)
            | Selector::Host(_)
            | Selector::IpSet(_)
            | Selector::Autogroup(Autogroup::Internet)
    )
}
