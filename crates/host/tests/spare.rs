//! The reserve of descriptors, in a process of its own that uses up all others.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::fs::File;
use std::io;

use bulkhead_host::spare::{is_short, keep, lend, missing, open};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// How many are kept.
const RESERVE: usize = 16;

/// Descriptors until there is no other.
fn fill() -> Vec<File> {
    std::iter::from_fn(|| File::open("/dev/null").ok()).collect()
}

#[test]
fn what_is_kept_is_there_when_nothing_else_is() {
    keep();
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(128), maximum }).unwrap();
    assert!(!is_short());
    let mut others = fill();
    assert!(is_short());
    let null = || File::open("/dev/null");
    assert_eq!(null().unwrap_err().raw_os_error(), Some(libc::EMFILE));
    let (first, second) = (lend(), lend());
    let lent = fill();
    assert_eq!(lent.len(), RESERVE);
    drop(first);
    assert!(missing().is_none() && is_short(), "it is lent still");
    drop(lent);
    drop(second);
    assert_eq!(missing(), Some(0));
    assert!(null().is_err());
    // One at a time, whoever needs it.
    let opened = open(null).unwrap();
    assert_eq!(missing(), Some(1));
    drop(opened);
    assert_eq!(missing(), Some(0));
    let refused = open(|| Err::<(), _>(io::Error::from_raw_os_error(libc::EPERM)));
    assert_eq!(refused.unwrap_err().raw_os_error(), Some(libc::EPERM));
    others.truncate(others.len() - 4);
    assert!(!is_short());
}
