//! What is known of one source.

use std::sync::Arc;
use std::time::Duration;

use bulkhead_api::status;
use bulkhead_policy::diagnostic::Findings;
use bulkhead_policy::inventory::{self, Inventory};
use bulkhead_policy::source::Source as Text;
use bulkhead_sources::{Kept, Settings, SourceError};
use serde::{Deserialize, Serialize};

use crate::daemon::clock::{boot_time, wall_time};
use crate::daemon::log::{log_and_default, log_unsaved};
use crate::daemon::store::Store;

/// A source that has not answered so often in a row is down: a single loss is none.
const DOWN: u32 = 2;

/// How long at least `--accept` waits for an answer.
const ACCEPTED: Duration = Duration::from_secs(120);

/// How long no question takes.
const STUCK: Duration = Duration::from_secs(700);

/// A source's last answer in the state directory, as an inventory.
#[derive(Serialize, Deserialize)]
struct Saved {
    /// Who was asked: an answer of another one says nothing.
    of: String,
    inventory: String,
    /// As [`Kept`] has it, in seconds: a restart does not forget who is gone.
    window: Option<(Vec<String>, u64)>,
}

/// What was asked and answered.
#[derive(Debug, Default)]
pub struct Asked {
    kept: Kept,
    /// When it was last answered and believed, ns since boot.
    answered: Option<u64>,
    /// Why the last answer was none, or was not believed.
    problem: Option<String>,
    /// Questions in a row that were not answered.
    silent: u32,
    /// Until when, ns since boot, the next answer is believed.
    accepted_until: u64,
    /// When the question began that is not answered yet, ns since boot.
    begun: Option<u64>,
    /// The disk has not got the last answer that was believed.
    must_save: bool,
}

/// What came of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It is another one than before.
    New,
    /// It is the same.
    Same,
    /// There was none that is believed.
    Nothing,
}

impl Asked {
    /// With what an earlier agent was answered.
    pub fn open(settings: &Settings, store: &Store) -> Self {
        let name = &settings.name;
        let saved: Option<Saved> = store.load(&file(name)).unwrap_or_else(log_and_default);
        let Some(saved) = saved.filter(|saved| saved.of == asked_of(settings)) else {
            return Self::default();
        };
        let mut findings = Findings::default();
        let source = Text::new(&format!("(the inventory of {name})"), &saved.inventory);
        let answer = inventory::parse(&source, &mut findings).filter(|_| !findings.refuse_enforced());
        let window = saved.window.map(|(names, began)| (names, Duration::from_secs(began)));
        Self { kept: Kept::new(answer, window), ..Self::default() }
    }

    /// The last answer that was believed.
    pub fn answer(&self) -> Option<Arc<Inventory>> {
        self.kept.answer.clone()
    }

    /// Believes the next answer, if one comes soon.
    pub fn accept(&mut self, settings: &Settings) {
        let soon = ACCEPTED.max(settings.every * 2).as_nanos() as u64;
        self.accepted_until = boot_time().saturating_add(soon);
    }

    /// A question begins.
    pub fn begin(&mut self) {
        self.begun = Some(boot_time());
    }

    /// Since how many seconds a question has had no end, if that is longer than any should take.
    pub fn stuck(&self) -> Option<u64> {
        let since = Duration::from_nanos(boot_time().saturating_sub(self.begun?));
        (since > STUCK).then_some(since.as_secs())
    }

    /// Takes what came of a question.
    pub fn hear(
        &mut self,
        settings: &Settings,
        answer: Result<Inventory, SourceError>,
        store: &Store,
    ) -> Heard {
        let now = boot_time();
        self.begun = None;
        let believed = match answer {
            Ok(answer) if now < std::mem::take(&mut self.accepted_until) => {
                self.kept.begin_window();
                Ok(self.kept.believe(answer))
            }
            Ok(answer) => self
                .kept
                .take(answer, settings.most_lost, Duration::from_nanos(wall_time()))
                .map_err(|refusal| {
                    let name = &settings.name;
                    format!("{refusal}; `bulkhead sources --accept {name}` believes it")
                }),
            Err(SourceError::Down(why)) if self.silent + 1 < DOWN => {
                tracing::debug!("source {}: {why}", settings.name);
                self.silent += 1;
                return Heard::Nothing;
            }
            Err(error) => Err(error.to_string()),
        };
        self.silent = if believed.is_ok() { 0 } else { self.silent.saturating_add(1) };
        match believed {
            Ok(is_new) => {
                self.answered = Some(now);
                if self.problem.take().is_some() {
                    tracing::info!("source {} answers again", settings.name);
                }
                self.must_save |= is_new;
                self.save(settings, store);
                if is_new { Heard::New } else { Heard::Same }
            }
            Err(problem) => {
                if self.problem.as_ref() != Some(&problem) {
                    tracing::warn!("source {} changes nothing: {problem}", settings.name);
                }
                self.problem = Some(problem);
                Heard::Nothing
            }
        }
    }

    /// A disk that refuses is asked again with the next answer: a restart must not bring back who is gone.
    fn save(&mut self, settings: &Settings, store: &Store) {
        if let Some(answer) = self.kept.answer.as_ref().filter(|_| self.must_save) {
            let window = self.kept.window.as_ref().map(|(names, began)| (names.clone(), began.as_secs()));
            let inventory = answer.source.text().to_owned();
            let saved = Saved { of: asked_of(settings), inventory, window };
            let result = store.save(&file(&settings.name), &saved);
            self.must_save = result.is_err();
            log_unsaved(result);
        }
    }

