//! Programs on a cgroup of the test's.

use std::fs::{self, File};
use std::net::IpAddr;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{CgroupFault, CgroupHook, CgroupLinks, CgroupSet, CgroupSpecification, Place, WorkloadAddresses};
use crate::Pins;

fn specification(of_engine: &[&str], to_all: bool) -> CgroupSpecification {
    let ip = |text: &&str| text.parse::<IpAddr>().unwrap();
    CgroupSpecification {
        workloads: vec![WorkloadAddresses {
            name: "h/engine".to_owned(),
            addresses: of_engine.iter().map(ip).collect(),
        }],
        host: vec![ip(&"198.18.0.1")],
        former: vec![ip(&"198.18.9.9")],
        overlay: vec![(ip(&"198.18.0.0"), 15)],
        refuse_bypass_to_all: to_all,
    }
}

fn cgroup(label: &str) -> PathBuf {
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    let mount = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2")).unwrap();
    let directory = Path::new(mount.split(' ').nth(1).unwrap());
    let directory = directory.join(format!("bulkhead-set-{}-{label}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    directory
}

#[test]
fn kernels_that_tell_no_namespace_take_the_programs() {
    let base = PathBuf::from(format!("/sys/fs/bpf/bulkhead-untold-{}", std::process::id()));
    let pins = Pins::new(&base, "x");
    let directory = pins.cgroup_maps();
    fs::create_dir_all(&directory).unwrap();
    let loaded = CgroupSet::load_with(&specification(&["198.18.9.1"], true), &directory, false);
    fs::remove_dir_all(base).unwrap();
    assert!(loaded.is_ok(), "{}", loaded.err().unwrap());
}

#[test]
fn a_set_is_taken_over_by_the_next_and_asked_of_the_kernel() {
    let base = PathBuf::from(format!("/sys/fs/bpf/bulkhead-cgroups-{}", std::process::id()));
    let pins = Pins::new(&base, "x");
    let directory = cgroup("set");
    let (open, id) = (File::open(&directory).unwrap(), fs::metadata(&directory).unwrap().ino());
    let place = Place::Cgroup(id);
    let mut set = CgroupSet::load(specification(&["198.18.9.1", "2001:db8::91"], true), &pins).unwrap();
    set.hold("h/engine", Some((id, 1))).unwrap();
    set.see(id).unwrap();
    let mut links = CgroupLinks::open(&pins).unwrap();
    let fault =
        |links: &CgroupLinks, set: &CgroupSet| links.fault(set, place, Some("h/engine"), &pins).unwrap();
    assert_eq!(fault(&links, &set), Some(CgroupFault::Detached(CgroupHook::Bind4)));
    links.attach(&set, place, Some("h/engine"), open.as_fd(), &pins).unwrap();
    assert_eq!(fault(&links, &set), None);
    // The host's programs are taken as well; here they see nobody but whoever is in this cgroup.
    links.attach(&set, Place::Host, None, open.as_fd(), &pins).unwrap();
    assert_eq!(links.fault(&set, Place::Host, None, &pins).unwrap(), None);
    assert_eq!(pins.cgroup_links().unwrap().len(), 9 + 7);

    // Another agent finds them by their pins, knows whose addresses they keep, and puts its own programs there.
    drop(links);
    let mut links = CgroupLinks::open(&pins).unwrap();
    let held = ["198.18.9.1", "198.18.9.9", "2001:db8::91"].map(|text| text.parse::<IpAddr>().unwrap());
    assert_eq!(links.held().unwrap(), held);
    assert_eq!(links.places().into_iter().collect::<Vec<_>>(), [Place::Host, place]);
    let next = CgroupSet::load(specification(&["198.18.9.2"], false), &pins).unwrap();
    assert_eq!(fault(&links, &next), Some(CgroupFault::OtherProgram(CgroupHook::Bind4)));
    for (place, workload) in [(place, Some("h/engine")), (Place::Host, None)] {
        links.attach(&next, place, workload, open.as_fd(), &pins).unwrap();
        assert_eq!(links.fault(&next, place, workload, &pins).unwrap(), None);
    }
    assert_eq!(pins.cgroup_links().unwrap().len(), 9 + 7);

    // Pins that are removed, and a cgroup that is.
    fs::remove_file(pins.cgroup_link(place, CgroupHook::Egress)).unwrap();
    assert_eq!(fault(&links, &next), Some(CgroupFault::Unpinned(CgroupHook::Egress)));
    links.attach(&next, place, Some("h/engine"), open.as_fd(), &pins).unwrap();
    assert_eq!(fault(&links, &next), None);
    links.detach(Place::Host, &pins).unwrap();
    assert!(!links.is_dead(place).unwrap());
    drop(open);
    fs::remove_dir(&directory).unwrap();
    // The kernel lets go of its programs some time later.
    let deadline = Instant::now() + Duration::from_secs(10);
    while fault(&links, &next) != Some(CgroupFault::Detached(CgroupHook::Bind4)) {
        assert!(Instant::now() < deadline, "{:?}", fault(&links, &next));
        std::thread::sleep(Duration::from_millis(20));
    }
    while !links.is_dead(place).unwrap() {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(20));
    }
    links.detach(place, &pins).unwrap();
    assert_eq!(pins.cgroup_links().unwrap(), []);
    fs::remove_dir_all(base).unwrap();
}
