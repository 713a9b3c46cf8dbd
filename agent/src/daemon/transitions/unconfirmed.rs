//! What is not confirmed goes back to what was, however often something else is put in its place meanwhile.

use super::world::{Agent, World, keep_up};
use crate::daemon::enforcement;
use crate::daemon::enforcement::rollback::Return;
use crate::daemon::files::{Asked, Asker};

/// A policy that waits for its confirmation, in the place of one that was confirmed.
fn waiting(world: &World) -> Agent {
    let agent = world.started();
    let asked = Asked { policy: Some(world.other_policy(81)), confirm: Some(600), ..Asked::default() };
    assert!(enforcement::apply(&agent, &asked).unwrap().applied);
    assert_eq!(world.settled(&agent), 81);
    agent
}

/// The time is over.
fn end_of_time(agent: &Agent) {
    agent.live().ledger.pending.as_mut().expect("it waits for its confirmation").until = 0;
    keep_up(agent);
}

#[test]
fn whatever_follows_goes_back_to_what_was_confirmed() {
    let rollback = |_: &World, agent: &Agent| {
        let to = agent.live().ledger.previous;
        for to in [None, to] {
            let way = Return { to, within: Some(600), ..Return::default() };
            assert!(enforcement::rollback(agent, &way).unwrap().unwrap().applied);
        }
    };
    let apply = |world: &World, agent: &Agent| {
        let policy = Some(world.other_policy(82));
        let asked = Asked { policy, confirm: Some(600), ..Asked::default() };
        assert!(enforcement::apply(agent, &asked).unwrap().applied);
    };
    let promote = |world: &World, agent: &Agent| {
        let staged = Asked { policy: Some(world.other_policy(82)), ..Asked::default() };
        enforcement::stage(agent, &staged).unwrap();
        enforcement::promote(agent, (None, Some(600)), &Asker::default()).unwrap().unwrap();
    };
    type Way<'a> = &'a dyn Fn(&World, &Agent);
    let ways: [Way; 3] = [&rollback, &apply, &promote];
    for (number, way) in ways.into_iter().enumerate() {
        let world = World::new();
        let agent = waiting(&world);
        way(&world, &agent);
        end_of_time(&agent);
        assert_eq!(world.settled(&agent), 80, "way {number}");
        assert!(agent.live().ledger.pending.is_none());
        // And it stays, over a restart.
        drop(agent);
        assert_eq!(world.settled(&world.started_without_news()), 80, "way {number}");
    }
}

#[test]
fn a_way_back_from_what_is_not_confirmed_needs_no_confirmation_unless_asked_for() {
    let world = World::new();
    let agent = waiting(&world);
    assert!(enforcement::rollback(&agent, &Return::default()).unwrap().unwrap().applied);
    assert_eq!((world.settled(&agent), agent.live().ledger.pending.is_none()), (80, true));
}
