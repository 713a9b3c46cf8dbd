//! Notes that people sign for every host: grants, revocations, quarantines and their lifting.
//!
//! ```text
//! origin ─ list (believed by nobody) ─ each note: people, time, replay, by the policy in force ─ done
//!                                                      │ refused: an event and an alarm, once
//! ```
//!
//! A list that is held back can only delay. What was done is kept where what is done on this host is.

mod act;
mod hand_in;
mod lifted;
mod verify;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bulkhead_api::event::Outcome;
use bulkhead_api::status::FleetNotes;
use bulkhead_api::text::plain;
use bulkhead_fleet::{Cause, Origin, digest, notes, slot};
use tokio::sync::{Notify, watch};

use self::act::{CUTS_OFF, Came, How, Under, act, action, actor, enforced, key, name, rank, revoked};
pub use self::hand_in::{about, hand_in};
pub(super) use self::lifted::Lifted;
pub use self::verify::signers;
use super::held;
use super::telling::Teller;
use super::texts;
use crate::daemon::clock::wall_time;
use crate::daemon::events::control::{Change, generation};
use crate::daemon::state::Enforcer;

/// So many refused notes are told of by themselves at a time.
const TOLD: usize = 8;

/// So many refusals are on record in an hour: whoever makes notes up does not fill the log.
const MOST_EVENTS: usize = 256;

const HOUR: Duration = Duration::from_secs(3600);

/// What does not come is asked for again so soon before it is told: whoever posts may just be writing.
const AGAIN: Duration = Duration::from_secs(2);

/// What cannot be judged, as what is enforced cannot be read.
const JUDGING: &str = "judging of notes";

/// Follows the notes.
pub(super) struct Follower<'e> {
    enforcer: &'e Enforcer,
    every: Duration,
    teller: Teller<'e>,
    /// The list that came last, by its SHA-256.
    list: String,
    notes: BTreeMap<String, One>,
    /// The generation that was looked at last, and what of it counts.
    seen: (u32, String),
    /// Whose refusals are on record, and since when that is counted.
    told: (BTreeSet<String>, Instant),
    looks: u64,
    /// How many times in a row nothing came.
    failures: u32,
}

/// A note, and what came of it so far.
struct One {
    text: String,
    came: Option<Came>,
}

impl<'e> Follower<'e> {
    pub(super) fn new(enforcer: &'e Enforcer, every: Duration) -> Self {
        Self {
            enforcer,
            every,
            teller: Teller::new(enforcer),
            list: String::new(),
            notes: BTreeMap::new(),
            seen: (0, String::new()),
            told: (BTreeSet::new(), Instant::now()),
            looks: 0,
            failures: 0,
        }
    }

    /// Follows until enforcement ends.
    pub(super) async fn follow(
        &mut self,
        mut origin: watch::Receiver<Option<Arc<dyn Origin>>>,
        news: &Notify,
    ) {
        while !self.enforcer.live().detached {
            let opened = origin.borrow_and_update().clone();
            if let Some(opened) = opened {
                self.fetch(&*opened).await;
            }
            self.act().await;
            tokio::select! {
                () = tokio::time::sleep(self.pause()) => {}
                () = news.notified() => {}
                Ok(()) = origin.changed() => {}
            }
        }
    }

    /// Until the next look: hosts that began together do not ask together, and no note waits beyond its time.
    fn pause(&mut self) -> Duration {
        self.looks += 1;
        let slot = u32::from(slot(&self.enforcer.setup.options.node, self.looks));
        let pause = self.every * (80 + slot * 2 / 5) / 100;
        let now = (wall_time() / 1_000_000_000).cast_signed();
        let due = self.notes.values().filter_map(|one| match &one.came {
            Some(Came::Waits(at)) => Some(Duration::from_secs(u64::try_from(at - now).unwrap_or(0) + 1)),
            _ => None,
        });
        due.chain((self.failures == 1).then_some(AGAIN)).chain([pause]).min().unwrap_or(pause)
    }

    /// Has the newest list. What is listed no more is forgotten, and nothing that was done is undone.
    async fn fetch(&mut self, origin: &dyn Origin) {
        let came = async {
            let Some(index) = notes::index(origin).await? else { return Ok(None) };
            if index.list == self.list {
                return Ok(None);
            }
            let (all, bytes) = notes::list(origin, &index).await?;
            Ok::<_, notes::Unlisted>(Some((index.list, all, bytes)))
        };
        match came.await {
            Err(error) => {
                self.failures += 1;
                self.teller.refused("notes", error.cause(), &error.to_string(), self.failures > 1);
            }
            Ok(came) => {
                self.failures = 0;
                self.teller.well("notes");
                let Some((list, all, bytes)) = came else { return };
                texts::keep_list(&self.enforcer.setup.paths.state, &list, &bytes);
                self.list = list;
                let mut before = std::mem::take(&mut self.notes);
                let one = |text: String| {
                    let sum = digest(text.as_bytes());
                    let came = before.remove(&sum).and_then(|one| one.came);
                    (sum, One { text, came })
                };
                self.notes = all.into_iter().map(one).collect();
            }
        }
    }

