//! What this host reports of itself: what the kernel says is enforced, and what is known of its policy.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bulkhead_abi::{Action, Reason};
use bulkhead_api::status::{FleetBundle, FleetRefusal, ReasonCount, Status};
use bulkhead_collect::{Bundle, Denied, Report, Review, State};
use bulkhead_events::Facts as _;
use bulkhead_policy::diagnostic::Findings;
use bulkhead_policy::policy::parse;

use crate::daemon::clock::wall_time;
use crate::daemon::server::current::current;
use crate::daemon::state::Enforcer;
use crate::version::VERSION;

/// Between two looks at the kernel, unless a report is due.
const LOOK: Duration = Duration::from_secs(10);

/// Makes reports.
pub struct Reporter {
    enforcer: Arc<Enforcer>,
    last: Option<(Instant, Report)>,
    /// The generation whose policy was looked at, the day of that, and what it says of reviews.
    reviewed: Option<(u32, u64, Option<Review>)>,
}

impl Reporter {
    /// Of an agent.
    pub fn new(enforcer: Arc<Enforcer>) -> Self {
        Self { enforcer, last: None, reviewed: None }
    }

    /// How the host is; as it was a moment ago, unless it must be `now`.
    pub fn report(&mut self, now: bool) -> Report {
        if let Some((when, report)) = &self.last
            && !now
            && when.elapsed() < LOOK
        {
            return report.clone();
        }
        let report = match current(&self.enforcer) {
            Ok(status) => self.of(&status),
            // That it cannot be said is what there is to say.
            Err(error) => Report {
                version: VERSION.to_owned(),
                gaps: vec![format!("what is enforced cannot be read: {error:#}")],
                ..Report::default()
            },
        };
        let report = report.cut();
        self.last = Some((Instant::now(), report.clone()));
        report
    }

    fn of(&mut self, status: &Status) -> Report {
        let generation = self.enforcer.live().built.number;
        let generation = if self.enforcer.live().detached { 0 } else { generation };
        let files = self.enforcer.shared.facts.files(generation);
        let (policy, inventory) = files.map(|files| (files.policy, files.inventory)).unzip();
        let agent = status.agent.as_ref();
        let fleet = agent.and_then(|agent| agent.fleet.as_ref());
        let of_fleet = fleet.and_then(|fleet| fleet.enforced.as_ref());
        let bundle = |sha256: Option<String>, signed: Option<&FleetBundle>| {
            // The fleet's is what was signed; a grant or a source makes another file of it.
            let signed = signed.map(|signed| (Some(signed.version), Some(signed.digest.clone())));
            let (version, sha256) = signed.unwrap_or((None, sha256));
            Bundle { version, sha256 }
        };
        let enforced = of_fleet.map_or(0, |bundles| bundles.policy.version);
        let refusals = fleet.map(|fleet| &*fleet.refused).unwrap_or_default();
        let (last, given_up) = (refusals.first(), given_up(refusals).filter(|version| *version > enforced));
        let refused =
            last.filter(|last| given_up.is_none() && version(&last.what).is_none_or(|of| of > enforced));
        let unenforced = agent.iter().flat_map(|agent| agent.unenforced.values());
        Report {
            version: VERSION.to_owned(),
            state: state(status.state),
            generation,
            policy: bundle(policy, of_fleet.map(|bundles| &bundles.policy)),
            inventory: bundle(inventory, of_fleet.map(|bundles| &bundles.inventory)),
            gaps: status.problems.clone(),
            unenforced_seconds: unenforced.copied().fold(0.0, f64::max) as u64,
            refusal: fleet
                .and_then(|fleet| fleet.problem.clone().or(fleet.local.clone()))
                .or(refused.map(|refused| format!("{}: {}", refused.what, refused.why))),
            rolled_back: given_up,
            verified: fleet
                .and_then(|fleet| fleet.checked_seconds)
                .map(|seconds| wall_time().saturating_sub(seconds.saturating_mul(1_000_000_000))),
            denied: denied(status.reasons.iter().chain(&status.guard)),
            review: self.review(generation),
            alarms: agent
                .and_then(|agent| agent.alarms.as_ref())
                .map_or(0, |alarms| alarms.active.len() as u64),
        }
    }

