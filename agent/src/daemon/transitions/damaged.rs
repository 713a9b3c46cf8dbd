//! Records that are damaged or gone: nothing passes where it is not known what was enforced, and it is said.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::world::{INTERFACES, World};
use crate::daemon::enforcement;
use crate::daemon::enforcement::start;
use crate::daemon::fallback::closed::{self, Closed};
use crate::daemon::files::Asked;
use crate::exit::Usage;

/// How a file may be found: empty, cut, another one, of another kind, a directory.
const DAMAGES: [fn(&Path); 5] = [
    |file| fs::write(file, "").unwrap(),
    |file| {
        let bytes = fs::read(file).unwrap();
        fs::write(file, &bytes[..bytes.len() / 2]).unwrap();
    },
    |file| fs::write(file, "null").unwrap(),
    |file| fs::write(file, [0xff; 64]).unwrap(),
    |file| {
        fs::remove_file(file).unwrap();
        fs::create_dir(file).unwrap();
    },
];

/// A host that has enforced and was started again: programs and guard are gone, the state directory is there.
fn rebooted() -> World {
    let world = World::new();
    drop(world.started());
    world.fake.reboot();
    *world.nft.table() = None;
    world
}

fn file(world: &World, name: &str) -> std::path::PathBuf {
    world.setup.paths.state.join(name)
}

fn all() -> BTreeSet<String> {
    INTERFACES.map(str::to_owned).into()
}

/// Every managed interface is closed.
fn is_closed(world: &World) -> bool {
    world.nft.table().as_ref().is_some_and(|guard| guard.managed == all() && guard.attached.is_empty())
}

fn close(world: &World) -> anyhow::Result<Closed> {
    let setup = &world.setup;
    closed::close(&world.nft, &setup.instance, &setup.paths, Some(&setup.config))
}

#[test]
fn a_ledger_that_cannot_be_read_closes_the_host_until_it_is_moved_away() {
    for (number, damage) in DAMAGES.iter().enumerate() {
        let world = rebooted();
        damage(&file(&world, "generations.json"));
        let closed = close(&world).unwrap();
        assert!(
            matches!(&closed, Closed::Unread(names, why) if *names == all() && why.contains("move it away"))
        );
        assert!(is_closed(&world), "damage {number}");

        // The agent says it, too, and closes what nobody has closed.
        *world.nft.table() = None;
        let why = start::readable(&world.store()).unwrap_err();
        let said = format!("{:#}", closed::instead_of_enforcing(&world.fake, &world.setup, why));
        let words = ["does not start", "wg0", "generations.json", "move it away"];
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
        assert!(is_closed(&world), "damage {number}");

        fs::rename(file(&world, "generations.json"), file(&world, "moved")).unwrap();
        assert!(start::readable(&world.store()).is_ok());
        let agent = world.started();
        assert_eq!(world.settled(&agent), 80);
        assert_eq!(agent.store.changes().len(), 2, "what was in force before is still there to return to");
    }
}

#[test]
fn a_list_of_who_is_quarantined_that_cannot_be_read_lets_nobody_in_again() {
    for damage in DAMAGES {
        let world = rebooted();
        damage(&file(&world, "quarantine.json"));
        let why = start::readable(&world.store()).unwrap_err();
        let said = format!("{:#}", closed::instead_of_enforcing(&world.fake, &world.setup, why));
        assert!(said.contains("quarantine.json") && is_closed(&world), "{said}");
    }
}

#[test]
fn what_is_enforced_is_not_closed_because_of_a_record() {
    let world = World::new();
    let agent = world.started();
    let table = world.nft.table().clone();
    fs::write(file(&world, "generations.json"), "{").unwrap();
    drop(agent);
    let why = start::readable(&world.store()).unwrap_err();
    let said = format!("{:#}", closed::instead_of_enforcing(&world.fake, &world.setup, why));
    assert!(said.contains("what is enforced stays enforced"), "{said}");
    assert!(World::is_covered(&world.fake.now()) && *world.nft.table() == table);
}

#[test]
fn a_record_that_is_gone_is_no_new_host() {
    let world = rebooted();
    fs::remove_file(file(&world, "generations.json")).unwrap();
    assert!(matches!(close(&world).unwrap(), Closed::Unread(names, _) if names == all()));
    assert!(is_closed(&world));
    // One where nothing was ever enforced is.
    let world = World::new();
    assert!(matches!(close(&world).unwrap(), Closed::Nothing(_)));
    assert!(world.nft.table().is_none());
}

#[test]
fn which_interfaces_are_managed_is_known_by_either_file() {
    for damage in DAMAGES {
        let world = rebooted();
        damage(&file(&world, "zones.json"));
        assert_eq!(close(&world).unwrap(), Closed::Names(all()));
        assert!(is_closed(&world));

        let world = rebooted();
        damage(&file(&world, "generations.json"));
        let closed = closed::close(&world.nft, &world.setup.instance, &world.setup.paths, None).unwrap();
        assert!(matches!(closed, Closed::Unread(names, _) if names == all()));

        // By neither: then it is said that they are open.
        let world = rebooted();
        damage(&file(&world, "zones.json"));
        let error = closed::close(&world.nft, &world.setup.instance, &world.setup.paths, None).unwrap_err();
        assert!(format!("{error:#}").contains("OPEN"), "{error:#}");
    }
}

#[test]
fn other_records_keep_no_agent_from_enforcing() {
    let others =
        ["zones.json", "seen-mode.json", "seen-policy", "counters.json", "counting.json", "unconfirmed"];
    for name in others {
        for damage in DAMAGES {
            let world = rebooted();
            let path = file(&world, name);
            if !path.exists() {
                fs::write(&path, "[1, 2]").unwrap();
            }
            damage(&path);
            let agent = world.started();
            assert_eq!(world.settled(&agent), 80, "{name}");
            drop(agent);
            let agent = world.started();
            assert_eq!(world.settled(&agent), 80, "{name}");
        }
    }
}

#[test]
fn a_change_is_not_to_be_confirmed_that_nothing_could_undo() {
    let world = World::new();
    let agent = world.started();
    let number = agent.live().ledger.enforced;
    let policy = file(&world, &format!("generation-{number}")).join("policy");
    let text = fs::read(&policy).unwrap();
    fs::remove_file(&policy).unwrap();
    let asked = |confirm| Asked { policy: Some(world.other_policy(81)), confirm, ..Asked::default() };
    let refused = enforcement::apply(&agent, &asked(Some(60))).unwrap_err();
    assert!(refused.is::<Usage>() && refused.to_string().contains("could go back"), "{refused}");
    assert_eq!(agent.live().ledger.enforced, number);
    fs::write(&policy, text).unwrap();
    assert!(enforcement::apply(&agent, &asked(Some(60))).unwrap().applied);
    assert_eq!(world.settled(&agent), 81);
}
