//! Which of what ends is to be told of at a moment, and when that is to be asked again. No clock, no I/O.
//!
//! What ends in the same hour is one alarm, with a count and the first names: a fleet whose keys were made together is
//! renewed together. What lives for less than some days is told of by the minute or the second.

use std::collections::{BTreeMap, HashMap};

use bulkhead_api::event::{Expiring, ExpiryLevel, Timestamp};

use super::Limits;

/// Second, minute, hour and day: ns.
const SECOND: u64 = 1_000_000_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// Names that an alarm has.
const NAMES: usize = 8;

/// Alarms of one level that have a group of their own. Of what is beyond there is one for each kind.
const GROUPS: usize = 16;

/// A clock that is set back by less than such a part of a limit changes nothing that was told.
const SLACK: u64 = 24;

/// Something that ends, as [`Ending`](super::Ending).
#[derive(Clone, Copy, Debug)]
pub struct Item<'a> {
    /// What it is.
    pub kind: Expiring,
    /// Its name.
    pub name: &'a str,
    /// Since when, ns since the Unix epoch.
    pub begins: Option<u64>,
    /// Until when, ns since the Unix epoch.
    pub ends: u64,
}

/// What ends about the same time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// What it is.
    pub kind: Expiring,
    /// The hour, minute or second in which it ends, UTC; `later`: what has no group of its own.
    pub at: String,
    /// How near the first end is.
    pub level: ExpiryLevel,
    /// The first end, ns since the Unix epoch.
    pub first: u64,
    /// The last.
    pub last: u64,
    /// How many.
    pub count: u64,
    /// The first names: this host's before others, the soonest before later ones.
    pub names: Vec<String>,
    is_own: bool,
}

/// A group that was told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct On {
    /// As [`Group`] has it.
    pub kind: Expiring,
    /// As [`Group`] has it.
    pub at: String,
    /// As [`Group`] has it.
    pub level: ExpiryLevel,
}

/// What is to be on, the nearest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// Groups.
    pub groups: Vec<Group>,
    /// When another answer may be right, ns since the Unix epoch; `u64::MAX`: not by time.
    pub next: u64,
}

/// Where ends are put together.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Place {
    kind: Expiring,
    /// ns.
    width: u64,
    number: u64,
}

struct Gathered<'a> {
    level: ExpiryLevel,
    /// The least time by which the clock would be set back if what was told were no longer so.
    held: ExpiryLevel,
    count: u64,
    first: u64,
    last: u64,
    /// Not this host's, end, name.
    names: Vec<(bool, u64, &'a str)>,
}

/// What is told of now. `own` is this host's node, and `on` what was told before.
pub fn due<'a>(items: impl Iterator<Item = Item<'a>>, own: &str, limits: Limits, on: &[On], now: u64) -> Due {
    let mut next = u64::MAX;
    let mut soon = |time: u64| next = if time > now { next.min(time) } else { next };
    let mut gathered: HashMap<Place, Gathered<'a>> = HashMap::new();
    for item in items.filter(|item| item.kind != Expiring::Grant) {
        let of = limits.of(&item);
        let width = of.width();
        // Nobody misses what has been over for so long.
        if item.ends.saturating_add(of.warning) <= now {
            continue;
        }
        let joins = item.ends.saturating_sub(of.warning.saturating_add(width));
        if joins > now.saturating_add(of.warning / SLACK) {
            soon(joins.saturating_sub(of.warning / SLACK));
            continue;
        }
        [joins, item.ends.saturating_sub(of.warning), item.ends.saturating_sub(of.critical), item.ends]
            .into_iter()
            .chain([item.ends.saturating_add(of.warning)])
            .for_each(&mut soon);
        let place = Place { kind: item.kind, width, number: item.ends / width };
        let group = gathered.entry(place).or_insert_with(Gathered::new);
        group.add(&item, of.level(item.ends, now), of.held(item.ends, now), is_of(item.name, own));
    }
    let told: HashMap<(Expiring, &str), ExpiryLevel> =
        on.iter().map(|on| ((on.kind, on.at.as_str()), on.level)).collect();
    let groups = gathered.into_iter().filter_map(|(place, gathered)| {
        let at = place.text();
        let told = told.get(&(place.kind, at.as_str())).copied();
        gathered.group(place.kind, at, told)
    });
    Due { groups: bounded(groups.collect()), next }
}

