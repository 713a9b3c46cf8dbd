//! Alarms by their cause, and quarantines by the agent itself.

use std::collections::HashMap;

use bulkhead_api::event::{Action, Actor, Alarm, AlarmState, Control, End, Outcome, Rule, Timestamp};

use crate::pack::{AgentsQuarantine, Alarms, AlarmsOfCause, RecordedEnd, Source, TimeOfAlarm};

/// Follows alarms and the agent's quarantines, from before the time that is asked about.
#[derive(Default)]
pub(super) struct Alarming {
    causes: Vec<Followed>,
    by_cause: HashMap<String, usize>,
    quarantines: Vec<AgentsQuarantine>,
    /// Places in `quarantines`, by node.
    cut_off: HashMap<String, usize>,
}

struct Followed {
    of: AlarmsOfCause,
    /// The node that does it.
    node: Option<String>,
}

impl Alarming {
    /// Takes an alarm. Of those before the time, what was still on in it is kept.
    pub(super) fn take(&mut self, record: u64, time: Timestamp, alarm: &Alarm, is_asked: bool) {
        let place = *self.by_cause.entry(alarm.cause.clone()).or_insert_with(|| {
            self.causes.push(follow(alarm));
            self.causes.len() - 1
        });
        let Some(Followed { of, .. }) = self.causes.get_mut(place) else { return };
        let started = |record| TimeOfAlarm {
            since: alarm.since,
            record,
            ended: None,
            detail: alarm.detail.clone(),
            quarantines: Vec::new(),
        };
        match alarm.state {
            AlarmState::Raised => {
                if !is_asked {
                    of.times.clear();
                }
                of.raised += u64::from(is_asked);
                of.times.push(started(Some(record)));
            }
            AlarmState::Ended if !is_asked => of.times.clear(),
            AlarmState::Ended => {
                if of.times.last().is_none_or(|last| last.since != alarm.since) {
                    of.times.push(started(None));
                }
                // An agent that was killed tells an end twice: the first it is.
                if let Some(last) = of.times.last_mut() {
                    last.ended.get_or_insert(RecordedEnd { record, time });
                }
            }
        }
    }

    /// Takes a change, if it is a quarantine by the agent or the end of one.
    pub(super) fn control(&mut self, record: u64, time: Timestamp, control: &Control) {
        let Some(node) = &control.subject else { return };
        match control.action {
            Action::Quarantine if control.by == Actor::Agent => {
                if control.outcome == Outcome::Done {
                    self.cut_off.insert(node.clone(), self.quarantines.len());
                }
                self.quarantines.push(AgentsQuarantine {
                    record,
                    time,
                    node: node.clone(),
                    outcome: control.outcome,
                    detail: control.detail.clone(),
                    ended: None,
                });
            }
            Action::Release if control.outcome == Outcome::Done => {
                let place = self.cut_off.remove(node);
                if let Some(of) = place.and_then(|place| self.quarantines.get_mut(place)) {
                    of.ended = Some(RecordedEnd { record, time });
                }
            }
            _ => {}
        }
    }

    pub(super) fn end(self, source: Source) -> Alarms {
        let quarantines = self.quarantines;
        let finish = |Followed { mut of, node }: Followed| {
            for time in &mut of.times {
                let is_of = |cut: &&AgentsQuarantine| {
                    Some(&cut.node) == node.as_ref()
                        && cut.time >= time.since
                        && time.ended.is_none_or(|end| cut.time <= end.time)
                };
                time.quarantines = quarantines.iter().filter(is_of).map(|cut| cut.record).collect();
            }
            of
        };
        let mut causes: Vec<_> =
            self.causes.into_iter().filter(|followed| !followed.of.times.is_empty()).map(finish).collect();
        causes.sort_by_key(|of| of.times.first().map(|time| time.since));
        Alarms { source, causes, quarantines }
    }
}

fn follow(alarm: &Alarm) -> Followed {
    let of = AlarmsOfCause {
        alarm: alarm.alarm,
        cause: alarm.cause.clone(),
        source: alarm.source.as_ref().map(End::to_string),
        destination: alarm.destination.as_ref().map(End::to_string),
        rule: alarm.rule.as_ref().map(Rule::title),
        raised: 0,
        times: Vec::new(),
    };
    let source = alarm.source.as_ref().filter(|source| source.route.is_none());
    Followed { of, node: source.and_then(|source| source.name.clone()) }
}
