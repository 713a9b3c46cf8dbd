//! Addresses of underlay interfaces that come and go.

use std::collections::BTreeSet;
use std::net::IpAddr;

use bulkhead_dataplane::fake::Fault;

use super::world::{World, keep_up};
use crate::config::{Config, Role};
use crate::daemon::enforcement::timers::Timers;
use crate::daemon::state::addresses::Addresses;
use crate::daemon::{Setup, reconcile};

const FIRST: &str = "192.0.2.77";
const SECOND: &str = "192.0.2.78";

/// `eth0` leads beneath the overlay.
fn setup(world: &World) -> Setup {
    let mut setup = world.setup.clone();
    let interfaces = setup.config.interfaces.iter_mut();
    interfaces.filter(|managed| managed.name == "eth0").for_each(|managed| managed.role = Role::Underlay);
    let Config { interfaces, .. } = &setup.config;
    assert_eq!(interfaces.iter().filter(|managed| managed.role == Role::Underlay).count(), 1);
    setup.options.exemptions = setup.config.exemptions("a");
    setup.options.addresses = Addresses::default();
    setup
}

fn set(world: &World, addresses: &[&str]) {
    let addresses = addresses.iter().map(|address| address.parse::<IpAddr>().unwrap());
    world.fake.set_addresses(world.index("eth0"), addresses);
}

fn wanted(addresses: &[&str]) -> BTreeSet<IpAddr> {
    addresses.iter().map(|address| address.parse().unwrap()).collect()
}

#[test]
fn other_addresses_are_another_generation_of_the_same_files() {
    let world = World::new();
    let setup = setup(&world);
    set(&world, &[FIRST]);
    setup.options.addresses.look(&world.fake, &setup.config).unwrap();
    let agent = world.start_as(setup).unwrap().unwrap();
    let _ = world.fake.take_history();
    let number = || agent.live().ledger.enforced;
    let first = number();
    assert_eq!(agent.live().built.addresses, wanted(&[FIRST]));
    keep_up(&agent);
    assert_eq!(number(), first, "nothing has changed");
    set(&world, &[SECOND]);
    keep_up(&agent);
    assert!(number() > first);
    assert_eq!(agent.live().built.addresses, wanted(&[SECOND]));
    assert_eq!(world.enforced(&agent), 80);
    // At most one a second: what flaps is followed once it rests.
    let second = number();
    set(&world, &[FIRST]);
    keep_up(&agent);
    assert_eq!(number(), second);
    set(&world, &[SECOND]);
    keep_up(&agent);
    assert_eq!((number(), agent.live().must_rebuild), (second, None));
    world.never_less();
}

#[test]
fn what_is_refused_leaves_what_was_enforced_and_is_tried_again() {
    let mut refused = 0;
    for at in 0.. {
        let world = World::new();
        let setup = setup(&world);
        set(&world, &[FIRST]);
        setup.options.addresses.look(&world.fake, &setup.config).unwrap();
        let agent = world.start_as(setup).unwrap().unwrap();
        set(&world, &[SECOND]);
        let _ = world.fake.take_history();
        world.faults.arm(at, Fault::Refuse(libc::EPERM));
        let mut upkeep = Timers::default();
        let _ = reconcile::reconcile(&agent, true);
        upkeep.run(&agent);
        let taken = world.faults.taken().len();
        world.faults.clear();
        refused += usize::from(agent.live().built.addresses == wanted(&[FIRST]));
        keep_up(&agent);
        assert_eq!(agent.live().built.addresses, wanted(&[SECOND]), "refused at step {at}");
        assert_eq!(world.enforced(&agent), 80);
        world.never_less();
        if at >= taken {
            break;
        }
    }
    assert!(refused > 5, "{refused}");
}
