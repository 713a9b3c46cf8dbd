//! Whether what runs was put in force on this host, and not by the fleet. Whoever has to get in while the fleet is broken
//! applies files as everywhere; that holds until it is said that it is over.

use bulkhead_api::event::{Action, Actor};
use bulkhead_api::history::Origin;
use bulkhead_dataplane::Dataplane;

use super::held;
use crate::daemon::state::Enforcer;

/// The change on this host that holds; none: the fleet's bundles are enforced.
pub(super) fn change<D: Dataplane>(enforcer: &Enforcer<D>) -> Option<Origin> {
    let number = enforcer.live().ledger.enforced;
    let origin = enforcer.store.origin(number)?;
    let resumed = held(&enforcer.setup.fleet.known).record.resumed;
    is_local(&origin, resumed).then_some(origin)
}

pub(super) fn is_local(origin: &Origin, resumed: u64) -> bool {
    let by_somebody = matches!(
        origin.by,
        Actor::Socket { .. } | Actor::Command { .. } | Actor::Signal { .. } | Actor::File
    );
    let is_change = matches!(origin.action, Action::Apply | Action::Rollback | Action::Promote);
    by_somebody && is_change && origin.time > resumed
}

#[cfg(test)]
mod tests {
    use bulkhead_api::event::{Action, Actor};
    use bulkhead_api::history::{Origin, Summary};

    use super::is_local;

    #[test]
    fn what_somebody_applied_holds_until_it_is_over() {
        let root = || Actor::Socket { uid: 0, gid: 0, pid: None, comm: None, exe: None };
        let origin = |action, by| Origin { action, by, time: 5, difference: Summary::default() };
        assert!(is_local(&origin(Action::Apply, root()), 0));
        assert!(is_local(&origin(Action::Rollback, root()), 4));
        assert!(!is_local(&origin(Action::Apply, root()), 5));
        // What a host begins with, what the fleet does, and what it goes back to by itself.
        assert!(!is_local(&origin(Action::Start, Actor::Agent), 0));
        assert!(!is_local(&origin(Action::Apply, Actor::Fleet { name: "policy 1".to_owned() }), 0));
        assert!(!is_local(&origin(Action::Rollback, Actor::Agent), 0));
    }
}
