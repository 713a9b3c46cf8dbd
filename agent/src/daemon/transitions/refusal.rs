//! The kernel, nftables or the disk refuses one step of a change: it is made or it is not, and never less was
//! enforced than before.

use bulkhead_api::quarantine::Request as Quarantine;
use bulkhead_dataplane::fake::Fault;

use super::world::{Agent, INTRUDER, World, apply, keep_up, refuse_everywhere};
use crate::daemon::enforcement::rollback::Return;
use crate::daemon::files::{Asked, Asker};
use crate::daemon::{enforcement, quarantine};

/// No privilege, no room, once and from then on; what the verifier says to a program that it refuses.
const FAULTS: [Fault; 4] = [
    Fault::Refuse(libc::EPERM),
    Fault::Refuse(libc::ENOSPC),
    Fault::RefuseOn(libc::ENOSPC),
    Fault::Refuse(libc::EACCES),
];

fn changed(world: &World) -> Agent {
    let agent = world.started();
    world.write_policy(81);
    agent
}

/// An answer is what is enforced: the new policy if it says so, else the old one; then and ever after.
fn is_consistent(old: u16, new: u16) -> impl Fn(&World, Agent, anyhow::Result<()>) {
    move |world, agent, answer| {
        world.never_less();
        let is_mixed = agent.live().mixed;
        keep_up(&agent);
        world.never_less();
        let port = world.enforced(&agent);
        assert!(is_mixed || port == if answer.is_ok() { new } else { old }, "{port} after {answer:?}");
        drop(agent);
        let agent = world.started_without_news();
        assert_eq!(world.settled(&agent), port);
        world.never_less();
    }
}

#[test]
fn an_apply_is_made_or_refused() {
    refuse_everywhere(&FAULTS, changed, |_, agent| apply(agent), is_consistent(80, 81));
}

#[test]
fn a_rollback_is_made_or_refused() {
    let prepare = |world: &World| {
        let agent = changed(world);
        apply(&agent).unwrap();
        agent
    };
    let rollback = |_: &World, agent: &mut Agent| {
        enforcement::rollback(agent, &Return::default()).map(|done| assert!(done.is_some()))
    };
    refuse_everywhere(&FAULTS, prepare, rollback, is_consistent(81, 80));
}

#[test]
fn a_promotion_is_made_or_refused() {
    let prepare = |world: &World| {
        let agent = changed(world);
        enforcement::stage(&agent, &Asked::default()).unwrap();
        world.write_policy(80);
        agent
    };
    let promote =
        |_: &World, agent: &mut Agent| enforcement::promote(agent, (None, None), &Asker::default()).map(drop);
    refuse_everywhere(&FAULTS, prepare, promote, is_consistent(80, 81));
}

#[test]
fn a_quarantine_that_is_answered_for_is_in_force() {
    let cut = |_: &World, agent: &mut Agent| {
        let request = Quarantine { subject: "b".to_owned(), seconds: None, reason: None };
        quarantine::quarantine(agent, &request).map(|answer| assert!(answer.done))
    };
    refuse_everywhere(&FAULTS, World::started, cut, |world, agent, answer| {
        let is_cut_off = || world.fake.is_cut_off(INTRUDER.parse().unwrap());
        assert!(answer.is_err() || is_cut_off());
        keep_up(&agent);
        assert!(answer.is_err() || is_cut_off());
        assert_eq!(world.settled(&agent), 80);
        drop(agent);
        let listed = std::fs::read_to_string(world.setup.paths.state.join("quarantine.json")).unwrap();
        assert!(listed.contains(INTRUDER), "it is on disk once that takes it");
        let agent = world.started();
        assert!(is_cut_off());
        world.settled(&agent);
        world.never_less();
    });
}

#[test]
fn a_start_is_made_or_refused_and_made_again() {
    let start = |world: &World, (): &mut ()| world.start().map(|agent| agent.unwrap());
    refuse_everywhere(
        &FAULTS,
        |_| (),
        start,
        |world, (), agent| {
            if let Ok(agent) = agent {
                keep_up(&agent);
                assert_eq!(world.settled(&agent), 80);
            }
            let agent = world.started();
            assert_eq!(world.settled(&agent), 80);
        },
    );
}

#[test]
fn a_takeover_that_is_refused_leaves_what_was_enforced() {
    let old = |world: &World| {
        drop(world.started());
        world.fake.age(&world.setup.paths.pins);
    };
    let start = |world: &World, (): &mut ()| world.start().map(|agent| agent.unwrap());
    refuse_everywhere(&FAULTS, old, start, |world, (), agent| {
        world.never_less();
        if let Ok(agent) = agent {
            keep_up(&agent);
            assert_eq!(world.settled(&agent), 80);
        }
        let agent = world.started();
        assert_eq!(world.settled(&agent), 80);
        world.never_less();
    });
}

#[test]
fn a_detach_that_is_refused_can_be_asked_for_again() {
    let detach = |_: &World, agent: &mut Agent| enforcement::detach(agent).map(drop);
    refuse_everywhere(&FAULTS, World::started, detach, |world, agent, answer| {
        assert!(answer.is_err() || world.fake.now().is_empty());
        enforcement::detach(&agent).unwrap();
        assert!(world.fake.now().is_empty() && world.fake.pinned(&world.setup.paths.pins).is_empty());
        assert!(world.nft.table().is_none());
    });
}

#[test]
fn a_confirmation_that_is_refused_still_waits() {
    let prepare = |world: &World| {
        let agent = changed(world);
        enforcement::apply(&agent, &Asked { confirm: Some(600), ..Asked::default() }).unwrap();
        agent
    };
    let confirm = |_: &World, agent: &mut Agent| enforcement::confirm(agent, None).map(|done| assert!(done));
    refuse_everywhere(&FAULTS, prepare, confirm, |world, agent, answer| {
        keep_up(&agent);
        assert_eq!(agent.live().ledger.pending.is_some(), answer.is_err());
        drop(agent);
        let agent = world.started();
        assert_eq!((world.settled(&agent), agent.live().ledger.pending.is_some()), (81, answer.is_err()));
    });
}