    /// Why its last answer still stands, if it is not what is answered now.
    pub fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// As `status` has it, without its name.
    pub fn status(&self) -> status::InventorySource {
        let age = |time: u64| Duration::from_nanos(boot_time().saturating_sub(time)).as_secs();
        status::InventorySource {
            nodes: self.kept.answer.as_ref().map(|answer| answer.nodes.len() as u64),
            answered_seconds: self.answered.map(age),
            problem: self
                .stuck()
                .map(|since| format!("it has not answered for {since} s"))
                .or(self.problem.clone()),
            ..status::InventorySource::default()
        }
    }
}

/// Who is asked, in words: whoever is asked otherwise is another one.
fn asked_of(settings: &Settings) -> String {
    format!("{:?}", settings.kind)
}

fn file(name: &str) -> String {
    format!("source-{name}.json")
}

/// Removes the answers of sources that are not configured any more: one that comes back under its name, however much
/// later, begins with what it answers then.
pub fn forget_others(settings: &[Settings], store: &Store) {
    let is_known = |name: &str| settings.iter().any(|settings| file(&settings.name) == name);
    let is_other = |name: &str| name.starts_with("source-") && name.ends_with(".json") && !is_known(name);
    if let Err(error) = store.remove(is_other) {
        tracing::warn!("answers of sources that are not in agent.toml any more: {error:#}");
    }
}

#[cfg(test)]
mod tests {
    use bulkhead_dataplane::fake::{Fault, Faults};
    use bulkhead_sources::Kind;

    use super::*;

    fn settings() -> Settings {
        let kind = Kind::Directory { path: "/none".into() };
        Settings { name: "s".to_owned(), every: Duration::from_secs(1), most_lost: 20, kind }
    }

    fn inventory(count: u8) -> Result<Inventory, SourceError> {
        let node = |number| format!(r#"{{"name": "n{number}", "addresses": ["10.0.0.{number}"]}}"#);
        let nodes: Vec<_> = (1..=count).map(node).collect();
        let text = format!(r#"{{"nodes": [{}]}}"#, nodes.join(","));
        Ok(inventory::parse(&Text::new("t", &text), &mut Findings::default()).unwrap())
    }

    fn nodes(asked: &Asked) -> usize {
        asked.answer().map_or(0, |answer| answer.nodes.len())
    }

    #[test]
    fn one_loss_is_none_and_the_last_answer_stands_over_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::new(directory.path());
        let mut asked = Asked::open(&settings(), &store);
        assert_eq!(asked.hear(&settings(), inventory(3), &store), Heard::New);
        assert_eq!(asked.hear(&settings(), inventory(3), &store), Heard::Same);
        let down = || Err(SourceError::Down("no route".to_owned()));
        assert_eq!(asked.hear(&settings(), down(), &store), Heard::Nothing);
        assert_eq!(asked.problem(), None);
        asked.hear(&settings(), down(), &store);
        assert_eq!(asked.problem(), Some("no route"));
        let mut next = Asked::open(&settings(), &store);
        assert_eq!((nodes(&asked), nodes(&next)), (3, 3));
        // Half of it is gone: not believed unless somebody says so.
        assert_eq!(next.hear(&settings(), inventory(1), &store), Heard::Nothing);
        assert!(next.problem().unwrap().contains("bulkhead sources --accept s"));
        next.accept(&settings());
        assert_eq!(next.hear(&settings(), inventory(1), &store), Heard::New);
        assert_eq!((next.problem(), nodes(&Asked::open(&settings(), &store))), (None, 1));
        // What was accepted is the new measure, and once only.
        assert_eq!(next.hear(&settings(), inventory(0), &store), Heard::Nothing);
        // Another directory has another answer.
        let other = Settings { kind: Kind::Directory { path: "/other".into() }, ..settings() };
        assert_eq!(nodes(&Asked::open(&other, &store)), 0);
    }

    #[test]
    fn a_source_that_comes_back_begins_anew() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::new(directory.path());
        Asked::open(&settings(), &store).hear(&settings(), inventory(3), &store);
        store.save("ledger.json", &3).unwrap();
        forget_others(&[settings()], &store);
        assert_eq!(nodes(&Asked::open(&settings(), &store)), 3);
        forget_others(&[], &store);
        assert_eq!(nodes(&Asked::open(&settings(), &store)), 0);
        assert!(store.has("ledger.json"));
    }

    #[test]
    fn a_restart_does_not_forget_who_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::new(directory.path());
        let mut asked = Asked::open(&settings(), &store);
        asked.hear(&settings(), inventory(10), &store);
        assert_eq!(asked.hear(&settings(), inventory(8), &store), Heard::New);
        for _ in 0..3 {
            let mut next = Asked::open(&settings(), &store);
            assert_eq!(next.hear(&settings(), inventory(7), &store), Heard::Nothing);
        }
    }

    #[test]
    fn what_a_full_disk_refused_is_kept_once_it_can_be() {
        let directory = tempfile::tempdir().unwrap();
        let faults = Faults::default();
        let store = Store::with_faults(directory.path(), &faults);
        let mut asked = Asked::open(&settings(), &store);
        asked.hear(&settings(), inventory(3), &store);
        faults.arm(0, Fault::RefuseOn(libc::ENOSPC));
        asked.hear(&settings(), inventory(2), &store);
        assert_eq!((nodes(&asked), nodes(&Asked::open(&settings(), &store))), (2, 3));
        faults.clear();
        asked.hear(&settings(), inventory(2), &store);
        assert_eq!(nodes(&Asked::open(&settings(), &store)), 2);
    }
}
