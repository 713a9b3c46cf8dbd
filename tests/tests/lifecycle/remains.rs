//! What is left of a killed agent for a moment: a process that it was just starting has its lock
//! and its socket open until it runs its own program. The test holds them in that one's place.

use std::fs::{File, remove_file};
use std::os::unix::net::UnixListener;
use std::time::Duration;

use crate::site::{Over, Site, WEB};

/// As long as a busy machine may take from fork to exec.
const MOMENT: Duration = Duration::from_millis(500);

#[test]
fn the_lock_of_a_dead_agent_is_waited_for() {
    let mut site = Site::new("lock", Over::Ethernet, &[WEB]);
    site.start();
    let path = format!("/var/lib/bulkhead/{}/agent.lock", site.instance());
    let lock = File::open(path).unwrap();
    assert!(lock.try_lock().is_err(), "a living agent has it");
    site.kill();
    lock.lock().unwrap();
    let release = std::thread::spawn(move || {
        std::thread::sleep(MOMENT);
        drop(lock);
    });
    site.start();
    release.join().unwrap();
    assert!(site.connects("client", 8080));
}

#[test]
fn a_status_is_told_though_the_agent_ends_before_it_answers() {
    let mut site = Site::new("socket", Over::Ethernet, &[WEB]);
    site.start();
    site.kill();
    let path = format!("/run/bulkhead/{}/agent.sock", site.instance());
    remove_file(&path).unwrap();
    let listener = UnixListener::bind(&path).unwrap();
    let hang_up = std::thread::spawn(move || drop(listener.accept().unwrap()));
    let status = site.status();
    hang_up.join().unwrap();
    assert_eq!((&status["state"], &status["agent"]), (&"enforced".into(), &serde_json::Value::Null));
}
