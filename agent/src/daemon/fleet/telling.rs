//! Telling what of the fleet is not taken: the status, events and alarms.

use std::collections::BTreeSet;

use bulkhead_api::event::{Action, Actor, Outcome};
use bulkhead_api::text::plain;
use bulkhead_fleet::Cause;

use super::record::Refused;
use super::{held, local};
use crate::daemon::alarms::{Cause as Alarm, Found};
use crate::daemon::events::control::{Change, generation};
use crate::daemon::state::Enforcer;

/// Tells, each matter once.
pub(super) struct Teller<'e> {
    enforcer: &'e Enforcer,
    /// Refusals that have an alarm.
    raised: BTreeSet<String>,
}

impl<'e> Teller<'e> {
    pub(super) fn new(enforcer: &'e Enforcer) -> Self {
        Self { enforcer, raised: BTreeSet::new() }
    }

    /// Begins a look; the refusals that have an alarm from the looks before.
    pub(super) fn begin(&mut self) -> BTreeSet<String> {
        std::mem::take(&mut self.raised)
    }

    pub(super) fn tell_refused(&mut self, refused: &Refused) {
        let (what, why) = (refused.what(), &refused.why);
        let words = match refused.blamed {
            Some(_) => format!("the fleet's {what} was given up, and is not tried again: {why}"),
            None => format!("the fleet's {what} does not hold here: {why}"),
        };
        self.tell(&what, &words);
    }

    /// Raises the alarm of something that is refused, which ends once a look does not tell it any more.
    pub(super) fn tell(&mut self, what: &str, words: &str) {
        self.raise(what, words);
        self.raised.insert(what.to_owned());
    }

    /// Refusals that keep nothing from being enforced any more have no alarm any more. What was not verified now may be refused
    /// still.
    pub(super) fn end_refusals(&mut self, before: BTreeSet<String>, is_well: bool) {
        if !is_well {
            self.raised.extend(before);
        } else if let Some(alarms) = &self.enforcer.shared.alarms {
            for what in before.difference(&self.raised) {
                alarms.end(&Found::plain(Alarm::Fleet { what: what.clone() }, String::new()));
            }
        }
    }

    /// Something is not taken: why is in the status at once, and told once it is no accident.
    pub(super) fn refused(&self, what: &'static str, cause: Cause, why: &str, tells: bool) {
        let (enforcer, fleet) = (self.enforcer, &self.enforcer.setup.fleet);
        if !tells {
            return;
        }
        let before = held(&fleet.known).problems.insert(what, why.to_owned());
        // Times and numbers in it differ at each look.
        let words = |text: &str| text.replace(|c: char| c.is_ascii_digit(), "");
        if before.is_some_and(|before| words(&before) == words(why)) {
            return;
        }
        fleet.count(cause);
        tracing::error!("nothing new is taken from the fleet: {}", plain(why));
        self.raise(what, &format!("nothing new is taken from the fleet: {why}"));
        let (by, detail) = (Actor::Fleet { name: what.to_owned() }, Some(why.to_owned()));
        let (action, outcome, subject) = (Action::Apply, Outcome::Refused, Some(cause.name().to_owned()));
        let before = generation(enforcer);
        Change { action, by, before, outcome, subject, detail, signers: Vec::new() }.tell(enforcer);
    }

    pub(super) fn well(&self, what: &'static str) {
        if held(&self.enforcer.setup.fleet.known).problems.remove(what).is_some() {
            tracing::info!("the fleet's {what} is well again");
            if let Some(alarms) = &self.enforcer.shared.alarms {
                alarms.end(&Found::plain(Alarm::Fleet { what: what.to_owned() }, String::new()));
            }
        }
    }

    pub(super) fn raise(&self, what: &str, words: &str) {
        if let Some(alarms) = &self.enforcer.shared.alarms {
            alarms.raise(&Found::plain(Alarm::Fleet { what: what.to_owned() }, words.to_owned()));
        }
    }

    pub(super) fn tell_local(&self) {
        let Some(alarms) = &self.enforcer.shared.alarms else { return };
        let cause = Alarm::Fleet { what: "local".to_owned() };
        if local::is_aside(self.enforcer) {
            let words =
                "what runs is not what the fleet has signed; `bulkhead fleet resume` goes back to that";
            alarms.raise(&Found::plain(cause, words.to_owned()));
        } else {
            alarms.end(&Found::plain(cause, String::new()));
        }
    }
}
