//! Times without enforcement: they begin when the kernel last said that all was well, and end when it says
//! so again.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bulkhead_api::event::{Effect, Timestamp, Unenforced};
use serde::{Deserialize, Serialize};

use crate::daemon::clock::{BootClock, boot_id, boot_time};

/// How often it is noted for the next agent that all is well.
const NOTE: Duration = Duration::from_secs(1);

/// A time without enforcement.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Gap {
    since: u64,
    cause: String,
    effect: Effect,
    agent: bool,
}

/// When each thing was last well, in ns since boot, for the agent that comes next. It lies where a reboot
/// removes it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Noted {
    boot: String,
    well: BTreeMap<String, u64>,
}

/// What is not enforced now, and since when; by interface, and `guard`.
#[derive(Debug)]
pub struct Gaps {
    well: BTreeMap<String, u64>,
    open: BTreeMap<String, Gap>,
    /// Of those that have ended, ns.
    ended: BTreeMap<String, u64>,
    file: PathBuf,
    noted: Option<Instant>,
}

impl Gaps {
    /// None yet. What an earlier agent noted beside the socket is known.
    #[must_use]
    pub fn new(socket: &Path) -> Self {
        Self {
            well: BTreeMap::new(),
            open: BTreeMap::new(),
            ended: BTreeMap::new(),
            file: file_beside(socket),
            noted: None,
        }
    }

    /// Something was asked for at `asked`, in ns since boot, and is well or not there. The time that ends by it,
    /// and when.
    pub fn well(&mut self, what: &str, asked: u64, generation: u32) -> Option<(Timestamp, Unenforced)> {
        match self.well.get_mut(what) {
            Some(time) => *time = asked,
            None => drop(self.well.insert(what.to_owned(), asked)),
        }
        let Gap { since, cause, effect, agent } = self.open.remove(what)?;
        let (clock, until) = (BootClock::now(), boot_time());
        *self.ended.entry(what.to_owned()).or_default() += until.saturating_sub(since);
        let unenforced = Unenforced {
            interface: what.to_owned(),
            since: clock.timestamp(since),
            milliseconds: until.saturating_sub(since).div_ceil(1_000_000),
            cause,
            effect,
            generation,
            agent,
        };
        Some((clock.timestamp(until), unenforced))
    }

    /// Something was asked for at `asked` and is not enforced; true if it was until now. Of several causes the
    /// first is told, of several effects the worst.
    pub fn bad(&mut self, what: &str, asked: u64, cause: &str, effect: Effect) -> bool {
        if let Some(gap) = self.open.get_mut(what) {
            gap.effect = gap.effect.max(effect);
            return false;
        }
        let since = self.well.get(what).copied().unwrap_or(asked);
        self.open.insert(what.to_owned(), Gap { since, cause: cause.to_owned(), effect, agent: true });
        true
    }

    /// Something is not enforced that an earlier agent left enforced; nothing is known if that is not on record.
    pub fn found(&mut self, what: &str, cause: &str, effect: Effect) {
        let noted: Option<Noted> =
            fs::read(&self.file).ok().and_then(|text| serde_json::from_slice(&text).ok());
        let since =
            noted.filter(|noted| noted.boot == boot_id()).and_then(|noted| noted.well.get(what).copied());
        if let Some(since) = since {
            let gap = Gap { since, cause: cause.to_owned(), effect, agent: false };
            self.open.insert(what.to_owned(), gap);
        }
    }

    /// Nanoseconds without enforcement, by interface and of the guard; those that go on included.
    #[must_use]
    pub fn nanoseconds(&self) -> BTreeMap<String, u64> {
        let now = boot_time();
        let mut all: BTreeMap<String, u64> = self.well.keys().map(|what| (what.clone(), 0)).collect();
        let open = self.open.iter().map(|(what, gap)| (what, now.saturating_sub(gap.since)));
        for (what, time) in self.ended.iter().map(|(what, time)| (what, *time)).chain(open) {
            *all.entry(what.clone()).or_default() += time;
        }
        all
    }

    /// Whether something is not enforced.
    #[must_use]
    pub fn any(&self) -> bool {
        !self.open.is_empty()
    }

    /// Notes for the next agent what is well. A file system that refuses costs that agent its knowledge, no more.
    pub fn note(&mut self) {
        if self.noted.is_some_and(|noted| noted.elapsed() < NOTE) {
            return;
        }
        self.noted = Some(Instant::now());
        let noted = Noted { boot: boot_id(), well: self.well.clone() };
        let next = self.file.with_extension("next");
        let written = serde_json::to_vec(&noted).map_err(Into::into).and_then(|text| fs::write(&next, text));
        if written.is_ok() {
            let _ = fs::rename(next, &self.file);
        }
    }
}

/// The note's place.
fn file_beside(socket: &Path) -> PathBuf {
    socket.with_file_name("enforced.json")
}

#[cfg(test)]
mod tests {
    use super::{Effect, Gaps};
    use crate::daemon::clock::boot_time;

    #[test]
    fn a_time_without_enforcement_begins_when_all_was_well_last() {
        let directory = tempfile();
        let mut gaps = Gaps::new(&directory.join("agent.sock"));
        let asked = boot_time() - 500_000_000;
        assert!(gaps.well("wg0", asked, 1).is_none());
        assert!(gaps.bad("wg0", asked + 9, "detached", Effect::Closed) && gaps.any());
        assert!(!gaps.bad("wg0", asked + 10, "again", Effect::Open), "it is one time");
        let (_, report) = gaps.well("wg0", asked + 11, 7).unwrap();
        assert!((500..1500).contains(&report.milliseconds), "{report:?}");
        assert_eq!((&*report.cause, report.effect, report.generation), ("detached", Effect::Open, 7));
        assert!(gaps.well("wg0", asked + 12, 7).is_none() && !gaps.any());
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn the_next_agent_knows_when_all_was_well_last() {
        let directory = tempfile();
        let socket = directory.join("agent.sock");
        let mut first = Gaps::new(&socket);
        first.well("wg0", boot_time() - 2_000_000_000, 1);
        first.note();
        let mut next = Gaps::new(&socket);
        next.found("wg0", "detached", Effect::Open);
        next.found("wg1", "detached", Effect::Open);
        let (_, report) = next.well("wg0", boot_time(), 2).unwrap();
        assert!(!report.agent && (2000..3000).contains(&report.milliseconds), "{report:?}");
        assert!(next.well("wg1", boot_time(), 2).is_none(), "nothing is known of it");
        std::fs::remove_dir_all(directory).unwrap();
    }

    fn tempfile() -> std::path::PathBuf {
        let directory =
            std::env::temp_dir().join(format!("bulkhead-gaps-{}-{}", std::process::id(), boot_time()));
        std::fs::create_dir_all(&directory).unwrap();
        directory
    }
}
