//! The ssh section's names, and sshTests against it: in Tailscale's dialect.

use super::resolver::Resolver;
use super::sets::{Place, Unresolved};
use crate::address::AddressSet;
use crate::frontend::diagnostic::Diagnostic;
use crate::frontend::inventory::Node;
use crate::frontend::policy::ssh::{SshRule, SshTest, Wanted, unknown_tag};
use crate::frontend::policy::{Action, Autogroup, FAILED, Selector};
use crate::frontend::source::{Span, Spanned};

/// A rule of ssh over an inventory.
struct Resolved<'p> {
    rule: &'p SshRule,
    sources: AddressSet,
    destinations: AddressSet,
    /// Those of the sources whom it leads to their own devices.
    own: AddressSet,
}

/// A node's addresses are in a set.
fn is_in(node: &Node, set: &AddressSet) -> bool {
    node.addresses.iter().any(|address| set.contains(*address))
}

impl Resolved<'_> {
    fn admits(&self, from: &Node, to: &Node, user: &str) -> bool {
        let own = is_in(from, &self.own) && from.user().is_some() && from.user() == to.user();
        let mut users = self.rule.users.iter();
        is_in(from, &self.sources)
            && (own || is_in(to, &self.destinations))
            && users.any(|known| match (known.as_str(), known.strip_prefix("localpart:*@")) {
                ("autogroup:nonroot", _) => user != "root",
                (_, Some(domain)) => from.user() == Some(&*format!("{user}@{domain}").to_lowercase()),
                (name, None) => name == user,
            })
    }
}

impl Resolver<'_> {
    /// Looks up what ssh names, and runs sshTests: what fails.
    pub(super) fn ssh(&mut self) -> Vec<Diagnostic> {
        let policy = self.policy;
        let mut failures = Vec::new();
        let rules: Vec<Resolved<'_>> = policy.ssh.iter().map(|rule| self.ssh_rule(rule)).collect();
        for test in &policy.ssh_tests {
            for to in &test.destinations {
                if let Selector::Tag(tag) = &to.value
                    && self.sets.tag(tag).is_err()
                {
                    let message = unknown_tag(tag).message;
                    self.complain(to.span, Unresolved { message, help: None });
                }
            }
            let mut named = std::iter::once(&test.source).chain(&test.destinations);
            if let Some(foreign) = named.find(|selector| self.sets.is_foreign(&selector.value)) {
                self.not_run(foreign);
                continue;
            }
            let known = self.findings.0.len();
            self.ssh_test(&rules, test, &mut failures);
            self.findings.prefix_errors(known, FAILED);
        }
        failures
    }

    /// Whether nobody can know whose device it is: an address, without an inventory. That is told then.
    fn is_unknown(&mut self, selector: &Spanned<Selector>) -> bool {
        let by_address =
            matches!(selector.value, Selector::Prefix(_) | Selector::Host(_) | Selector::IpSet(_));
        let is_unknown = self.inventory.is_placeholder && by_address;
        if is_unknown {
            let message =
                format!("ssh tests of {} are not run: only an inventory tells whose it is", selector.value);
            self.note_once(selector.span, message);
        }
        is_unknown
    }

    fn ssh_rule<'p>(&mut self, rule: &'p SshRule) -> Resolved<'p> {
        let is_own =
            |selector: &&Spanned<Selector>| selector.value == Selector::Autogroup(Autogroup::OwnDevices);
        let own = rule.destinations.iter().any(|to| is_own(&to));
        let sources = self.ssh_set(rule.sources.iter(), Place::source(Action::Accept));
        // Who is of another tailnet has no devices of its own in this one.
        let own =
            if own { sources.intersection(&self.sets.directory.members()) } else { AddressSet::default() };
        let others = rule.destinations.iter().filter(|to| !is_own(to));
        let destinations = self.ssh_set(others, Place::destination(Action::Accept));
        Resolved { rule, sources, destinations, own }
    }

    fn ssh_set<'p>(
        &mut self,
        selectors: impl Iterator<Item = &'p Spanned<Selector>>,
        place: Place,
    ) -> AddressSet {
        let mut all = AddressSet::default();
        for selector in selectors {
            if self.sets.is_foreign(&selector.value) {
                self.used(selector, place, None);
                continue;
            }
            match self.sets.set(&selector.value, place) {
                Ok(set) => all = all.union(&set),
                Err(unresolved) => self.complain(selector.span, unresolved),
            }
        }
        all
    }

    /// What is wanted of each user must be so from every device of the source to every one of the
    /// destinations.
    fn ssh_test(&mut self, rules: &[Resolved<'_>], test: &SshTest, failures: &mut Vec<Diagnostic>) {
        let inventory = self.inventory;
        let mut fail = |span: Span, message: String| {
            failures.push(Diagnostic::error(&self.policy.source, span, format!("{FAILED}{message}")));
        };
        let holders = |set: AddressSet| inventory.nodes.iter().filter(move |node| is_in(node, &set));
        let source = self.ssh_set(std::iter::once(&test.source), Place::source(Action::Accept));
        let from: Vec<&Node> = holders(source).collect();
        let mut to: Vec<&Node> = Vec::new();
        let is_unknown = self.is_unknown(&test.source);
        let mut is_whole = !is_unknown;
        for selector in &test.destinations {
            let set = self.ssh_set(std::iter::once(selector), Place::destination(Action::Accept));
            let before = to.len();
            to.extend(holders(set));
            if self.is_unknown(selector) {
                is_whole = false;
            } else if to.len() == before {
                is_whole = false;
                fail(selector.span, format!("{} is no device", selector.value));
            }
        }
        if is_unknown {
            return;
        }
        if from.is_empty() || (to.is_empty() && is_whole) {
            fail(test.source.span, format!("{} reaches no device", test.source.value));
        }
        for (wanted, user) in &test.users {
            let pairs = from.iter().flat_map(|from| to.iter().map(move |to| (*from, *to)));
            let admits = |check: bool| {
                move |(from, to): &(&Node, &Node)| {
                    let mut rules = rules.iter().filter(|resolved| !check || resolved.rule.check);
                    rules.any(|rule| rule.admits(from, to, &user.value))
                }
            };
            let wrong = match wanted {
                Wanted::Accept => pairs.clone().find(|pair| !admits(false)(pair)),
                Wanted::Check => pairs.clone().find(|pair| !admits(true)(pair)),
                Wanted::Deny => pairs.clone().find(admits(false)),
            };
            if let Some((from, to)) = wrong {
                let must = match wanted {
                    Wanted::Accept => "must be let in and is not",
                    Wanted::Check => "must be let in after a check and is not",
                    Wanted::Deny => "must not be let in and is",
                };
                let message = format!("{} as \"{}\" on {} {must}", from.name, user.value, to.name);
                fail(user.span, message);
            }
        }
    }
}
