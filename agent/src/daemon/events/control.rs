//! Control events: who changed what is enforced, or tried to, and what came of it.

use bulkhead_api::event::{Action, Actor, Control, Kind, Outcome};
use bulkhead_api::quarantine::Entry;
use bulkhead_dataplane::Dataplane;
use bulkhead_events::Facts as _;

use crate::daemon::clock::boot_time;
use crate::daemon::events::{Shared, timestamp};
use crate::daemon::quarantine::list::{self, List};
use crate::daemon::setup::Setup;
use crate::daemon::state::Enforcer;
use crate::daemon::store::{Ledger, Store};

/// Characters of a subject or of a refusal that an event has.
const WORDS: usize = 400;

/// The generation that is enforced; 0: none.
pub fn generation<D: Dataplane>(enforcer: &Enforcer<D>) -> u32 {
    let live = enforcer.live();
    if live.detached { 0 } else { live.built.number }
}

/// A change of what is enforced that is over.
pub struct Change {
    /// What was to be done.
    pub action: Action,
    /// Who asked for it.
    pub by: Actor,
    /// The generation that was enforced before.
    pub before: u32,
    /// What came of it.
    pub outcome: Outcome,
    /// What it was about.
    pub subject: Option<String>,
    /// Why.
    pub detail: Option<String>,
    /// Who has signed what it is about.
    pub signers: Vec<String>,
}

impl Change {
    /// What the agent has done by itself, and why.
    pub fn by_agent(action: Action, before: u32, detail: Option<&str>) -> Self {
        let detail = detail.map(str::to_owned);
        Self {
            action,
            by: Actor::Agent,
            before,
            outcome: Outcome::Done,
            subject: None,
            detail,
            signers: Vec::new(),
        }
    }

    /// What a signal has made it do.
    pub fn by_signal(action: Action, before: u32, signal: &str, outcome: Outcome) -> Self {
        let by = Actor::Signal { signal: signal.to_owned() };
        Self { action, by, before, outcome, subject: None, detail: None, signers: Vec::new() }
    }

    /// Tells of it.
    pub fn tell<D: Dataplane>(self, enforcer: &Enforcer<D>) {
        let generation = generation(enforcer);
        let has_files = self.outcome == Outcome::Done
            && matches!(self.action, Action::Start | Action::Apply | Action::Rollback | Action::Promote);
        let files = has_files.then(|| enforcer.shared.facts.files(generation)).flatten();
        let signers = if has_files && self.signers.is_empty() {
            enforcer.live().built.signers.clone()
        } else {
            self.signers.clone()
        };
        let digests = files.map_or([None, None], |files| [Some(files.policy), Some(files.inventory)]);
        Self { signers, ..self }.tell_of(&enforcer.shared, generation, digests);
    }

    /// Tells of it, and of what is enforced now and from which files.
    fn tell_of(self, shared: &Shared, generation: u32, digests: [Option<String>; 2]) {
        shared.tell(timestamp(boot_time()), self.event(generation, digests));
    }

    /// Its event, with what is enforced now and the digests of the policy and the inventory if they are told.
    pub fn event(self, generation: u32, [policy, inventory]: [Option<String>; 2]) -> Kind {
        let Self { action, by, before, outcome, subject, detail, signers } = self;
        let control = Control {
            action,
            outcome,
            by,
            subject: subject.map(|subject| subject.chars().take(WORDS).collect()),
            detail: detail.map(|detail| detail.chars().take(WORDS).collect()),
            signers,
            generation_before: before,
            generation,
            policy,
            inventory,
        };
        Kind::Control(Box::new(control))
    }
}

/// What an earlier agent left, to tell of what became of it while none ran.
pub struct Before {
    /// The generation that is enforced; 0: none.
    generation: u32,
    ledger: Ledger,
    quarantined: List,
}

impl Before {
    /// Reads it. What cannot be read is nothing here; the start says so.
    pub fn read(plane: &impl Dataplane, setup: &Setup, store: &Store) -> Self {
        let quarantined = store.load(list::FILE).ok().flatten().unwrap_or_default();
        let ledger = store.ledger().unwrap_or_default();
        let is_attached = plane.pinned_links(&setup.paths.pins).is_ok_and(|hooks| !hooks.is_empty());
        Self { generation: if is_attached { ledger.enforced } else { 0 }, ledger, quarantined }
    }

    /// Tells of the start, and of what was over by then.
    pub fn tell<D: Dataplane>(self, enforcer: &Enforcer<D>) {
        let Self { generation: before, ledger, quarantined } = self;
        Change::by_agent(Action::Start, before, None).tell(enforcer);
        let generation = generation(enforcer);
        let is_back = ledger.previous.is_some() && ledger.is_unconfirmed();
        if is_back {
            let why = "not confirmed in time, while no agent ran";
            Change::by_agent(Action::Rollback, before, Some(why)).tell(enforcer);
        }
        let now = enforcer.live().quarantined.clone();
        let is_over = |entry: &&Entry| !now.0.iter().any(|still| still.is_about_same(entry));
        for entry in quarantined.0.iter().filter(is_over) {
            let why = "its time was over while no agent ran";
            let change = Change::by_agent(Action::Release, generation, Some(why));
            Change { subject: Some(entry.subject.clone()), ..change }.tell(enforcer);
        }
    }

    /// Tells that nothing is enforced any more, by an agent that ends at once.
    pub fn tell_ended(self, shared: &Shared) {
        let why = "the first policy was not confirmed in time";
        Change::by_agent(Action::Detach, self.generation, Some(why)).tell_of(shared, 0, [None, None]);
    }
}
