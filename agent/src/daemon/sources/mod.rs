//! Living inventories: what sources list beside the inventory's file.
//!
//! ```text
//! source ─ Asking (a thread each) ─ Kept ─┐
//! file, or what was applied ──────────────┼─ compose ─ what is enforced
//! ```
//!
//! Whatever is enforced has the nodes that the sources list then. A source that does not answer, or whose answer is not
//! believed, changes nothing: its last answer stands, also over restarts, and an alarm is raised.

mod asking;
mod fit;
mod following;
mod state;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::Thread;

use bulkhead_api::status;
use bulkhead_policy::diagnostic::Findings;
use bulkhead_policy::inventory::{self, Composed, Inventory, LeftOut, compose};
use bulkhead_policy::source::Source as Text;
use bulkhead_sources::Settings;

use self::state::Asked;
use crate::daemon::clock::wall_time;
use crate::daemon::files::Files;
use crate::daemon::state::held;
use crate::daemon::store::Store;
use crate::exit::Usage;

pub use self::fit::Fit;
pub use self::following::start;

/// Nodes that are left out, as `status` lists them.
const LISTED: usize = 20;

/// What every inventory that names a source has in its text.
const MARK: &str = "\"source\"";

/// The sources that agent.toml names, in the order of their precedence.
#[derive(Debug, Default)]
pub struct Sources {
    each: Vec<One>,
    /// Goes up with each answer that is another one than before.
    revision: AtomicU64,
    left_out: Mutex<Vec<LeftOut>>,
    /// Why what they list is not enforced.
    unfit: Mutex<Option<String>>,
    /// The thread that follows.
    follower: OnceLock<Thread>,
}

#[derive(Debug)]
struct One {
    settings: Settings,
    asked: Mutex<Asked>,
}

impl Sources {
    /// With what an earlier agent was answered.
    #[must_use]
    pub fn open(settings: &[Settings], store: &Store) -> Self {
        let open = |settings: &Settings| One {
            settings: settings.clone(),
            asked: Mutex::new(Asked::open(settings, store)),
        };
        Self { each: settings.iter().map(open).collect(), ..Self::default() }
    }

    /// Files with what the sources list now in their inventory, and without what they listed before. Files whose
    /// inventory cannot be understood are as they were: whoever enforces them says what is wrong. What keeps new files out
    /// only stays in them, and is found again.
    #[must_use]
    pub fn add_to(&self, files: Files) -> Files {
        let base = &files.inventory;
        if self.each.is_empty() && !base.text().contains(MARK) {
            return files;
        }
        let mut findings = Findings::default();
        let Some(read) = inventory::parse(base, &mut findings).filter(|_| !findings.refuse_enforced()) else {
            return files;
        };
        let answers: Vec<(&str, Option<Arc<Inventory>>)> =
            self.each.iter().map(|one| (&*one.settings.name, held(&one.asked).answer())).collect();
        let now = wall_time();
        let current: Vec<(&str, Inventory)> =
            answers.iter().filter_map(|(name, answer)| Some((*name, answer.as_deref()?.at(now)))).collect();
        let listed: Vec<(&str, &Inventory)> =
            current.iter().map(|(name, inventory)| (*name, inventory)).collect();
        let Composed { text, left_out } = compose(&read, &listed);
        self.tell_of(left_out);
        let inventory = Text::new(base.name(), &text);
        let named = files.named.unwrap_or_else(|| base.clone());
        Files { inventory, named: Some(named), ..files }
    }

    /// Says which nodes are left out, each once while it is.
    fn tell_of(&self, left_out: Vec<LeftOut>) {
        let mut known = held(&self.left_out);
        for LeftOut { source, node, taken, by } in left_out.iter().filter(|left| !known.contains(left)) {
            let by = by.as_ref().map_or("the inventory's file", |by| by);
            tracing::warn!("{node} of source {source} is left out: a node of {by} has {taken}");
        }
        *known = left_out;
    }

    /// Believes the next answer of a source, whatever it lacks.
    ///
    /// # Errors
    /// If there is no such source.
    pub fn accept(&self, name: &str) -> Result<bool, Usage> {
        let Some(one) = self.each.iter().find(|one| one.settings.name == name) else {
            let names: Vec<_> = self.each.iter().map(|one| &*one.settings.name).collect();
            let known = if names.is_empty() { "agent.toml has none".to_owned() } else { names.join(", ") };
            return Err(Usage(format!("there is no source {name}; sources: {known}")));
        };
        held(&one.asked).accept(&one.settings);
        Ok(true)
    }

    /// What `status` tells.
    #[must_use]
    pub fn status(&self) -> Vec<status::InventorySource> {
        let left_out = held(&self.left_out);
        let of = |one: &One| {
            let name = &one.settings.name;
            let left_out = left_out.iter().filter(|left| left.source == *name);
            let words = |left: &LeftOut| {
                let by = left.by.as_deref().unwrap_or("the inventory's file");
                format!("{}: a node of {by} has {}", left.node, left.taken)
            };
            status::InventorySource {
                name: name.clone(),
                kind: one.settings.kind.name().to_owned(),
                left_out_count: left_out.clone().count() as u64,
                left_out: left_out.take(LISTED).map(words).collect(),
                ..held(&one.asked).status()
            }
        };
        self.each.iter().map(of).collect()
    }

    /// Why what they list is not enforced, and whether whoever is gone is cut off all the same.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let why = held(&self.unfit).clone()?;
        Some(format!("what the sources list cannot be enforced, and {why}"))
    }

    /// Their names.
    fn names(&self) -> String {
        self.each.iter().map(|one| &*one.settings.name).collect::<Vec<_>>().join(", ")
    }

    /// Some source lists others than before.
    fn has_changed(&self) {
        self.revision.fetch_add(1, Ordering::Release);
        if let Some(follower) = self.follower.get() {
            follower.unpark();
        }
    }

    /// How many attributes that the last answers have are over by now.
    fn ended(&self) -> usize {
        let now = wall_time();
        let answers = self.each.iter().filter_map(|one| held(&one.asked).answer());
        answers.map(|answer| answer.ended(now)).sum()
    }

    fn revision(&self) -> u64 {
        self.revision.load(Ordering::Acquire)
    }
}
