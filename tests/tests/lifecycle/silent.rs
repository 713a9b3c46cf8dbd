//! An agent that is stopped: commands say so and end, and what is enforced goes on.

use std::time::{Duration, Instant};

use crate::site::{Over, Site, WEB};

#[test]
fn no_command_waits_for_an_agent_that_is_stopped() {
    let mut site = Site::new("stopped", Over::Ethernet, &[WEB]);
    site.start();
    let pid = site.status()["agent"]["pid"].as_u64().unwrap();
    site.suspend();
    let policy = site.path("policy.hujson");
    let commands: [&[&str]; 7] = [
        &["quarantine", "client"],
        &["release", "stranger"],
        &["apply"],
        &["confirm"],
        &["stage", &policy],
        &["attach", "eth0"],
        &["watch"],
    ];
    for words in commands {
        let started = Instant::now();
        let output = site.bulkhead(words);
        assert!(started.elapsed() < Duration::from_secs(12), "{words:?}");
        assert_eq!(output.status.code(), Some(3), "{words:?}: {output:?}");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(error.contains(&format!("process {pid}")), "{words:?}: {error}");
        assert!(error.contains(&format!("kill -CONT {pid}")), "{words:?}: {error}");
    }
    assert!(site.connects("client", 8080) && site.is_denied("client", 8081));
    // What it is told to do next, it does.
    site.signal(libc::SIGCONT);
    site.done(&["quarantine", "client"]);
    assert!(site.is_denied("client", 8080));
}
