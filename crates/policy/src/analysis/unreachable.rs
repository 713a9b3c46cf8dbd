//! Rules that can never decide anything, because earlier ones always do.

use std::collections::BTreeSet;
use std::collections::HashMap;

use crate::analysis::address_classes::Space;
use crate::analysis::decide::{Decider, Ports, Sources, Work};
use crate::frontend::diagnostic::{Diagnostic, Findings, Related, Severity};
use crate::frontend::policy::Action;
use crate::resolve::{Rule, Ruleset, SelectorId};

/// How far the search went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// Rules that were looked at: those that are about anybody.
    pub rules: usize,
    /// Rules that never decide.
    pub unreachable: usize,
    /// Rules for which the search was given up, because there was too much to search.
    pub undecided: usize,
}

/// Looks for rules that never decide, from a time (ns since the Unix epoch) on. Each is a
/// warning that names the rules that decide in its place.
///
/// The search is over classes, so it is hosts: a rule is said to be unreachable only if each
/// packet that it is about is decided by an earlier one, at all times.
pub fn check(ruleset: &Ruleset, now: u64, findings: &mut Findings) -> Reach {
    let ports = Ports::new(&[ruleset]);
    let mut search = Search {
        decider: Decider::new(ruleset, &ports, 0),
        space: Space::new(ruleset),
        now,
        ports: ports.count(),
        decides: vec![false; ruleset.rules.len()],
        from: HashMap::new(),
        work: Work::new(),
    };
    let mut reach = Reach::default();
    for (index, rule) in ruleset.rules.iter().enumerate() {
        // A default deny is there for what must not be, however little of it there is.
        if rule.blocks.is_empty() || rule.is_default_deny() {
            continue;
        }
        reach.rules += 1;
        if rule.expires.is_some_and(|end| end <= now) {
            reach.unreachable += 1;
            findings.push(warning(rule, format!("{} has expired: it is absent", rule.title())));
            continue;
        }
        match search.instead_of(index) {
            Found::Decides => {}
            Found::TooMuch => reach.undecided += 1,
            Found::Never(others) => {
                reach.unreachable += 1;
                // An end that is nobody was told of where it is named.
                if !others.is_empty() || !is_nobodys(ruleset, rule) {
                    findings.push(shadowed(ruleset, rule, &others));
                }
            }
        }
    }
    reach
}

enum Found {
    Decides,
    /// These decide in its place; none, if there is no packet that it is about.
    Never(BTreeSet<u32>),
    TooMuch,
}

struct Search<'a> {
    decider: Decider<'a>,
    space: Space,
    now: u64,
    /// How many classes of ports there are.
    ports: usize,
    /// Rules that were seen to decide something.
    decides: Vec<bool>,
    /// What decides about packets from a class, by the class's index.
    from: HashMap<usize, Sources<'a>>,
    work: Work,
}

impl Search<'_> {
    fn instead_of(&mut self, index: usize) -> Found {
        let mut others = BTreeSet::new();
        let rule = &self.decider.ruleset.rules[index];
        let classes = &self.space.classes;
        for block in &rule.blocks {
            for from in block.sources.iter().flat_map(|id| self.space.indices(*id)) {
                let source = &classes[from];
                let sources =
                    self.from.entry(from).or_insert_with(|| self.decider.sources(&source.members, self.now));
                let targets = block.destinations.iter().flat_map(|(id, _)| self.space.indices(*id));
                for to in targets.filter(|to| classes[*to].v4 == source.v4) {
                    for now in sources.times.iter().filter(|now| rule.expires.is_none_or(|end| **now < end)) {
                        if self.decides[index] {
                            return Found::Decides;
                        }
                        if !self.work.take(sources.blocks.len() + self.ports) {
                            return Found::TooMuch;
                        }
                        let router = block.via.or(Some(u32::MAX));
                        let decided = self.decider.to(&sources.blocks, &classes[to].members, router, *now);
                        for other in decided.iter().flatten() {
                            self.decides[*other as usize] = true;
                        }
                        let mine = self.decider.ports_of(block, &classes[to].members);
                        others.extend(mine.filter_map(|port| decided[port]));
                    }
                }
            }
        }
        if self.decides[index] {
            return Found::Decides;
        }
        Found::Never(others)
    }
}

/// Whether all sources or all destinations of a rule are nobody.
fn is_nobodys(ruleset: &Ruleset, rule: &Rule) -> bool {
    let is_empty = |id: &SelectorId| ruleset.selector(*id).set.is_empty();
    rule.blocks.iter().all(|block| {
        block.sources.iter().all(is_empty) || block.destinations.iter().all(|(id, _)| is_empty(id))
    })
}

fn warning(rule: &Rule, message: String) -> Diagnostic {
    Diagnostic { location: rule.location.clone(), ..Diagnostic::global(Severity::Warning, message) }
}

fn shadowed(ruleset: &Ruleset, rule: &Rule, others: &BTreeSet<u32>) -> Diagnostic {
    let others: Vec<&Rule> = others.iter().map(|index| &ruleset.rules[*index as usize]).collect();
    if others.is_empty() {
        let message =
            format!("{} is about no packet: its two sides have no address family in common", rule.title());
        return warning(rule, message);
    }
    let names: Vec<String> = others.iter().map(|other| other.title()).collect();
    let same = others.iter().all(|other| other.action == rule.action);
    let verb = match (same, others.len()) {
        (true, 1) => "already decides the same for",
        (true, _) => "already decide the same for",
        (false, 1) => "decides otherwise for",
        (false, _) => "decide otherwise for",
    };
    let help = match (same, rule.action) {
        (true, _) => "remove it",
        (false, Action::Deny) => "it denies nothing: put it first, or remove it",
        (false, Action::Accept) => "it admits nothing: put it first, or remove it",
    };
    let message =
        format!("{} is unreachable: {} {verb} everything that it is about", rule.title(), names.join(", "));
    let related = others.iter().filter_map(|other| {
        let location = other.location.clone()?;
        Some(Related { message: format!("{} decides", other.title()), location })
    });
    Diagnostic { help: Some(help.into()), related: related.collect(), ..warning(rule, message) }
}
