//! acls and grants → rules.

use super::postures::FilterId;
use super::resolver::Resolver;
use super::sets::{Place, Unresolved};
use super::{Block, Rule};
use crate::Dialect;
use crate::frontend::diagnostic::{Diagnostic, Location};
use crate::frontend::policy::posture::Attributes;
use crate::frontend::policy::{self, Action, Autogroup, Section, Selector};
use crate::frontend::source::{Span, Spanned};
use crate::service::Service;

impl Resolver<'_> {
    /// The rules; `assumed` says what every source's device is taken to be, for a test.
    pub(super) fn rules(&mut self, assumed: Option<&Attributes>) -> Vec<Rule> {
        let policy = self.policy;
        let absent = policy.acls.is_none() && policy.grants.is_none();
        if let (true, Some(section)) = (absent, policy.not_understood.first()) {
            let message = format!("neither acls nor grants, and nobody here knows \"{}\"", section.value);
            let help = Some("write \"acls\": [] to deny everything, or remove the section".into());
            self.complain(section.span, Unresolved { message, help });
            return Vec::new();
        }
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
                rates: rule.rates,
                one_way: false,
                tls: rule.tls,
                record: rule.record.clone(),
                grant: None,
                venue: None,
                is_session: false,
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
        let blocks = vec![Block { sources, destinations, via: None }];
        Rule { blocks, ..Rule::plain(1, Section::Acls, Action::Accept) }
    }

    pub(super) fn blocks(&mut self, rule: &policy::Rule, assumed: Option<&Attributes>) -> Vec<Block> {
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
        logins.retain(|login| !self.sets.directory.is_outsider(login));
        logins.sort_unstable();
        logins.dedup();
        logins
    }

    fn no_own_devices(&mut self, source: &Spanned<Selector>) {
        let message = "autogroup:self can only be used with users, groups, or supported autogroups".into();
        let help = Some("give tagged devices and addresses a rule of their own".into());
        self.complain(source.span, Unresolved { message, help });
    }
}