/// Whether a name is this host's, or one of its workloads'.
fn is_of(name: &str, own: &str) -> bool {
    name.strip_prefix(own).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl Place {
    fn text(&self) -> String {
        let start = Timestamp::from_unix(self.number.saturating_mul(self.width)).milliseconds();
        let letters = match self.width {
            HOUR => "2026-12-01T13".len(),
            MINUTE => "2026-12-01T13:05".len(),
            _ => "2026-12-01T13:05:07".len(),
        };
        start.get(..letters).unwrap_or(&start).to_owned()
    }
}

impl Limits {
    /// Of something: what holds shortly is told of once a third of its time is left, and urgently at a sixth.
    #[must_use]
    pub fn of(&self, item: &Item<'_>) -> Self {
        let life = item.begins.and_then(|begins| item.ends.checked_sub(begins));
        let Some(life) = life.filter(|life| *life > 0) else { return *self };
        Self { warning: self.warning.min(life / 3), critical: self.critical.min(life / 6) }
    }

    /// How near an end is.
    #[must_use]
    pub fn level(&self, ends: u64, now: u64) -> ExpiryLevel {
        match ends.checked_sub(now) {
            None | Some(0) => ExpiryLevel::Expired,
            Some(left) if left <= self.critical => ExpiryLevel::Critical,
            Some(left) if left <= self.warning => ExpiryLevel::Warning,
            Some(_) => ExpiryLevel::Ok,
        }
    }

    /// The same, if the clock had not been set back a little.
    fn held(&self, ends: u64, now: u64) -> ExpiryLevel {
        let left = ends.saturating_sub(now);
        let is_within = |limit: u64, of: u64| left <= limit.saturating_add(of / SLACK);
        if is_within(0, self.critical) {
            ExpiryLevel::Expired
        } else if is_within(self.critical, self.critical) {
            ExpiryLevel::Critical
        } else if is_within(self.warning, self.warning) {
            ExpiryLevel::Warning
        } else {
            ExpiryLevel::Ok
        }
    }

    /// Ends within so long are told of together, ns.
    fn width(&self) -> u64 {
        match self.warning {
            DAY.. => HOUR,
            time if time >= 10 * MINUTE => MINUTE,
            _ => SECOND,
        }
    }
}

fn nearer(one: ExpiryLevel, other: ExpiryLevel) -> ExpiryLevel {
    if one as u8 >= other as u8 { one } else { other }
}

impl<'a> Gathered<'a> {
    fn new() -> Self {
        let level = ExpiryLevel::Ok;
        Self { level, held: level, count: 0, first: u64::MAX, last: 0, names: Vec::new() }
    }

    fn add(&mut self, item: &Item<'a>, level: ExpiryLevel, held: ExpiryLevel, is_own: bool) {
        self.level = nearer(self.level, level);
        self.held = nearer(self.held, held);
        self.count += 1;
        self.first = self.first.min(item.ends);
        self.last = self.last.max(item.ends);
        let entry = (!is_own, item.ends, item.name);
        let place = self.names.partition_point(|known| *known < entry);
        if place < NAMES {
            self.names.truncate(NAMES - 1);
            self.names.insert(place, entry);
        }
    }

    /// The group, unless nothing of it is near.
    fn group(self, kind: Expiring, at: String, told: Option<ExpiryLevel>) -> Option<Group> {
        let Self { level, held, count, first, last, names } = self;
        let level = match told {
            Some(told) if told as u8 > level as u8 && told as u8 <= held as u8 => told,
            _ => level,
        };
        let is_own = names.first().is_some_and(|(is_other, ..)| !is_other);
        let names = names.into_iter().map(|(.., name)| name.to_owned()).collect();
        (level != ExpiryLevel::Ok).then_some(Group { kind, at, level, first, last, count, names, is_own })
    }
}

/// Groups in the order in which they are told, and no more than alarms have room for.
fn bounded(mut groups: Vec<Group>) -> Vec<Group> {
    groups.sort_by(|one, other| {
        let key = |group: &Group| (u8::MAX - group.level as u8, !group.is_own, group.first, group.kind as u8);
        (key(one), &one.at).cmp(&(key(other), &other.at))
    });
    let mut own: HashMap<u8, usize> = HashMap::new();
    let mut rest: BTreeMap<(u8, u8), Group> = BTreeMap::new();
    let mut kept = Vec::new();
    for group in groups {
        let count = own.entry(group.level as u8).or_default();
        *count += 1;
        if *count <= GROUPS {
            kept.push(group);
            continue;
        }
        match rest.entry((u8::MAX - group.level as u8, group.kind as u8)) {
            std::collections::btree_map::Entry::Vacant(place) => {
                place.insert(Group { at: "later".to_owned(), ..group });
            }
            std::collections::btree_map::Entry::Occupied(mut place) => {
                let into = place.get_mut();
                into.count += group.count;
                into.last = into.last.max(group.last);
                into.first = into.first.min(group.first);
                into.names.extend(group.names);
                into.names.truncate(NAMES);
            }
        }
    }
    kept.extend(rest.into_values());
    kept
}

impl Group {
    /// What is told of it, at a time.
    #[must_use]
    pub fn words(&self, now: u64) -> String {
        let time = |ns| Timestamp::from_unix(ns).milliseconds();
        let is_over = self.level == ExpiryLevel::Expired;
        let within = format!("within {}", left(self.first.saturating_sub(now)));
        if let (1, [name]) = (self.count, &self.names[..]) {
            let what = match self.kind {
                Expiring::Rule => name.clone(),
                Expiring::NodeKey => format!("the key of node {name}"),
                Expiring::Workload => format!("workload {name}"),
                Expiring::Certificate => format!("certificate {name}"),
                Expiring::Grant => format!("grant {name}"),
            };
            return if is_over {
                format!("{what} has expired: it ended {}", time(self.first))
            } else {
                format!("{what} expires {}, {within}", time(self.first))
            };
        }
        let what = match self.kind {
            Expiring::Rule => "rules",
            Expiring::NodeKey => "keys of nodes",
            Expiring::Workload => "workloads",
            Expiring::Certificate => "certificates",
            Expiring::Grant => "grants",
        };
        let more = self.count.saturating_sub(self.names.len() as u64);
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        let when = if is_over { "the first of them already".to_owned() } else { within };
        format!(
            "{} {what} expire from {} to {}, {when}: {}{more}",
            self.count,
            time(self.first),
            time(self.last),
            self.names.join(", ")
        )
    }

    /// Whether it has somebody who was not told of when it had so many, of whom these were the first. Of more than an
    /// alarm names, only twice as many are news.
    #[must_use]
    pub fn has_more_than(&self, count: u64, names: &[String]) -> bool {
        let most = NAMES as u64;
        if count > most {
            return self.count >= 2 * count;
        }
        self.count > most || self.names.iter().any(|name| !names.contains(name))
    }
}

/// A time that is left, in words, rounded up.
fn left(ns: u64) -> String {
    let units = [(DAY, "days"), (HOUR, "hours"), (MINUTE, "minutes")];
    let unit = units.into_iter().find(|(unit, _)| ns > 2 * unit).unwrap_or((SECOND, "seconds"));
    format!("{} {}", ns.div_ceil(unit.0), unit.1)
}
