//! Whether what runs was put in force on this host, and not by the fleet. Whoever has to get in while the fleet is broken
//! applies files as everywhere; that holds until it is said that it is over, whatever a clock says, and whatever else is
//! tried and given up meanwhile.

use bulkhead_api::event::Actor;
use bulkhead_dataplane::Dataplane;

use super::held;
use super::record::Record;
use crate::daemon::clock::wall_time;
use crate::daemon::state::Enforcer;
use crate::daemon::trust::Signed;

/// What a change by somebody puts aside the fleet by; none: it is the agent's or the fleet's own.
#[must_use]
pub fn aside(by: &Actor) -> Option<u64> {
    let is_somebody =
        matches!(by, Actor::Socket { .. } | Actor::Command { .. } | Actor::Signal { .. } | Actor::File);
    is_somebody.then(wall_time)
}

/// Whether a change on this host holds, and the fleet's bundles wait.
pub(super) fn is_aside<D: Dataplane>(enforcer: &Enforcer<D>) -> bool {
    let number = enforcer.live().ledger.enforced;
    let made = enforcer.store.made_of(number);
    made.is_some_and(|made| is_local(&made.signed, &held(&enforcer.setup.fleet.known).record))
}

pub(super) fn is_local(signed: &Signed, record: &Record) -> bool {
    signed.aside.is_some_and(|change| !record.over.contains(&change))
}

#[cfg(test)]
mod tests {
    use bulkhead_api::event::Actor;

    use super::{Record, Signed, aside, is_local};

    #[test]
    fn what_somebody_applied_holds_until_it_is_over() {
        let root = Actor::Socket { uid: 0, gid: 0, pid: None, comm: None, exe: None };
        assert!(aside(&root).is_some());
        assert!(
            aside(&Actor::Agent).is_none() && aside(&Actor::Fleet { name: "policy 1".to_owned() }).is_none()
        );
        let signed = |aside| Signed { aside, ..Signed::default() };
        let mut record = Record::default();
        assert!(is_local(&signed(Some(7)), &record) && !is_local(&signed(None), &record));
        record.resume([7, 5]);
        assert!(!is_local(&signed(Some(7)), &record) && !is_local(&signed(Some(5)), &record));
        // Whatever clock it was made by.
        assert!(is_local(&signed(Some(6)), &record) && is_local(&signed(Some(8)), &record));
        (0..200).for_each(|change| record.resume([change]));
        assert_eq!((record.over.len(), record.over[0]), (64, 199));
    }
}
