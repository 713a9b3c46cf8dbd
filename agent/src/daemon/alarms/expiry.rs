//! Rules, grants and keys that expire soon.

use std::collections::BTreeSet;

use bulkhead_api::event::{Rule, Timestamp};
use bulkhead_policy::inventory::Inventory;

use super::{Active, Alarms, Cause, Found, Within};

/// 24 hours, and 7 days: ns.
const DAY: u64 = 24 * 60 * 60 * 1_000_000_000;

/// Takes what expires: raises what is due, and ends what is over or has another date.
pub fn look(alarms: &Alarms, rules: &[(Rule, u64)], inventory: &Inventory, node: &str, now: u64) {
    let due = due(rules, inventory, node, now);
    let names: BTreeSet<String> = due.iter().map(|found| found.cause.name()).collect();
    let active = alarms.active();
    let is_over = |active: &&Active| {
        matches!(active.cause, Cause::RuleExpiry { .. } | Cause::KeyExpiry { .. })
            && !names.contains(&active.cause.name())
    };
    for Active { cause, detail, .. } in active.iter().filter(is_over) {
        alarms.end(&Found::plain(cause.clone(), detail.clone()));
    }
    due.iter().for_each(|found| _ = alarms.raise(found));
}

/// What expires soon: the soonest first, with the node's own key before all others.
fn due(rules: &[(Rule, u64)], inventory: &Inventory, node: &str, now: u64) -> Vec<Found> {
    let mut due = Vec::new();
    for (rule, expires) in rules {
        if let Some(within) = within(*expires, now) {
            let time = Timestamp::from_unix(*expires);
            let what = rule.title();
            let position = rule.position.as_ref().map(|at| format!(" at {at}")).unwrap_or_default();
            let cause = Cause::RuleExpiry { rule: rule.clone(), expires: time, within };
            let words = format!("{what}{position} expires {}, within {}", time.milliseconds(), within.name());
            due.push((false, *expires, Found::plain(cause, words)));
        }
    }
    for other in &inventory.nodes {
        if let Some(expires) = other.expires
            && let Some(within) = within(expires, now)
        {
            let time = Timestamp::from_unix(expires);
            let cause = Cause::KeyExpiry { node: other.name.clone(), expires: time, within };
            let words = format!(
                "the key of node {} expires {}, within {}",
                other.name,
                time.milliseconds(),
                within.name()
            );
            due.push((other.name != node, expires, Found::plain(cause, words)));
        }
    }
    due.sort_by_key(|(is_other, expires, _)| (*is_other, *expires));
    due.into_iter().map(|(.., found)| found).collect()
}

/// How soon that is; none: not soon, or it has been.
fn within(expires: u64, now: u64) -> Option<Within> {
    match expires.checked_sub(now) {
        Some(1..=DAY) => Some(Within::Day),
        Some(left) if left > DAY && left <= 7 * DAY => Some(Within::Week),
        _ => None,
    }
}