    /// Does what notes say that nothing has come of yet.
    async fn act(&mut self) {
        let number = self.enforcer.live().ledger.enforced;
        let mut files = None;
        if self.seen.0 != number && !self.notes.is_empty() {
            match enforced(self.enforcer) {
                Ok(found) => {
                    let key = key(&found);
                    if self.seen.1 != key {
                        self.notes.values_mut().for_each(One::anew);
                    }
                    self.seen = (number, key);
                    files = Some(found);
                }
                Err(error) => {
                    return self.teller.refused(JUDGING, Cause::Malformed, &format!("{error:#}"), true);
                }
            }
        }
        let now = (wall_time() / 1_000_000_000).cast_signed();
        let due = self.notes.iter().filter(|(_, one)| one.is_due(now));
        let mut due: Vec<(u8, String)> = due.map(|(sum, one)| (rank(&one.text), sum.clone())).collect();
        if !due.is_empty() {
            due.sort();
            let files = files.map_or_else(|| enforced(self.enforcer), Ok);
            let under = match files.and_then(|files| Under::of(self.enforcer, &files)) {
                Ok(under) => under,
                Err(error) => {
                    return self.teller.refused(JUDGING, Cause::Malformed, &format!("{error:#}"), true);
                }
            };
            self.teller.well(JUDGING);
            // What is revoked does not begin because the revocation could not be kept.
            let mut held_back = BTreeSet::new();
            for (_, sum) in due {
                if let Some(one) = self.notes.get_mut(&sum) {
                    if held_back.contains(&name(&one.text)) {
                        one.came = Some(Came::Failed("its revocation could not be kept".to_owned()));
                        continue;
                    }
                    let how = How { tells: true, again: matches!(one.came, Some(Came::Failed(_))) };
                    let came = act(self.enforcer, &one.text, &under, how);
                    one.came = Some(came.clone());
                    held_back.extend(revoked(&one.text).filter(|_| matches!(came, Came::Failed(_))));
                    let text = one.text.clone();
                    self.record(&sum, &text, &came);
                }
                // Whoever follows the bundles has its turn.
                tokio::task::yield_now().await;
            }
        }
        self.report();
    }

    /// Puts a refusal on record, once.
    fn record(&mut self, sum: &str, text: &str, came: &Came) {
        let (why, outcome) = match came {
            Came::Refused(why) => (why, Outcome::Refused),
            Came::Failed(why) => (why, Outcome::Failed),
            Came::Settled | Came::Over(_) | Came::Elsewhere | Came::Waits(_) => return,
        };
        if self.told.1.elapsed() > HOUR {
            self.told = (BTreeSet::new(), Instant::now());
        }
        let said = digest(format!("{sum} {why}").as_bytes());
        if self.told.0.len() >= MOST_EVENTS || !self.told.0.insert(said) {
            return;
        }
        let name = name(text);
        tracing::error!("the fleet's {name} is not taken: {}", plain(why));
        self.enforcer.setup.fleet.count(Cause::Signatures);
        let before = generation(self.enforcer);
        let (subject, detail) = (Some(name), Some(plain(why).into_owned()));
        let change = Change {
            action: action(text),
            by: actor(),
            before,
            outcome,
            subject,
            detail,
            signers: Vec::new(),
        };
        change.tell(self.enforcer);
    }

    /// Raises alarms of what is refused, ends those of what is not any more, and says all of it in the status.
    fn report(&mut self) {
        let refused = self.notes.values().filter_map(|one| match &one.came {
            Some(Came::Refused(why) | Came::Failed(why)) => Some((name(&one.text), why.clone())),
            _ => None,
        });
        let refused: Vec<(String, String)> = refused.collect();
        let before = self.teller.begin();
        for (name, why) in refused.iter().take(TOLD) {
            self.teller.tell(name, &format!("the fleet's {name} is not taken: {}", plain(why)));
        }
        if let Some(more) = refused.len().checked_sub(TOLD).filter(|more| *more > 0) {
            self.teller.tell("more notes", &format!("{more} more notes of the fleet are not taken"));
        }
        self.teller.end_refusals(before, true);
        let waits = |one: &&One| matches!(one.came, Some(Came::Waits(_)));
        let told = FleetNotes {
            listed: self.notes.len() as u32,
            waiting: self.notes.values().filter(waits).count() as u32,
            refused: refused.len() as u32,
            why: refused.iter().take(TOLD).map(|(name, why)| format!("{name}: {}", plain(why))).collect(),
        };
        held(&self.enforcer.setup.fleet.known).notes = (told != FleetNotes::default()).then_some(told);
    }
}

impl One {
    fn is_due(&self, now: i64) -> bool {
        match &self.came {
            None | Some(Came::Failed(_)) => true,
            Some(Came::Waits(at)) => now >= *at,
            // By a clock that was ahead it was over, or was ended.
            Some(Came::Over(until)) => until.is_some_and(|until| now < until),
            Some(Came::Settled) => rank(&self.text) == CUTS_OFF,
            Some(Came::Elsewhere | Came::Refused(_)) => false,
        }
    }

    /// Another policy or inventory may allow what was refused, and concern whom it did not.
    fn anew(&mut self) {
        if self.came != Some(Came::Settled) {
            self.came = None;
        }
    }
}
