//! What holds as soon as a change is answered for, before anything else is done.

use std::net::IpAddr;

use bulkhead_policy::source::Source;

use super::world::{INVENTORY, World, apply};
use crate::daemon::enforcement;
use crate::daemon::files::Asked;

#[test]
fn the_fallback_knows_whom_an_apply_has_brought() {
    let world = World::new();
    let agent = world.started();
    let newcomer: IpAddr = "100.64.0.9".parse().unwrap();
    let knows = || world.nft.table().as_ref().unwrap().others.contains(&newcomer);
    assert!(!knows());
    let inventory = Source::new("i", &INVENTORY.replace("100.64.0.2", "100.64.0.9"));
    let asked = Asked { inventory: Some(inventory), ..Asked::default() };
    assert!(enforcement::apply(&agent, &asked).unwrap().applied);
    assert!(knows());
}

#[test]
fn the_generation_before_is_gone_from_the_kernel() {
    let world = World::new();
    let agent = world.started();
    world.write_policy(81);
    apply(&agent).unwrap();
    assert_eq!(world.settled(&agent), 81);
}
