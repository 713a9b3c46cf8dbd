use std::path::Path;

use bulkhead_abi::Timeouts;
use bulkhead_api::hook::Hook;
use bulkhead_engine::memory::Tables;

use super::{Fake, Fault, generations};
use crate::plane::{Dataplane as _, HookLinks as _, LoadedTables as _};
use crate::{Interface, Kind, Pins, Specialisation, Specification, default_timeouts};

fn load(fake: &Fake, pins: &Pins, number: u32) -> super::FakeTables {
    let timeouts: Timeouts = default_timeouts();
    let tables = Tables::deny_all();
    let specification = Specification::new(number, &tables, timeouts);
    let wanted = [(Specialisation::new(Kind::BareIp, 1), Vec::new())];
    fake.load(&specification, &wanted, pins).unwrap()
}

#[test]
fn links_and_pins_behave_as_the_kernels() {
    let (fake, pins) = (Fake::default(), Pins::new(Path::new("/nowhere"), "x"));
    let index = fake.add_device("wg0", Kind::BareIp);
    let interface: Interface = fake.interface("wg0").unwrap();
    let mut links = fake.open_links(&pins).unwrap();
    let put = |tables: &mut super::FakeTables, links: &mut super::FakeLinks| {
        let wanted = Specialisation::new(Kind::BareIp, 1);
        tables.attach(wanted, &interface, &[Hook::TcxIngress], &pins, links)
    };
    put(&mut load(&fake, &pins, 1), &mut links).unwrap().unwrap();
    assert_eq!(generations(&fake.now()), [1].into());

    // Hooks change one at a time, and links keep what they have when the process ends.
    fake.faults().arm(4, Fault::Refuse(libc::EPERM));
    assert!(put(&mut load(&fake, &pins, 2), &mut links).is_err(), "{:?}", fake.faults().taken());
    drop(links);
    assert_eq!(generations(&fake.now()), [1, 2].into());
    let running = fake.running(&pins).unwrap();
    assert_eq!(running.iter().map(|link| link.generation).collect::<Vec<_>>(), [Some(2), Some(1)]);

    // Without a pin a link lives as long as somebody holds it.
    let mut links = fake.open_links(&pins).unwrap();
    fake.remove_all(&pins).unwrap();
    assert_eq!(fake.now().len(), 2);
    links.clear();
    assert!(fake.now().is_empty() && fake.pinned(&pins).is_empty());

    // With its device a link is gone, and its pin is not.
    let mut links = fake.open_links(&pins).unwrap();
    put(&mut load(&fake, &pins, 3), &mut links).unwrap().unwrap();
    fake.remove_device(index);
    assert!(fake.running(&pins).unwrap().iter().all(|link| link.index == 0 && link.fault.is_some()));
}
