//! What can be returned to, promoted and confirmed: what was in force, in the mode that is in force, and what is meant.

use bulkhead_api::mode::Mode;
use bulkhead_dataplane::fake::Fault;

use super::world::{Agent, World, apply, crash_everywhere};
use crate::daemon::enforcement;
use crate::daemon::enforcement::rollback::Return;
use crate::daemon::files::{Asked, Asker};
use crate::exit::Usage;

fn to(agent: &Agent, number: u32) -> anyhow::Result<Option<bulkhead_api::request::Applied>> {
    enforcement::rollback(agent, &Return { to: Some(number), ..Return::default() })
}

fn other(world: &World, port: u16) -> Asked {
    Asked { policy: Some(world.other_policy(port)), ..Asked::default() }
}

#[test]
fn what_was_only_staged_is_nothing_to_return_to() {
    let world = World::new();
    let agent = world.started();
    enforcement::stage(&agent, &other(&world, 81)).unwrap();
    let staged = agent.live().ledger.staged.unwrap();
    for unstaged in [false, true] {
        if unstaged {
            enforcement::unstage(&agent).unwrap();
        }
        let refused = to(&agent, staged).unwrap_err();
        assert!(refused.is::<Usage>() && refused.to_string().contains("never in force"), "{refused}");
        assert_eq!(world.settled(&agent), 80);
    }
    // One that was in force is.
    let first = agent.live().ledger.enforced;
    world.write_policy(82);
    apply(&agent).unwrap();
    to(&agent, first).unwrap().unwrap();
    assert_eq!(world.settled(&agent), 80);
}

#[test]
fn what_was_refused_is_nothing_to_return_to() {
    let mut refused = 0;
    for at in 0.. {
        let world = World::new();
        let agent = world.started();
        world.faults.arm(at, Fault::Refuse(libc::EPERM));
        let answer = enforcement::apply(&agent, &other(&world, 81));
        let taken = world.faults.taken();
        let is_over = at >= taken.len();
        world.faults.clear();
        if answer.is_err() && !agent.live().mixed {
            refused += 1;
            let enforced = agent.live().ledger.enforced;
            for number in enforced + 1..enforced + 4 {
                assert!(
                    to(&agent, number).is_err(),
                    "generation {number} at step {at} of {taken:?}, {answer:?}"
                );
            }
            assert_eq!(world.settled(&agent), 80);
        }
        if is_over {
            break;
        }
    }
    assert!(refused > 5, "{refused}");
}

#[test]
fn what_an_agent_was_killed_over_is_nothing_to_return_to() {
    let prepare = |world: &World| world.started();
    let operate = |world: &World, agent: Agent| drop(enforcement::apply(&agent, &other(world, 81)));
    crash_everywhere(prepare, operate, |world, place| {
        let before = world.store().ledger().unwrap();
        let agent = world.started_without_news();
        let is_made = before.enforced != 1 || before.target.is_some();
        assert_eq!(world.settled(&agent), if is_made { 81 } else { 80 }, "{place}");
        let killed = agent.store.changes().into_iter().any(|(number, _)| {
            agent.store.inputs_of(number).is_some_and(|(files, _)| files.same_text(&wrong(world)))
        });
        assert!(is_made || !killed, "{place}");
    });
}

/// The files that the agent was killed over.
fn wrong(world: &World) -> crate::daemon::files::Files {
    let inventory = bulkhead_policy::source::Source::new("i", super::world::INVENTORY);
    crate::daemon::files::Files::new(world.other_policy(81), inventory)
}

#[test]
fn what_an_agent_was_killed_over_is_tried_again() {
    let prepare = |world: &World| {
        let agent = world.started();
        world.write_policy(81);
        agent
    };
    for starts in [false, true] {
        let operate = |world: &World, agent: Agent| {
            if starts {
                drop(agent);
                drop(world.start());
            } else {
                drop(apply(&agent));
            }
        };
        crash_everywhere(prepare, operate, |world, place| {
            let agent = world.started();
            assert_eq!(
                world.settled(&agent),
                81,
                "{place}: it is what `run` names, and was not enforced yet"
            );
            // Once it was, a way back stays.
            enforcement::rollback(&agent, &Return::default()).unwrap().unwrap();
            drop(agent);
            assert_eq!(world.settled(&world.started()), 80, "{place}");
        });
    }
}

#[test]
fn a_promotion_keeps_the_mode_that_is_in_force() {
    for asked in [None, Some(Mode::Audit)] {
        let world = World::new();
        let mut setup = world.setup.clone();
        setup.config.mode = Mode::Audit;
        let agent = world.start_as(setup).unwrap().unwrap();
        enforcement::stage(&agent, &other(&world, 81)).unwrap();
        enforcement::apply(&agent, &Asked { mode: Some(Mode::Enforce), ..Asked::default() }).unwrap();
        enforcement::promote(&agent, (asked, None), &Asker::default()).unwrap().unwrap();
        assert_eq!((world.settled(&agent), agent.live().built.mode), (81, asked.unwrap_or(Mode::Enforce)));
    }
}

#[test]
fn what_is_staged_has_no_mode_and_no_confirmation() {
    let world = World::new();
    let agent = world.started();
    let asked = [
        ("mode", Asked { mode: Some(Mode::Audit), ..other(&world, 81) }),
        ("confirm", Asked { confirm: Some(60), ..other(&world, 81) }),
        ("dry_run", Asked { dry_run: true, ..other(&world, 81) }),
    ];
    for (what, asked) in asked {
        let refused = enforcement::stage(&agent, &asked).unwrap_err();
        assert!(refused.is::<Usage>() && refused.to_string().contains(what), "{refused}");
        assert_eq!(agent.live().ledger.staged, None);
    }
}

#[test]
fn a_confirmation_is_for_what_is_meant() {
    let world = World::new();
    let agent = world.started();
    let asked = Asked { confirm: Some(600), ..other(&world, 81) };
    let one = enforcement::apply(&agent, &asked).unwrap().generation;
    // Somebody else is faster.
    let two =
        enforcement::apply(&agent, &Asked { confirm: Some(600), ..other(&world, 82) }).unwrap().generation;
    let refused = enforcement::confirm(&agent, Some(one)).unwrap_err();
    assert!(refused.is::<Usage>() && refused.to_string().contains(&format!("confirm {two}")), "{refused}");
    assert!(agent.live().ledger.pending.is_some());
    // The same, built again meanwhile.
    enforcement::stage(&agent, &other(&world, 80)).unwrap();
    assert!(agent.live().ledger.enforced != two);
    assert!(enforcement::confirm(&agent, Some(two)).unwrap());
    assert!(agent.live().ledger.pending.is_none());
    assert!(!enforcement::confirm(&agent, Some(two)).unwrap());
}
