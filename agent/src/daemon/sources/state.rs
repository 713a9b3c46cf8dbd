//! What is known of one source.

use std::time::Duration;

use bulkhead_api::status;
use bulkhead_policy::diagnostic::Findings;
use bulkhead_policy::inventory::{self, Inventory};
use bulkhead_policy::source::Source as Text;
use bulkhead_sources::{Kept, Settings, SourceError};
use serde::{Deserialize, Serialize};

use crate::daemon::clock::boot_time;
use crate::daemon::log::{log_and_default, log_unsaved};
use crate::daemon::store::Store;

/// A source that has not answered so often in a row is down: a single loss is none.
const DOWN: u32 = 2;

/// A source's last answer in the state directory, as an inventory.
#[derive(Serialize, Deserialize)]
struct Saved {
    inventory: String,
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
    /// The next answer is believed.
    is_accepted: bool,
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
    pub fn open(name: &str, store: &Store) -> Self {
        let saved: Option<Saved> = store.load(&file(name)).unwrap_or_else(log_and_default);
        let read = |saved: Saved| {
            let mut findings = Findings::default();
            let source = Text::new(&format!("(the inventory of {name})"), &saved.inventory);
            inventory::parse(&source, &mut findings).filter(|_| !findings.has_errors())
        };
        Self { kept: Kept::new(saved.and_then(read)), ..Self::default() }
    }

    /// The last answer that was believed.
    pub fn answer(&self) -> Option<Inventory> {
        self.kept.answer.clone()
    }

    /// Believes the next answer.
    pub fn accept(&mut self) {
        self.is_accepted = true;
    }

    /// Takes what came of a question.
    pub fn hear(
        &mut self,
        settings: &Settings,
        answer: Result<Inventory, SourceError>,
        store: &Store,
    ) -> Heard {
        let now = boot_time();
        let believed = match answer {
            Ok(answer) if std::mem::take(&mut self.is_accepted) => {
                self.kept.begin_window();
                Ok(self.kept.believe(answer))
            }
            Ok(answer) => {
                self.kept.take(answer, settings.most_lost, Duration::from_nanos(now)).map_err(|refusal| {
                    let name = &settings.name;
                    format!("{refusal}; `bulkhead sources --accept {name}` believes it")
                })
            }
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
                if is_new && let Some(answer) = &self.kept.answer {
                    let saved = Saved { inventory: answer.source.text().to_owned() };
                    log_unsaved(store.save(&file(&settings.name), &saved));
                }
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
            problem: self.problem.clone(),
            ..status::InventorySource::default()
        }
    }
}

fn file(name: &str) -> String {
    format!("source-{name}.json")
}
