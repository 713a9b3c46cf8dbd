//! What a command does by itself, since no agent has answered it, is on record too.

use std::sync::Arc;
use std::time::Duration;

use bulkhead_api::event::{Action, Actor, Counted};
use bulkhead_events::{EventHub, EventLog, Keep, Origin};

use super::control::Change;
use super::facts::HostFacts;
use super::timestamp;
use crate::daemon::clock::boot_time;
use crate::daemon::log::log_unsaved;
use crate::daemon::store::Store;
use crate::paths::Paths;

/// How long the event log is waited for.
const LIMIT: Duration = Duration::from_secs(2);

/// Tells of the end of enforcement. The caller holds the instance's locks: no agent writes meanwhile. An event log
/// that cannot be written keeps nobody locked out.
pub fn tell_detached(paths: &Paths, node: &str, before: u32) {
    let by = Actor::Command { uid: rustix::process::getuid().as_raw(), pid: std::process::id() };
    let change = Change { by, ..Change::by_agent(Action::Detach, before, None) };
    let facts = Arc::new(HostFacts::new(Store::new(&paths.state)));
    let told =
        EventHub::new(node, EventLog::open(&paths.state, node, Keep::ALL, facts), Vec::new()).map(|hub| {
            hub.publish(
                timestamp(boot_time()),
                change.event(0, [None, None]),
                Counted::Events,
                Origin::Agent,
            );
            hub.sign(LIMIT);
        });
    log_unsaved(told.map_err(Into::into));
}
