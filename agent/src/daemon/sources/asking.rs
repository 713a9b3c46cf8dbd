//! The thread that asks one source.

use std::sync::Arc;

use bulkhead_sources::ask;

use super::One;
use super::state::Heard;
use crate::daemon::alarms::{Cause, Found};
use crate::daemon::state::{Enforcer, held};

/// Asks a source again and again.
pub(super) fn start(enforcer: &Arc<Enforcer>, index: usize) -> std::io::Result<()> {
    let enforcer = enforcer.clone();
    let run = move || {
        while !enforcer.live().detached {
            let sources = &enforcer.setup.sources;
            let one = &sources.each[index];
            // Not held while it is asked.
            held(&one.asked).begin();
            let answer = ask(&one.settings);
            let heard = held(&one.asked).hear(&one.settings, answer, &enforcer.store);
            if heard == Heard::New {
                sources.has_changed();
            }
            alarm(&enforcer, one);
            std::thread::sleep(one.settings.every);
        }
    };
    std::thread::Builder::new().name("source".to_owned()).spawn(run).map(drop)
}

/// Raises the alarm that a source changes nothing, or ends it.
fn alarm(enforcer: &Enforcer, one: &One) {
    let Some(alarms) = &enforcer.shared.alarms else { return };
    let name = &one.settings.name;
    let cause = Cause::Source { name: name.clone() };
    match held(&one.asked).problem() {
        Some(problem) => {
            let words = format!("source {name} changes nothing, and its last answer stands: {problem}");
            alarms.raise(&Found::plain(cause, words));
        }
        None => alarms.end(&Found::plain(cause, String::new())),
    }
}
