//! Checkpoints that are kept elsewhere bind whoever is root of the host.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::site::{Over, Site, WEB};

/// Checkpoints in a directory, by their names.
fn kept(directory: &Path) -> Vec<String> {
    let files = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = files.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

/// Waits for so many checkpoints.
fn wait_for(site: &Site, directory: &Path, count: usize) {
    for _ in 0..600 {
        if kept(directory).len() >= count {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("not {count} checkpoints: {:?}: {}", kept(directory), site.log());
}

/// Ends the agent as a service manager does.
fn end(site: &mut Site) {
    site.signal(libc::SIGTERM);
    assert_eq!(site.exit_code(), Some(0), "{}", site.log());
}

#[test]
fn a_log_that_root_writes_anew_does_not_continue_what_an_anchor_has() {
    let mut site = Site::new("anchored", Over::Ethernet, &[WEB]);
    let [anchors, empty] = ["anchors", "empty"].map(|name| PathBuf::from(site.path(name)));
    fs::create_dir(&anchors).unwrap();
    fs::create_dir(&empty).unwrap();
    let directory = anchors.to_str().unwrap();
    let section = format!(
        "[events]\nattest_seconds = 1\n[[anchor]]\nname = \"worm\"\nkind = \"directory\"\nevery_seconds = 5\n\
         path = \"{directory}\"\n"
    );
    site.write("agent.toml", &(site.configuration("server", "eth0") + &section));
    site.start();
    wait_for(&site, &anchors, 2);
    let status = site.wait_for("the anchor has a checkpoint", |status| {
        status["agent"]["anchors"][0]["records"].as_u64().is_some_and(|records| records > 0)
    });
    let anchor = &status["agent"]["anchors"][0];
    assert_eq!((anchor["name"].as_str(), anchor["kind"].as_str()), (Some("worm"), Some("directory")));
    assert!(anchor["age_seconds"].as_u64().unwrap() < 60 && anchor["problem"].is_null(), "{anchor}");
    let before = kept(&anchors).len();
    end(&mut site);
    assert_eq!(kept(&anchors).len(), before + 1, "an agent that ends takes the last one out");
    let verify = |words: &[&str]| site.bulkhead(&[&["audit", "verify"], words].concat());
    let verified = verify(&["--anchor", directory]);
    assert_eq!(verified.status.code(), Some(0), "{verified:?}");
    let said = String::from_utf8(verified.stdout).unwrap();
    assert!(said.contains(&format!("continues {} kept checkpoints", before + 1)), "{said}");
    // What others put there accuses nobody.
    let own = fs::read_to_string(anchors.join(&kept(&anchors)[0])).unwrap();
    let foreign = own.replace("— bulkhead/", "— other/");
    assert_ne!(own, foreign);
    fs::write(anchors.join("a.checkpoint"), "no checkpoint").unwrap();
    fs::write(anchors.join("b.checkpoint"), foreign).unwrap();
    fs::create_dir(anchors.join("c.checkpoint")).unwrap();
    assert!(Command::new("mkfifo").arg(anchors.join("d.checkpoint")).status().unwrap().success());
    let verified = verify(&["--anchor", directory]);
    assert_eq!(verified.status.code(), Some(0), "{verified:?}");
    let said = String::from_utf8(verified.stdout).unwrap();
    assert!(said.contains("4 kept checkpoints are not signed by this log's key"), "{said}");
    assert_eq!(
        verify(&["--witness", &site.journal_file().join("vkey").display().to_string()]).status.code(),
        Some(2)
    );
    assert_eq!(verify(&["--anchor", empty.to_str().unwrap()]).status.code(), Some(2));

    // Root removes what the log says, and keeps its key.
    let log = site.journal_file();
    let keys = ["key", "vkey"].map(|name| (log.join(name), fs::read(log.join(name)).unwrap()));
    fs::remove_dir_all(&log).unwrap();
    fs::create_dir(&log).unwrap();
    keys.into_iter().for_each(|(path, key)| fs::write(path, key).unwrap());
    site.start();
    let status = site.wait_for("the anchor is asked", |status| {
        let anchor = &status["agent"]["anchors"][0];
        anchor["records"].as_u64().is_some_and(|records| records > 0) || !anchor["problem"].is_null()
    });
    end(&mut site);
    let verify = |words: &[&str]| site.bulkhead(&[&["audit", "verify"], words].concat());
    let by_itself = verify(&[]);
    assert_eq!(by_itself.status.code(), Some(0), "with the key alone it looks well: {by_itself:?}");
    let compared = verify(&["--anchor", directory]);
    assert_eq!(compared.status.code(), Some(1), "{compared:?} {status}");
    let said = String::from_utf8(compared.stdout).unwrap();
    assert!(said.contains("a fork") || said.contains("the log was cut"), "{said}");
}
