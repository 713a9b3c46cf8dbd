//! The expiry watch: what ends at a time that is known before, and who is to hear of it.
//!
//! ```text
//! rules, nodes of the running generation ─┐
//! Endings::put (certificates, …) ─────────┼─ watch (pure) ─ alarms of kind `expiry`
//! grants ─────────────────────────────────┘              └─ status, metrics
//! ```
//!
//! To plug in a source of endings, call [`Endings::put`] with all that it knows whenever that changes; nothing else is
//! needed.

mod endings;
mod known;
mod look;
mod overview;
mod watch;

#[cfg(test)]
mod tests;

use bulkhead_api::status::Expiry;

use self::known::Known;
use self::overview::overview;
use crate::config::ExpiryLimits as Limits;
use crate::daemon::clock::wall_time;
use crate::daemon::state::Enforcer;

pub use self::endings::{Ending, Endings};
pub use self::look::Watch;

impl Watch {
    /// Looks, if something may be to be told.
    pub fn run(&mut self, enforcer: &Enforcer, limits: Limits) {
        let Some(alarms) = &enforcer.shared.alarms else { return };
        let (now, endings) = (wall_time(), &enforcer.shared.endings);
        let generation = enforcer.live().built.number;
        if self.is_due(generation, endings, now) {
            let (known, generation) = known(enforcer);
            let node = &enforcer.setup.options.node;
            self.look(alarms, &known, (generation, endings), (node, limits), now);
        }
    }
}

fn known(enforcer: &Enforcer) -> (Known, u32) {
    let (rules, inventory, generation) = {
        let built = &enforcer.live().built;
        (built.watched.expiring.clone(), built.inventory.clone(), built.number)
    };
    (Known::new(&rules, inventory, &enforcer.shared.endings), generation)
}

/// The same for status.
pub fn status(enforcer: &Enforcer) -> Expiry {
    let limits = enforcer.setup.config.alarms.as_ref().map(|alarms| alarms.expiry).unwrap_or_default();
    let (known, _) = known(enforcer);
    let grants = enforcer.setup.options.grants.endings();
    overview(known.items().chain(grants.iter().map(Ending::item)), limits, wall_time())
}
