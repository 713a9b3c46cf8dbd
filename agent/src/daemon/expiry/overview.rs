//! What status and metrics say of what ends.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use bulkhead_api::event::{Expiring, ExpiryLevel, Timestamp};
use bulkhead_api::status::{Expires, Expiry};

use super::Limits;
use super::watch::Item;

/// How many that have not ended are listed, the soonest ones; each is a time series of metrics.
const AHEAD: usize = 48;

/// How many that have ended are, the last ones.
const OVER: usize = 16;

/// End, kind, name and begin.
type Entry<'a> = (u64, u8, &'a str, Option<u64>);

/// Counts all but what has ended long ago, and lists those whose end is nearest: first what has ended, then what is to.
pub fn overview<'a>(items: impl Iterator<Item = Item<'a>>, limits: Limits, now: u64) -> Expiry {
    let mut counts = [[0_u64; ExpiryLevel::ALL.len()]; Expiring::ALL.len()];
    let mut ahead: BinaryHeap<Entry<'_>> = BinaryHeap::with_capacity(AHEAD + 1);
    let mut over: BinaryHeap<Reverse<Entry<'_>>> = BinaryHeap::with_capacity(OVER + 1);
    for item in items {
        let of = limits.of(&item);
        let level = of.level(item.ends, now);
        // As with alarms: nobody misses it any more.
        if item.ends.saturating_add(of.warning) <= now {
            continue;
        }
        counts[item.kind as usize][level as usize] += 1;
        let entry = (item.ends, item.kind as u8, item.name, item.begins);
        if level == ExpiryLevel::Expired {
            over.push(Reverse(entry));
            if over.len() > OVER {
                over.pop();
            }
        } else if ahead.len() < AHEAD {
            ahead.push(entry);
        } else if ahead.peek().is_some_and(|last| entry < *last) {
            ahead.pop();
            ahead.push(entry);
        }
    }
    let mut nearest: Vec<_> = over.into_iter().map(|Reverse(entry)| entry).chain(ahead).collect();
    nearest.sort_unstable();
    let listed = nearest.into_iter().map(|(ends, kind, name, begins)| {
        let kind = Expiring::ALL[usize::from(kind)];
        let level = limits.of(&Item { kind, name, begins, ends }).level(ends, now);
        let (begins, ends) = (begins.map(Timestamp::from_unix), Timestamp::from_unix(ends));
        Expires { kind, name: name.to_owned(), begins, ends, level }
    });
    let of_kind = |kind: &Expiring| {
        let of_level =
            |level: &ExpiryLevel| (level.name().to_owned(), counts[*kind as usize][*level as usize]);
        (kind.name().to_owned(), ExpiryLevel::ALL.iter().map(of_level).collect())
    };
    Expiry { counts: Expiring::ALL.iter().map(of_kind).collect(), nearest: listed.collect() }
}
