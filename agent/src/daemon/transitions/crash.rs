//! The agent is killed at each step of each change; the next one starts on what is left.

use std::net::IpAddr;

use bulkhead_api::quarantine::Request as Quarantine;
use bulkhead_dataplane::{Dataplane as _, Kind};

use super::world::{Agent, INTERFACES, INTRUDER, World, apply, crash_everywhere, keep_up};
use crate::daemon::enforcement::rollback::Return;
use crate::daemon::files::{Asked, Asker};
use crate::daemon::{enforcement, quarantine, reconcile};

/// After a crash the next agent enforces one of these, and nothing was open meanwhile.
fn recovers(ports: &[u16]) -> impl Fn(&World, &str) {
    move |world, _| {
        world.never_less();
        let agent = world.started();
        world.never_less();
        let port = world.settled(&agent);
        assert!(ports.contains(&port), "{port}");
        keep_up(&agent);
        assert_eq!(world.settled(&agent), port);
        world.never_less();
    }
}

/// An agent that enforces the policy of port 80, and a file for port 81.
fn changed(world: &World) -> Agent {
    let agent = world.started();
    world.write_policy(81);
    agent
}

/// One that enforces port 81, after port 80.
fn applied(world: &World) -> Agent {
    let agent = changed(world);
    apply(&agent).unwrap();
    agent
}

fn staged(world: &World) -> Agent {
    let agent = changed(world);
    assert!(enforcement::stage(&agent, &Asked::default()).unwrap().applied);
    world.write_policy(80);
    agent
}

fn cut_off(world: &World) -> Agent {
    let agent = world.started();
    quarantine(&agent).unwrap();
    agent
}

fn quarantine(agent: &Agent) -> anyhow::Result<()> {
    let request = Quarantine { subject: "b".to_owned(), seconds: None, reason: None };
    quarantine::quarantine(agent, &request).map(|answer| assert!(answer.done))
}

fn intruder() -> IpAddr {
    INTRUDER.parse().unwrap()
}

#[test]
fn a_first_start_is_made_or_made_again() {
    let steps = crash_everywhere(
        |_| (),
        |world, ()| drop(world.started()),
        |world, _| {
            let agent = world.started();
            assert_eq!(world.settled(&agent), 80);
        },
    );
    assert!(steps > 40, "{steps}");
}

#[test]
fn a_start_with_the_same_file_goes_on() {
    let steps =
        crash_everywhere(|world| drop(world.started()), |world, ()| drop(world.started()), recovers(&[80]));
    assert!(steps > 40, "{steps}");
}

#[test]
fn a_start_with_another_file_enforces_one_of_both() {
    let steps = crash_everywhere(
        |world| drop(changed(world)),
        |world, ()| drop(world.started()),
        recovers(&[80, 81]),
    );
    assert!(steps > 40, "{steps}");
}

#[test]
fn an_apply_is_made_or_not() {
    let steps = crash_everywhere(changed, |_, agent| apply(&agent).unwrap(), recovers(&[80, 81]));
    assert!(steps > 40, "{steps}");
}

#[test]
fn a_start_after_an_apply_that_stopped_half_way_may_stop_half_way_too() {
    // Between the hooks, where some run one generation and some the other.
    let steps = |world: &World| {
        let agent = changed(world);
        world.faults.clear();
        apply(&agent).unwrap();
        let taken = world.faults.taken();
        world.faults.clear();
        taken
    };
    let taken = steps(&World::new());
    let swaps: Vec<usize> = (0..taken.len()).filter(|at| taken[*at] == "update a link").collect();
    assert_eq!(swaps.len(), 2 * INTERFACES.len());
    for at in [swaps[1], swaps[4], swaps[7]] {
        let prepare = |world: &World| {
            let agent = changed(world);
            world.faults.arm(at, bulkhead_dataplane::fake::Fault::Crash);
            let killed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| apply(&agent)));
            assert!(killed.is_err());
            world.faults.clear();
        };
        crash_everywhere(prepare, |world, ()| drop(world.started()), recovers(&[81]));
    }
}

#[test]
fn a_rollback_is_made_or_not() {
    let rollback = |_: &World, agent: Agent| {
        assert!(enforcement::rollback(&agent, &Return::default()).unwrap().is_some());
    };
    let steps = crash_everywhere(applied, rollback, recovers(&[80, 81]));
    assert!(steps > 40, "{steps}");
}

#[test]
fn what_was_not_confirmed_goes_back_whenever_the_agent_is_killed() {
    // Another file than the one that `run` names, which a start would enforce for being named.
    let try_out = |world: &World, agent: Agent| {
        let request = Asked { policy: Some(world.other_policy(81)), confirm: Some(0), ..Asked::default() };
        enforcement::apply(&agent, &request).unwrap();
        keep_up(&agent);
    };
    let steps = crash_everywhere(World::started, try_out, |world, _| {
        world.never_less();
        let agent = world.started();
        keep_up(&agent);
        assert_eq!(world.settled(&agent), 80);
        assert_eq!(agent.live().ledger.pending, None);
        world.never_less();
    });
    assert!(steps > 100, "{steps}");
}

#[test]
fn a_first_policy_that_was_not_confirmed_leaves_nothing() {
    let run = |world: &World, ()| {
        let setup = crate::daemon::Setup { confirm: Some(0), ..world.setup.clone() };
        if let Some(agent) = world.start_as(setup).unwrap() {
            keep_up(&agent);
        }
    };
    let steps = crash_everywhere(
        |_| (),
        run,
        |world, _| {
            // Until the end nothing is let go, and then all of it.
            run(world, ());
            run(world, ());
            let (now, pinned) = (world.fake.now(), world.fake.pinned(&world.setup.paths.pins));
            assert!(now.is_empty() && pinned.is_empty(), "{now:?} {pinned:?}");
            assert!(world.nft.table().is_none());
        },
    );
    assert!(steps > 100, "{steps}");
}

