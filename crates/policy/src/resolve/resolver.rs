//! What resolving keeps: every selector becomes an address set, each distinct one once.

use std::collections::{HashMap, HashSet};

use super::absent::Absent;
use super::postures::{FilterId, Postures};
use super::sets::{Place, Sets, Side, Unresolved};
use super::{By, Narrowed, Selected, SelectorId, ServiceId};
use crate::Dialect;
use crate::address::AddressSet;
use crate::frontend::diagnostic::{Diagnostic, Findings, Severity};
use crate::frontend::inventory::{Inventory, Network};
use crate::frontend::policy::{self, Action, Autogroup, Policy, Selector};
use crate::frontend::source::{Span, Spanned};
use crate::service::Service;

pub(super) struct Resolver<'a> {
    pub(super) policy: &'a Policy,
    pub(super) sets: Sets<'a>,
    pub(super) postures: Postures<'a>,
    pub(super) inventory: &'a Inventory,
    pub(super) known: HashMap<Key, Result<SelectorId, Unresolved>>,
    pub(super) selectors: Vec<Selected>,
    pub(super) services: Vec<Service>,
    pub(super) known_services: HashMap<Service, ServiceId>,
    pub(super) findings: &'a mut Findings,
    /// Logins without a device.
    pub(super) absent: Absent,
    /// Selectors that were warned of, by what was said.
    said: HashSet<String>,
}

/// What tells one resolved selector from another.
#[derive(PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) selector: Selector,
    /// For those that mean different things in different places.
    pub(super) place: Option<Place>,
    /// Cut down to devices of a posture.
    pub(super) filter: Option<FilterId>,
    /// Cut down to what a router routes: its index among the inventory's nodes.
    pub(super) via: Option<u32>,
}

impl<'a> Resolver<'a> {
    pub(super) fn new(
        policy: &'a Policy,
        inventory: &'a Inventory,
        dialect: Dialect,
        network: Network,
        findings: &'a mut Findings,
    ) -> Self {
        Self {
            policy,
            sets: Sets::new(policy, inventory, dialect, network),
            postures: Postures::new(policy, dialect),
            inventory,
            known: HashMap::new(),
            selectors: Vec::new(),
            services: Vec::new(),
            known_services: HashMap::new(),
            findings,
            absent: Absent::default(),
            said: HashSet::new(),
        }
    }

    /// Postures that every rule without its own asks for must exist.
    pub(super) fn default_posture(&mut self) {
        let policy = self.policy;
        for name in &policy.default_posture {
            if let Some(unresolved) = self.postures.unknown(&name.value) {
                self.complain(name.span, unresolved);
            }
        }
    }

    pub(super) fn complain(&mut self, span: Span, unresolved: Unresolved) {
        let error = Diagnostic::error(&self.policy.source, span, unresolved.message);
        self.findings.push(error.maybe_help(unresolved.help));
    }

    /// Whether a selector is a login that has no device.
    pub(super) fn is_absent(&self, selector: &Selector) -> bool {
        matches!(selector, Selector::User(login) if !self.sets.directory.has_device(login))
    }

    /// Tells of logins that no device has.
    pub(super) fn tell_absent(&mut self) {
        let absent = std::mem::take(&mut self.absent);
        for finding in absent.findings(self.policy, &self.sets.directory) {
            self.findings.push(finding);
        }
    }

