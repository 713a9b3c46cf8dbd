//! When what is not confirmed goes back: at its deadline, whatever has become of the agent, if one can start.

use std::time::{Duration, Instant};

use bulkhead_testkit::lab::slower;

use crate::site::{OTHER, Over, Site, WEB};

/// How late it may be, besides what the start of an agent and a change of the policy take here.
const LATE: Duration = Duration::from_secs(2);

/// The deadline of a confirmation.
struct Deadline {
    earliest: Instant,
    latest: Instant,
    /// How long the change took that is to be confirmed.
    took: Duration,
}

/// The client is cut off, for so many seconds.
fn cut_off(site: &Site, seconds: u64) -> Deadline {
    let within = Duration::from_secs(seconds);
    site.write_policy(&[OTHER]);
    let before = Instant::now();
    site.done(&["apply", "--confirm", &format!("{seconds}s")]);
    let took = before.elapsed();
    let deadline = Deadline { earliest: before + within, latest: before + took + within, took };
    assert!(site.is_denied("client", 8080));
    deadline
}

/// It is back at that time and not before.
#[track_caller]
fn is_back(site: &Site, deadline: &Deadline) {
    while site.is_denied("client", 8080) {
        let late = Instant::now().saturating_duration_since(deadline.latest);
        // A start is a change, too, and looks at more.
        let limit = slower(LATE) + 3 * deadline.took;
        assert!(late < limit, "not back {late:?} after the deadline:\n{}", site.log());
    }
    let early = deadline.earliest.saturating_duration_since(Instant::now());
    assert!(early.is_zero(), "back {early:?} before the deadline");
    assert!(site.is_denied("client", 8081));
}

#[test]
fn it_is_kept_by_the_agent_and_by_the_next_one() {
    let mut site = Site::new("deadline", Over::Ethernet, &[WEB]);
    site.start();
    let deadline = cut_off(&site, 4);
    is_back(&site, &deadline);

    // Killed, and started again as a service manager does.
    let deadline = cut_off(&site, 5);
    site.kill();
    site.start();
    assert!(site.status()["agent"]["confirm_within"].is_u64() && site.is_denied("client", 8080));
    is_back(&site, &deadline);

    // It hangs; a watchdog ends it.
    let deadline = cut_off(&site, 5);
    site.suspend();
    std::thread::sleep(Duration::from_secs(1));
    site.kill();
    site.start();
    is_back(&site, &deadline);
}

#[test]
fn an_agent_that_goes_on_after_it_keeps_it_at_once() {
    let mut site = Site::new("overdue", Over::Ethernet, &[WEB]);
    site.start();
    let deadline = cut_off(&site, 1);
    site.suspend();
    std::thread::sleep(Duration::from_secs(2));
    assert!(site.is_denied("client", 8080), "nobody is there to go back");
    site.signal(libc::SIGCONT);
    is_back(&site, &Deadline { latest: Instant::now(), ..deadline });
}

#[test]
fn files_that_are_bad_by_then_do_not_keep_it_from_going_back() {
    let mut site = Site::new("badfiles", Over::Ethernet, &[WEB]);
    site.start();
    for bad in ["{", r#"{"acls": [{"action": "accept", "src": ["tag:nobody"], "dst": ["tag:server:8080"]}]}"#]
    {
        let deadline = cut_off(&site, 5);
        site.kill();
        site.write("policy.hujson", bad);
        site.start();
        assert!(site.log().contains("going on with what was kept"), "{}", site.log());
        is_back(&site, &deadline);
    }
}

#[test]
fn without_an_agent_it_waits_for_one_that_can_start() {
    let mut site = Site::new("nostart", Over::Ethernet, &[WEB]);
    site.start();
    let deadline = cut_off(&site, 1);
    site.kill();
    let config = site.configuration("server", "eth0");
    site.write("agent.toml", "node = ");
    site.launch();
    assert_eq!(site.exit_code(), Some(2), "{}", site.log());
    std::thread::sleep((deadline.latest + LATE).saturating_duration_since(Instant::now()));
    assert!(site.is_denied("client", 8080));
    site.write("agent.toml", &config);
    site.start();
    assert!(site.connects("client", 8080) && site.is_denied("client", 8081));
}
