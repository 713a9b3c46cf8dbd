//! Interfaces that come up after the agent: `attach`, and an agent that waits for its only one.

use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::site::{Over, Site, WEB};

/// Runs `bulkhead attach`; its exit code and what it said.
fn attach(site: &Site, more: &[&str]) -> (Option<i32>, String) {
    let output = site.bulkhead(&[&["attach"], more].concat());
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn attach_returns_once_the_interface_is_enforced() {
    let mut site = Site::new("attach", Over::Ethernet, &[WEB]);
    let config = site.configuration("server", "eth0") + "[[interface]]\nname = \"eth1\"\noptional = true\n";
    site.write("agent.toml", &config);
    let (code, said) = attach(&site, &["eth0"]);
    assert!(code == Some(3) && said.contains("start one with `bulkhead run`"), "{said}");
    site.start();
    let (code, said) = attach(&site, &["eth0"]);
    assert!(code == Some(0) && said.contains("tcx-egress"), "{said}");
    let (code, said) = attach(&site, &["eth9", "--wait"]);
    assert!(code == Some(2) && said.contains("none of the agent's (eth0, eth1)"), "{said}");
    let (code, said) = attach(&site, &["eth1"]);
    assert!(code == Some(3) && said.contains("interface eth1 is not there"), "{said}");
    let started = Instant::now();
    let (code, said) = attach(&site, &["eth1", "--wait=1"]);
    assert!(code == Some(3) && said.contains("not enforced after 1 s"), "{said}");
    assert!(started.elapsed() >= Duration::from_secs(1));

    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| attach(&site, &["eth1", "--wait=15"]));
        std::thread::sleep(Duration::from_millis(300));
        assert!(!waiting.is_finished());
        let server = site.namespace("server");
        server.ip("link add eth1 type veth peer name eth2").unwrap();
        let (code, said) = waiting.join().unwrap();
        assert!(code == Some(0) && said.starts_with("eth1 (index "), "{said}");
        // Nobody has brought it up yet.
        assert!(!server.ip("-brief link show up").unwrap().contains("eth1@"));
    });
    let status = site.status();
    let links = status["links"].as_array().unwrap().clone();
    let hooks = links.iter().filter(|link| link["interface"] == "eth1" && link["index"] != 0);
    assert_eq!(hooks.count(), 2, "{status}");
    assert_eq!(status["state"], "enforced", "{status}");
}

#[test]
fn an_agent_waits_for_its_only_interface() {
    let mut site = Site::new("waits", Over::Ethernet, &[WEB]);
    site.write("agent.toml", &(site.configuration("server", "eth0") + "optional = true\n"));
    site.namespace("server").ip("link del eth0").unwrap();
    site.launch();
    let deadline = Instant::now() + Duration::from_secs(15);
    while !site.log().contains("waiting for an interface: eth0") {
        assert!(Instant::now() < deadline, "{}", site.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    // The guard keeps the name closed before the agent has seen the interface.
    site.suspend();
    site.replace_interface();
    site.namespace("client").ip("neigh flush all").unwrap();
    site.namespace("stranger").ip("neigh flush all").unwrap();
    assert!(site.is_denied("client", 8080) && site.is_denied("stranger", 8080));
    site.signal(libc::SIGCONT);
    let (code, said) = attach(&site, &["eth0", "--wait=15"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(site.connects("client", 8080));
    assert!(site.is_denied("stranger", 8080));
}

#[test]
fn detach_ends_an_agent_that_waits_for_its_interface() {
    let mut site = Site::new("endwait", Over::Ethernet, &[WEB]);
    site.write("agent.toml", &(site.configuration("server", "eth0") + "optional = true\n"));
    site.namespace("server").ip("link del eth0").unwrap();
    let pid = site.launch();
    let deadline = Instant::now() + Duration::from_secs(15);
    while !site.log().contains("waiting for an interface: eth0") {
        assert!(Instant::now() < deadline, "{}", site.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    let problems = site.status()["problems"].to_string();
    assert!(problems.contains(&format!("process {pid} does not answer: it starts, waits")), "{problems}");
    site.done(&["detach"]);
    assert!(site.has_ended(), "it would attach later");
    site.replace_interface();
    site.namespace("stranger").ip("neigh flush all").unwrap();
    assert!(site.connects("stranger", 8080), "nothing filters, and the guard is gone");
    std::thread::sleep(Duration::from_millis(500));
    let status = site.status();
    assert_eq!((&status["state"], &status["problems"]), (&"detached".into(), &serde_json::json!([])));

    // One that is just starting: nothing of it stays, whenever that is.
    for delay in [0, 20, 60, 150, 400, 900] {
        let pid = format!("{}\n", site.launch());
        let lock = format!("/var/lib/bulkhead/{}/agent.lock", site.instance());
        while std::fs::read_to_string(&lock).unwrap() != pid {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(delay));
        site.done(&["detach"]);
        assert!(site.has_ended(), "after {delay} ms");
        assert_eq!(site.status()["state"], "detached", "after {delay} ms");
        assert!(site.connects("stranger", 8080), "after {delay} ms");
    }
}

#[test]
fn an_agent_that_hangs_is_told_of_and_detached_without() {
    let mut site = Site::new("hangs", Over::Ethernet, &[WEB]);
    site.start();
    site.suspend();
    let status = site.status();
    assert_eq!(status["state"], "degraded", "{status}");
    assert!(status["problems"][0].as_str().unwrap().contains("does not answer"), "{status}");
    assert!(site.connects("client", 8080) && site.is_denied("stranger", 8080));
    site.done(&["detach"]);
    assert!(site.has_ended());
    assert!(site.connects("stranger", 8080), "nothing filters, and the guard is gone");
    assert_eq!(site.status()["problems"], serde_json::json!([]));
}

#[test]
fn a_command_outlives_an_agent_that_hangs_up() {
    const TIMES: usize = 25;
    let site = Site::new("hangup", Over::Ethernet, &[WEB]);
    let socket = PathBuf::from("/run/bulkhead").join(site.instance()).join("agent.sock");
    std::fs::create_dir_all(socket.parent().unwrap()).unwrap();
    let listener = UnixListener::bind(&socket).unwrap();
    let hang_up = std::thread::spawn(move || (0..2 * TIMES).for_each(|_| drop(listener.accept().unwrap())));
    for _ in 0..TIMES {
        assert_eq!(site.status()["state"], "detached");
        site.done(&["detach"]);
    }
    hang_up.join().unwrap();
}