    pub(super) fn services<'s>(
        &'s mut self,
        destination: &'s policy::Destination,
        action: Action,
    ) -> impl Iterator<Item = ServiceId> + 's {
        let services = destination.services.iter();
        services.map(move |(protocol, ports)| {
            self.service(Service::new(*protocol, ports.clone(), action == Action::Deny))
        })
    }

    pub(super) fn service(&mut self, service: Service) -> ServiceId {
        if let Some(id) = self.known_services.get(&service) {
            return *id;
        }
        let id = ServiceId(self.services.len() as u32);
        self.services.push(service.clone());
        self.known_services.insert(service, id);
        id
    }

    /// Warns of a selector, once for all its places.
    pub(super) fn warn(&mut self, span: Span, message: String, help: Option<&str>) {
        if self.said.insert(message.clone()) {
            let warning = Diagnostic::warning(&self.policy.source, span, message);
            self.findings.push(warning.maybe_help(help.map(str::to_owned)));
        }
    }

    /// Notes something about a selector, once for all its places.
    pub(super) fn note_once(&mut self, span: Span, message: String) {
        if self.said.insert(message.clone()) {
            self.findings.push(Diagnostic::at(Severity::Note, &self.policy.source, span, message));
        }
    }

    /// What only Tailscale knows: nobody, where it would admit, and an error where something would be
    /// denied that is not known.
    fn foreign(&mut self, selector: &Spanned<Selector>, place: Place) {
        let name = &selector.value;
        let what = match name {
            Selector::Service(_) => "a service of Tailscale, whose addresses the inventory does not have",
            _ => "a group that Tailscale synchronises, whose members are not known here",
        };
        if place.action == Action::Deny {
            let message = format!("{name} cannot be denied or kept apart: it is {what}");
            let help = Some("name the tags, users or addresses that are meant".into());
            self.complain(selector.span, Unresolved { message, help });
        } else {
            let message = format!("{name} admits nothing here: it is {what}");
            self.warn(selector.span, message, Some("name the tags, users or addresses that are meant"));
        }
    }

    /// A selector at its place in a rule: an unknown one is an error there, an empty one a warning.
    pub(super) fn used(
        &mut self,
        selector: &Spanned<Selector>,
        place: Place,
        filter: Option<FilterId>,
    ) -> Option<SelectorId> {
        if self.sets.is_foreign(&selector.value) {
            self.foreign(selector, place);
            return None;
        }
        for (span, unresolved) in self.absent.note(self.policy, &self.sets.directory, selector, place) {
            self.complain(span, unresolved);
        }
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

    pub(super) fn empty(&mut self, selector: &Spanned<Selector>, place: Place, filter: Option<FilterId>) {
        // Of who has no device, and of a group of nobody else, that is told.
        let absent = |login: &String| !self.sets.directory.has_device(login);
        let is_told = match &selector.value {
            Selector::Group(group) => {
                let members = self.sets.members(group);
                !members.is_empty() && members.iter().all(absent)
            }
            other => self.is_absent(other),
        };
        if is_told {
            return;
        }
        let message = match filter {
            // What a test assumes is nobody's fault.
            Some(filter) if self.postures.is_assumed(filter) => return,
            Some(filter) if self.sets.set(&selector.value, place).is_ok_and(|set| !set.is_empty()) => {
                format!("no device of {} meets {}", selector.value, self.postures.label(filter))
            }
            _ if self.sets.directory.network() == Network::Underlay => {
                let message = format!("no node of {} has an underlay address", selector.value);
                let help = "on exchange interfaces this lane leads nowhere: list the node's addresses there as \"underlay\"";
                self.warn(selector.span, message, Some(help));
                return;
            }
            _ if self
                .sets
                .set(&selector.value, Place::destination(place.action))
                .is_ok_and(|set| !set.is_empty()) =>
            {
                let message =
                    format!("{} is jailed and starts nothing: as a source it admits nothing", selector.value);
                let help = "another tailnet shares it with this one: it can be a destination";
                self.warn(selector.span, message, Some(help));
                return;
            }
            _ => format!("{} matches nobody in the inventory", selector.value),
        };
        self.warn(selector.span, message, None);
    }

    pub(super) fn select(
        &mut self,
        selector: &Selector,
        place: Place,
        filter: Option<FilterId>,
    ) -> Result<SelectorId, Unresolved> {
        let placed = matches!(selector, Selector::Any | Selector::Autogroup(_))
            || !self.sets.directory.jailed().is_empty();
        let key = Key { selector: selector.clone(), place: placed.then_some(place), filter, via: None };
        if let Some(known) = self.known.get(&key) {
            return known.clone();
        }
        let by = self.by(selector, place);
        let result = self.sets.set(selector, place).map(|set| match filter {
            None => {
                let id = self.push(selector.to_string(), set);
                self.selectors[id.0 as usize].by = by;
                id
            }
            Some(filter) => {
                let postures = self.postures.label(filter).to_string();
                let id = self.push(format!("{selector} ({postures})"), self.postures.narrow(filter, &set));
                let selected = &mut self.selectors[id.0 as usize];
                (selected.narrowed, selected.by) = (Some(Narrowed { postures, from: set }), by);
                id
            }
        });
        self.known.insert(key, result.clone());
        result
    }

    /// A star admits nodes because the inventory knows them, but in Tailscale's dialect by range.
    fn by(&self, selector: &Selector, place: Place) -> By {
        match selector {
            Selector::Any if place.action == Action::Accept && self.sets.dialect == Dialect::Bulkhead => {
                By::Identity
            }
            Selector::Any
            | Selector::Prefix(_)
            | Selector::Host(_)
            | Selector::IpSet(_)
            | Selector::Autogroup(Autogroup::Internet | Autogroup::DangerAll) => By::Address,
            _ => By::Identity,
        }
    }

    pub(super) fn push(&mut self, label: String, set: AddressSet) -> SelectorId {
        self.selectors.push(Selected { label, set, narrowed: None, by: By::Address });
        SelectorId(self.selectors.len() as u32 - 1)
    }
}