#[test]
fn a_policy_is_staged_or_not_and_never_enforced_by_that() {
    let stage =
        |_: &World, agent: Agent| assert!(enforcement::stage(&agent, &Asked::default()).unwrap().applied);
    // The file that `run` names is the staged policy here; a start enforces it only where nothing was applied.
    let prepare = |world: &World| {
        let agent = changed(world);
        apply(&agent).unwrap();
        world.write_policy(82);
        agent
    };
    let steps = crash_everywhere(prepare, stage, |world, _| {
        world.never_less();
        world.write_policy(81);
        let agent = world.started();
        assert_eq!(world.settled(&agent), 81);
        let live = agent.live();
        assert_eq!(live.ledger.staged, live.built.staged.as_ref().map(|staged| staged.number));
        drop(live);
        world.never_less();
    });
    assert!(steps > 40, "{steps}");
}

#[test]
fn an_unstage_is_made_or_not() {
    let unstage = |_: &World, agent: Agent| assert!(enforcement::unstage(&agent).unwrap().is_some());
    let steps = crash_everywhere(staged, unstage, recovers(&[80]));
    assert!(steps > 40, "{steps}");
}

#[test]
fn an_interface_that_comes_back_is_enforced_or_the_next_agent_does_it() {
    let prepare = |world: &World| {
        let agent = world.started();
        world.fake.remove_device(world.fake.interface("eth0").unwrap().index);
        reconcile::reconcile(&agent, true).unwrap();
        world.fake.add_device("eth0", Kind::Ethernet);
        agent
    };
    let attach =
        |_: &World, agent: Agent| assert!(enforcement::attach(&agent, "eth0").unwrap().attached.is_some());
    let steps = crash_everywhere(prepare, attach, |world, _| {
        for (what, moment) in world.fake.take_history() {
            // All but that one, at any moment.
            assert!(moment.len() >= 2 * (INTERFACES.len() - 1), "after \"{what}\": {moment:?}");
        }
        let agent = world.started();
        assert_eq!(world.settled(&agent), 80);
    });
    assert!(steps > 5, "{steps}");
}

#[test]
fn a_promotion_is_made_or_not() {
    let promote = |_: &World, agent: Agent| {
        assert!(enforcement::promote(&agent, (None, None), &Asker::default()).unwrap().unwrap().applied);
    };
    let steps = crash_everywhere(staged, promote, recovers(&[80, 81]));
    assert!(steps > 40, "{steps}");
}

#[test]
fn who_is_quarantined_stays_cut_off_through_every_crash() {
    crash_everywhere(
        World::started,
        |_, agent| quarantine(&agent).unwrap(),
        |world, _| {
            let was_cut_off = world.fake.is_cut_off(intruder());
            let is_on_disk =
                std::fs::exists(world.setup.paths.state.join("quarantine.json")).unwrap_or(false);
            let agent = world.started();
            world.settled(&agent);
            // It is in force before it is on disk, and a restart knows the disk.
            let listed = agent.live().quarantined.addresses().contains(&intruder());
            assert_eq!(world.fake.is_cut_off(intruder()), listed);
            assert!(!listed || was_cut_off || is_on_disk);
            world.never_less();
        },
    );
    // Once it is answered for, it holds through whatever comes.
    let stays = |world: &World, _: &str| {
        assert!(world.fake.is_cut_off(intruder()));
        let agent = world.started();
        assert!(world.fake.is_cut_off(intruder()));
        world.settled(&agent);
        world.never_less();
    };
    let prepare = |world: &World| {
        let agent = cut_off(world);
        world.write_policy(81);
        agent
    };
    crash_everywhere(prepare, |_, agent| apply(&agent).unwrap(), stays);
    crash_everywhere(|world| drop(prepare(world)), |world, ()| drop(world.started()), stays);
}

#[test]
fn a_release_is_made_or_not() {
    let release = |_: &World, agent: Agent| assert!(quarantine::release(&agent, "b").unwrap().done);
    crash_everywhere(cut_off, release, |world, _| {
        let agent = world.started();
        let listed = agent.live().quarantined.addresses().contains(&intruder());
        assert_eq!(world.fake.is_cut_off(intruder()), listed);
        world.settled(&agent);
        world.never_less();
    });
}

#[test]
fn a_detach_leaves_what_a_start_makes_whole() {
    let steps = crash_everywhere(
        applied,
        |world, agent| {
            enforcement::detach(&agent).unwrap();
            assert!(world.fake.now().is_empty());
        },
        |world, _| {
            let agent = world.started();
            assert_eq!(world.settled(&agent), 81);
        },
    );
    assert!(steps > INTERFACES.len(), "{steps}");
}

#[test]
fn another_layouts_agent_is_taken_over_without_a_gap() {
    let old = |world: &World| {
        drop(world.started());
        world.fake.age(&world.setup.paths.pins);
    };
    let steps = crash_everywhere(old, |world, ()| drop(world.started()), recovers(&[80]));
    assert!(steps > 60, "{steps}");
}

#[test]
fn another_size_is_taken_over_without_a_gap() {
    let smaller = |world: &World| {
        let mut setup = world.setup.clone();
        setup.config.capacity.flows /= 2;
        drop(world.start_as(setup).unwrap());
    };
    let steps = crash_everywhere(smaller, |world, ()| drop(world.started()), recovers(&[80]));
    assert!(steps > 60, "{steps}");
}
