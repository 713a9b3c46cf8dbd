//! Histories beside a policy → the parts of the pack that are from them.

use std::collections::HashMap;

use bulkhead_history::DAY;
use bulkhead_history::answer::drift::{Elsewhere, Kept, NotKnown, Report, Wider, is_judged};
use bulkhead_history::answer::observed::{OfRule, of_question};
use bulkhead_history::answer::{Question, date, times};
use bulkhead_policy::policy::Action;
use bulkhead_policy::resolve::Rule;

use crate::matrix::matrix;
use crate::pack::{Matrix, RuleLine, Rules, Side, Source, Staged, Standing, UseOfRule};

/// What histories know of a time.
pub struct OfHistory {
    /// Who talks to whom.
    pub conversations: Matrix,
    /// The rules and their use.
    pub rules: Rules,
    /// What only a staged policy would have stopped.
    pub staged: Staged,
}

/// Answers from the histories, by the same analysis as `bulkhead drift`.
#[must_use]
pub fn of_history(question: &Question) -> OfHistory {
    let source =
        Source { records: None, histories: question.hosts.iter().map(|host| host.node.clone()).collect() };
    let mut report = Report::new(question);
    let staged = Staged { source: source.clone(), lines: std::mem::take(&mut report.staged) };
    let rules = rules(question, report);
    OfHistory { conversations: matrix(question, source.clone()), rules: Rules { source, rules }, staged }
}

fn rules(question: &Question, report: Report) -> Vec<RuleLine> {
    let (Some(policy), Some(ruleset)) = (&question.loaded.policy, &question.loaded.ruleset) else {
        return Vec::new();
    };
    let written: Vec<_> = policy.acls.iter().flatten().chain(policy.grants.iter().flatten()).collect();
    let text = |number: u32| {
        let span = written.get((number as usize).wrapping_sub(1))?.span;
        policy.source.text().get(span.start..span.end).map(str::to_owned)
    };
    let mut judged = judged(report);
    let uses = of_question(question);
    let none = OfRule::default();
    let lines = ruleset.rules.iter().filter(|rule| is_judged(rule)).map(|rule| {
        let Judged { standing, why, wider, narrower } = judged.remove(&rule.number).unwrap_or_default();
        let used = uses.get(&rule.number).unwrap_or(&none);
        RuleLine {
            why,
            wider,
            narrower,
            text: text(rule.number),
            used: UseOfRule {
                looks: used.looks,
                packets: used.packets,
                last: used.is_used().then(|| date(used.last)),
            },
            ..line(rule, standing, question.now)
        }
    });
    lines.collect()
}

fn line(rule: &Rule, standing: Standing, now: u64) -> RuleLine {
    let record = &rule.record;
    RuleLine {
        number: rule.number,
        name: rule.name.clone(),
        position: rule.location.as_ref().map(ToString::to_string),
        admits: rule.action == Action::Accept,
        text: None,
        owner: record.owner.clone(),
        ticket: record.ticket.clone(),
        reason: record.reason.clone(),
        review_by: record.review_by.as_ref().map(|day| day.value.to_string()),
        is_overdue: record.is_overdue(now.saturating_mul(1_000_000_000)),
        expires: rule.expires.map(|time| date(time / 1_000_000_000)),
        standing,
        used: UseOfRule::default(),
        why: None,
        wider: Vec::new(),
        narrower: None,
    }
}

/// What `drift` says of a rule.
struct Judged {
    standing: Standing,
    why: Option<String>,
    wider: Vec<Side>,
    narrower: Option<String>,
}

impl Default for Judged {
    /// Of a rule that it says nothing of.
    fn default() -> Self {
        Self::of(Standing::AsUsed, None)
    }
}

impl Judged {
    const fn of(standing: Standing, why: Option<String>) -> Self {
        Self { standing, why, wider: Vec::new(), narrower: None }
    }
}

fn judged(report: Report) -> HashMap<u32, Judged> {
    let unused = report.unused.into_iter().map(|rule| (rule.number, Judged::of(Standing::Unused, None)));
    let kept = report
        .kept
        .into_iter()
        .map(|Kept { rule, why }| (rule.number, Judged::of(Standing::Kept, Some(why))));
    let not_known = report.not_known.into_iter().map(|NotKnown { rule, days, .. }| {
        let why = format!("known for {} of {}", times(days, "day"), report.days);
        (rule.number, Judged::of(Standing::NotKnown, Some(why)))
    });
    let elsewhere = report.elsewhere.into_iter().map(|Elsewhere { rule, .. }| {
        let why = "other hosts see its use; their histories were not read".to_owned();
        (rule.number, Judged::of(Standing::Elsewhere, Some(why)))
    });
    let wider = report.wider.into_iter().map(|Wider { rule, wider, narrower, .. }| {
        let sides =
            wider.into_iter().map(|side| Side { what: side.what.to_owned(), has: side.has, used: side.used });
        let wider = sides.collect();
        (rule.number, Judged { standing: Standing::Wider, why: None, wider, narrower: Some(narrower) })
    });
    unused.chain(kept).chain(not_known).chain(elsewhere).chain(wider).collect()
}

/// The first day that all histories know, and the days without a look of the one that has most.
pub(crate) fn known(question: &Question) -> (Option<String>, u64) {
    let first: Option<Vec<i64>> = question.hosts.iter().map(|host| host.coverage.first_day).collect();
    let first = first.and_then(|days| days.into_iter().max());
    let missing = question.hosts.iter().map(|host| host.coverage.missing_days).max().unwrap_or(0);
    (first.map(|day| date(day.unsigned_abs().saturating_mul(DAY))), missing)
}
