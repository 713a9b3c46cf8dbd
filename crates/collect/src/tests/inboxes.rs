//! Batches through a directory.

use std::fs;
use std::path::Path;

use super::{Host, assert_whole, kind, store};
use crate::{Given, Inbox, Outbox, Outcome};

fn files(directory: &Path) -> Vec<String> {
    let names =
        fs::read_dir(directory).unwrap().map(|found| found.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| !name.contains("stands")).collect();
    names.sort();
    names
}

#[test]
fn one_batch_waits_and_says_more_while_nobody_takes_it() {
    let (spool, kept) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut host = Host::new("db/1");
    let mut outbox = Outbox::open(spool.path(), "db/1").unwrap();
    assert_eq!(outbox.look().unwrap(), Given::Taken(None));
    // Days without a collector: one file.
    for _ in 0..20 {
        host.grow(10);
        let sealed = host.seal(0);
        outbox.give(host.made, &sealed.bytes).unwrap();
        assert_eq!(outbox.look().unwrap(), Given::Waits);
    }
    assert_eq!(files(&spool.path().join("db%2F1")).len(), 1);
    drop(outbox);
    let mut outbox = Outbox::open(spool.path(), "db/1").unwrap();
    assert_eq!(outbox.look().unwrap(), Given::Waits, "an agent that started again");
    let at = store(kept.path());
    let inbox = Inbox::new(spool.path());
    let heard = std::sync::Mutex::new(Vec::new());
    let tell = |_: &Path, outcome: &Outcome| heard.lock().unwrap().push(kind(outcome));
    assert_eq!(inbox.turn(&at, 4, &tell).unwrap(), 1);
    assert_eq!(outbox.look().unwrap(), Given::Taken(Some(200)));
    assert_eq!(inbox.turn(&at, 4, &tell).unwrap(), 0);
    assert_eq!(*heard.lock().unwrap(), ["taken"]);
}

#[test]
fn what_others_leave_there_is_refused_or_left() {
    let (spool, kept) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let at = store(kept.path());
    let inbox = Inbox::new(spool.path());
    let mut host = Host::new("db-1");
    host.grow(10);
    let batch = host.seal(0).bytes;
    let place = spool.path().join("db-1");
    fs::create_dir(&place).unwrap();
    fs::write(place.join("1.batch"), vec![7; 2_000_000]).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", place.join("2.batch")).unwrap();
    fs::create_dir(place.join("3.batch")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, place.join("4.batch"), rustix::fs::FileType::Fifo, 0o600.into(), 0)
        .unwrap();
    fs::write(place.join("5.batch"), &batch).unwrap();
    fs::write(place.join("6.new"), b"half").unwrap();
    // In another node's place, and in none.
    fs::create_dir(spool.path().join("web-1")).unwrap();
    fs::write(spool.path().join("web-1/1.batch"), &batch).unwrap();
    fs::create_dir(spool.path().join("%ZZ")).unwrap();
    fs::write(spool.path().join("%ZZ/1.batch"), &batch).unwrap();
    fs::write(spool.path().join("file"), b"").unwrap();
    let heard = std::sync::Mutex::new(Vec::new());
    let tell = |path: &Path, outcome: &Outcome| {
        let from = path.parent().unwrap().file_name().unwrap().to_str().unwrap().to_owned();
        heard.lock().unwrap().push((from, kind(outcome)));
    };
    inbox.turn(&at, 3, &tell).unwrap();
    let mut heard = heard.into_inner().unwrap();
    heard.sort();
    let expected = [
        ("%ZZ", "other_node"),
        ("db-1", "malformed"),
        ("db-1", "malformed"),
        ("db-1", "malformed"),
        ("db-1", "taken"),
        ("web-1", "other_node"),
    ];
    assert_eq!(heard, expected.map(|(from, kind)| (from.to_owned(), kind)));
    assert_eq!(files(&place), ["3.batch", "6.new"]);
    assert!(fs::metadata("/etc/passwd").is_ok());
    assert_whole(kept.path(), &host);
}

#[test]
fn what_the_store_cannot_keep_of_a_node_comes_again() {
    let (spool, kept) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut host = Host::new("db-1");
    host.grow(10);
    let mut outbox = Outbox::open(spool.path(), "db-1").unwrap();
    outbox.give(1, &host.seal(0).bytes).unwrap();
    let at = store(kept.path());
    // A file where the node's directory is to be.
    fs::write(kept.path().join("nodes/db-1"), b"").unwrap();
    let inbox = Inbox::new(spool.path());
    assert_eq!(inbox.turn(&at, 1, &|_, outcome| assert_eq!(kind(outcome), "failed")).unwrap(), 1);
    assert_eq!(outbox.look().unwrap(), Given::Taken(None));
    fs::remove_file(kept.path().join("nodes/db-1")).unwrap();
    outbox.give(2, &host.seal(0).bytes).unwrap();
    inbox.turn(&at, 1, &|_, _| ()).unwrap();
    assert_eq!(outbox.look().unwrap(), Given::Taken(Some(10)));
    assert_whole(kept.path(), &host);
}

/// Who writes in its own directory what the collector would write through or wait for.
#[test]
fn no_host_leads_the_collector_elsewhere_or_keeps_it() {
    let (spool, kept) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let at = store(kept.path());
    let inbox = Inbox::new(spool.path());
    let turn = || inbox.turn(&at, 1, &|_, outcome| assert_eq!(kind(outcome), "taken")).unwrap();
    let victim = kept.path().join("key");
    fs::write(&victim, "secret").unwrap();
    let leave = |name: &str| {
        let mut host = Host::new(name);
        host.grow(10);
        Outbox::open(spool.path(), name).unwrap().give(1, &host.seal(0).bytes).unwrap();
        spool.path().join(name)
    };
    let link = leave("link");
    std::os::unix::fs::symlink(&victim, link.join("stands.new")).unwrap();
    std::os::unix::fs::symlink(&victim, link.join("stands")).unwrap();
    let fifo = leave("fifo").join("stands.new");
    rustix::fs::mknodat(rustix::fs::CWD, fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    fs::create_dir(leave("blocked").join("stands")).unwrap();
    leave("good");
    // The last one's is taken, and waits where nothing can be said.
    assert_eq!(turn(), 3);
    assert_eq!(fs::read_to_string(&victim).unwrap(), "secret");
    for name in ["link", "fifo", "good"] {
        assert_eq!(fs::read_to_string(spool.path().join(name).join("stands")).unwrap(), "10\n", "{name}");
    }
    let told: Vec<_> = at.standings().into_iter().filter(|of| !of.findings.is_empty()).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    let finding = &told[0].findings[&crate::FindingKind::Failed];
    assert!(told[0].node == "blocked" && finding.detail.contains("directory"), "{told:?}");
    // It is left alone for a while: nobody waits for it.
    leave("other");
    assert_eq!(turn(), 1);
    assert_eq!(at.standings()[0].findings[&crate::FindingKind::Failed].count, 1);
    // A directory that became a link after it was looked at.
    let root = rustix::fs::open(spool.path(), rustix::fs::OFlags::DIRECTORY, 0.into()).unwrap();
    std::os::unix::fs::symlink(leave("swapped"), spool.path().join("exchanged")).unwrap();
    assert!(inbox.take_all(&root, "exchanged".as_ref(), &at, &|_, _| panic!(), &mut 0).is_err());
}
