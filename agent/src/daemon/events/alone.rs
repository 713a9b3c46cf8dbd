//! What a command does by itself, since no agent has answered it, is on record too.

use std::time::Duration;

use bulkhead_api::event::{Action, Actor, Control, Counted, Kind, Outcome};
use bulkhead_events::{EventHub, EventLog, Origin};

use super::timestamp;
use crate::daemon::clock::boot_time;
use crate::daemon::log::log_unsaved;
use crate::paths::Paths;

/// How long the event log is waited for.
const LIMIT: Duration = Duration::from_secs(2);

/// Tells of the end of enforcement. The caller holds the instance's locks: no agent writes meanwhile. An event log
/// that cannot be written keeps nobody locked out.
pub fn tell_detached(paths: &Paths, node: &str, before: u32) {
    let control = Control {
        action: Action::Detach,
        outcome: Outcome::Done,
        by: Actor::Command { uid: rustix::process::getuid().as_raw(), pid: std::process::id() },
        subject: None,
        detail: None,
        generation_before: before,
        generation: 0,
        policy: None,
        inventory: None,
    };
    let told = EventHub::new(node, EventLog::open(&paths.state), Vec::new()).map(|hub| {
        hub.publish(timestamp(boot_time()), Kind::Control(Box::new(control)), Counted::Events, Origin::Agent);
        hub.flush(LIMIT);
    });
    log_unsaved(told.map_err(Into::into));
}
