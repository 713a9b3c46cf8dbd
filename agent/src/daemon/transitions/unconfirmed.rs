//! What is not confirmed goes back to what was, however often something else is put in its place meanwhile.

use bulkhead_api::history::Standing;
use bulkhead_dataplane::fake::Fault;

use super::world::{Agent, World, apply, keep_up};
use crate::daemon::enforcement;
use crate::daemon::enforcement::rollback::Return;
use crate::daemon::files::{Asked, Asker};
use crate::daemon::server::history::history;

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

/// What `rollback` does.
fn back(agent: &Agent, within: Option<u64>) {
    enforcement::rollback(agent, &Return { within, ..Return::default() }).unwrap().unwrap();
}

/// 82, then 80 for good, then 81, which is given up in some way: what `rollback` returns to is 82, then 80 again.
fn returns_past_what_was_given_up(give_up: impl Fn(&World, Agent) -> Agent) {
    let world = World::new();
    world.write_policy(82);
    let agent = world.started();
    world.write_policy(80);
    apply(&agent).unwrap();
    let asked = Asked { policy: Some(world.other_policy(81)), confirm: Some(600), ..Asked::default() };
    enforcement::apply(&agent, &asked).unwrap();
    let unconfirmed = agent.live().ledger.enforced;
    assert_eq!(world.settled(&agent), 81);
    let agent = give_up(&world, agent);
    assert_eq!((world.settled(&agent), agent.live().ledger.pending.is_none()), (80, true));
    let listed = history(&agent.store, &agent.live().ledger);
    let of = |standing| listed.iter().filter(move |entry| entry.standing == standing).collect::<Vec<_>>();
    assert!(of(Standing::Lapsed)[0].generation >= unconfirmed);
    assert_eq!((of(Standing::Lapsed).len(), of(Standing::Previous).len()), (1, 1));
    for port in [82, 80, 82] {
        back(&agent, None);
        assert_eq!(world.settled(&agent), port);
    }
}

#[test]
fn what_nobody_confirmed_is_nothing_to_return_to() {
    // Its time is over.
    returns_past_what_was_given_up(|_, agent| {
        end_of_time(&agent);
        agent
    });
    // So it is while no agent runs, or another boot begins.
    for boots in [false, true] {
        returns_past_what_was_given_up(|world, agent| {
            let mut ledger = agent.live().ledger.clone();
            drop(agent);
            let pending = ledger.pending.as_mut().unwrap();
            if boots {
                pending.boot = "another boot".to_owned();
            } else {
                pending.until = 0;
            }
            world.store().write_ledger(&ledger).unwrap();
            world.started_without_news()
        });
    }
    // Somebody gives it up, or goes back for a time and keeps that.
    for within in [None, Some(600)] {
        returns_past_what_was_given_up(|_, agent| {
            back(&agent, within);
            assert_eq!(enforcement::confirm(&agent, None).unwrap(), within.is_some());
            agent
        });
    }
    // Built anew while it waits.
    returns_past_what_was_given_up(|world, agent| {
        let staged = Asked { policy: Some(world.other_policy(82)), ..Asked::default() };
        enforcement::stage(&agent, &staged).unwrap();
        enforcement::unstage(&agent).unwrap();
        let unconfirmed = agent.live().ledger.enforced;
        end_of_time(&agent);
        assert_eq!(agent.live().ledger.lapsed, [unconfirmed]);
        agent
    });
}

#[test]
fn the_first_policy_that_was_confirmed_has_nothing_before_it() {
    let world = World::new();
    let agent = waiting(&world);
    end_of_time(&agent);
    assert_eq!(world.settled(&agent), 80);
    assert!(enforcement::rollback(&agent, &Return::default()).unwrap().is_none());
    // What is applied next returns to it.
    let asked = Asked { policy: Some(world.other_policy(82)), ..Asked::default() };
    enforcement::apply(&agent, &asked).unwrap();
    back(&agent, None);
    assert_eq!(world.settled(&agent), 80);
}

#[test]
fn what_follows_what_was_given_up_returns_to_what_was_confirmed() {
    let applied = |world: &World, agent: &Agent, within| {
        let asked = Asked { policy: Some(world.other_policy(82)), confirm: within, ..Asked::default() };
        enforcement::apply(agent, &asked).unwrap();
    };
    let promoted = |world: &World, agent: &Agent, within| {
        let staged = Asked { policy: Some(world.other_policy(82)), ..Asked::default() };
        enforcement::stage(agent, &staged).unwrap();
        enforcement::promote(agent, (None, within), &Asker::default()).unwrap().unwrap();
    };
    type Way<'a> = &'a dyn Fn(&World, &Agent, Option<u64>);
    let ways: [Way; 2] = [&applied, &promoted];
    for way in ways {
        for (given_up, within) in [(true, None), (true, Some(600)), (false, None), (false, Some(600))] {
            let world = World::new();
            let agent = waiting(&world);
            if given_up {
                end_of_time(&agent);
            }
            way(&world, &agent, within);
            assert_eq!(enforcement::confirm(&agent, None).unwrap(), within.is_some());
            assert_eq!(world.settled(&agent), 82);
            back(&agent, None);
            assert_eq!(world.settled(&agent), 80);
        }
    }
}

#[test]
fn a_way_back_by_number_leaves_what_was_confirmed_to_return_to() {
    let world = World::new();
    world.write_policy(82);
    let agent = world.started();
    let first = agent.live().ledger.enforced;
    world.write_policy(80);
    apply(&agent).unwrap();
    let asked = Asked { policy: Some(world.other_policy(81)), confirm: Some(600), ..Asked::default() };
    enforcement::apply(&agent, &asked).unwrap();
    enforcement::rollback(&agent, &Return { to: Some(first), ..Return::default() }).unwrap().unwrap();
    assert_eq!(world.settled(&agent), 82);
    back(&agent, None);
    assert_eq!(world.settled(&agent), 80);
}

#[test]
fn the_same_policy_again_is_nothing_to_return_to() {
    let world = World::new();
    let agent = world.started();
    world.write_policy(81);
    for _ in 0..3 {
        apply(&agent).unwrap();
    }
    back(&agent, None);
    assert_eq!(world.settled(&agent), 80);
}

#[test]
fn a_start_that_fails_confirms_nothing() {
    // The host starts again before the policy is confirmed, and the first hook refuses once.
    for at in 0.. {
        let world = World::new();
        let agent = waiting(&world);
        let mut ledger = agent.live().ledger.clone();
        drop(agent);
        world.fake.reboot();
        ledger.pending.as_mut().unwrap().boot = "another boot".to_owned();
        world.store().write_ledger(&ledger).unwrap();
        world.faults.arm(at, Fault::Refuse(libc::EPERM));
        let started = world.start();
        let is_over = at >= world.faults.taken().len();
        world.faults.clear();
        drop(started);
        assert_eq!(world.settled(&world.started_without_news()), 80, "step {at}");
        if is_over {
            break;
        }
    }
}