    /// Who answers for the rules of a generation, which is looked at once a day.
    fn review(&mut self, generation: u32) -> Option<Review> {
        let today = wall_time() / (24 * 60 * 60 * 1_000_000_000);
        match &self.reviewed {
            Some((of, day, review)) if (*of, *day) == (generation, today) => review.clone(),
            _ => {
                let review = self.look_at_rules(generation);
                self.reviewed = Some((generation, today, review.clone()));
                review
            }
        }
    }

    fn look_at_rules(&self, generation: u32) -> Option<Review> {
        let (files, _) = self.enforcer.store.inputs_of(generation)?;
        let dialect = self.enforcer.setup.options.dialect;
        let policy = parse(&files.policy, dialect, &mut Findings::default())?;
        let now = wall_time();
        let mut review = Review::default();
        for rule in policy.acls.iter().chain(&policy.grants).flatten() {
            let record = &rule.record;
            review.rules += 1;
            review.ownerless += u64::from(record.owner.is_none());
            review.overdue += u64::from(record.is_overdue(now));
            let day = record.review_by.as_ref().filter(|_| !record.is_overdue(now));
            let day = day.map(|day| day.value.to_string());
            review.next = [review.next.take(), day].into_iter().flatten().min();
        }
        Some(review)
    }
}

/// The newest policy that was gone back from.
fn given_up(refusals: &[FleetRefusal]) -> Option<u64> {
    let policies = refusals.iter().filter(|of| of.gone_back && of.what.starts_with("policy"));
    policies.filter_map(|of| version(&of.what)).max()
}

/// The version in the name of what was refused, such as `policy 3`.
fn version(what: &str) -> Option<u64> {
    what.split(|byte: char| !byte.is_ascii_digit()).find_map(|digits| digits.parse().ok())
}

fn state(state: bulkhead_api::status::State) -> State {
    use bulkhead_api::status::State as Asked;
    match state {
        Asked::Enforced => State::Enforced,
        Asked::Audit => State::Audit,
        Asked::Degraded => State::Degraded,
        Asked::Mixed => State::Mixed,
        Asked::Detached => State::Detached,
    }
}

/// Drops by reason, the most first.
fn denied<'c>(counts: impl Iterator<Item = &'c ReasonCount>) -> Vec<Denied> {
    let drops =
        (0..=u8::MAX).filter_map(Reason::from_number).filter(|reason| reason.action() == Action::Drop);
    let names: Vec<&str> = drops.map(Reason::name).collect();
    let mut denied: Vec<Denied> = Vec::new();
    for count in counts.filter(|count| count.packets != 0 && names.contains(&count.reason.as_str())) {
        let is_same =
            |known: &&mut Denied| known.reason == count.reason && known.direction == count.direction;
        match denied.iter_mut().find(is_same) {
            Some(known) => known.packets = known.packets.saturating_add(count.packets),
            None => denied.push(Denied {
                direction: count.direction.clone(),
                reason: count.reason.clone(),
                packets: count.packets,
            }),
        }
    }
    denied.sort_by_key(|denied| std::cmp::Reverse(denied.packets));
    denied
}

#[cfg(test)]
mod tests {
    use bulkhead_api::status::FleetRefusal;

    use super::given_up;

    #[test]
    fn the_newest_policy_counts_whatever_else_was_given_up_after_it() {
        let refusal =
            |what: &str, gone_back| FleetRefusal { what: what.to_owned(), gone_back, ..Default::default() };
        let all = [
            refusal("inventory 9", true),
            refusal("policy 8, inventory 9", false),
            refusal("policy 3", true),
            refusal("policy 4", true),
        ];
        assert_eq!((given_up(&all), given_up(&all[..2])), (Some(4), None));
    }
}
