//! The agent as a service: what it tells the service manager, and what is closed before it runs.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::guard::nft;
use crate::site::account::reports;
use crate::site::{Over, Site, WEB};

/// Signs of life are due as often.
const SIGN: Duration = Duration::from_millis(250);

/// Stands for the service manager.
struct Manager(UnixDatagram);

impl Manager {
    /// A command that tells it.
    fn new(site: &Site) -> (Self, Command) {
        let path = site.path("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let mut command = site.command();
        let limit = (SIGN * 4).as_micros().to_string();
        command.env("NOTIFY_SOCKET", path).env("WATCHDOG_USEC", limit);
        (Self(socket), command)
    }

    /// Waits for a message with all these lines' beginnings.
    fn hear(&self, lines: &[&str]) -> String {
        let deadline = Instant::now() + Duration::from_secs(30);
        let mut heard = Vec::new();
        while Instant::now() < deadline {
            let Some(message) = self.next() else { continue };
            if lines.iter().all(|line| message.lines().any(|found| found.starts_with(line))) {
                return message;
            }
            heard.push(message);
        }
        panic!("{lines:?} does not come; heard: {heard:?}");
    }

    fn next(&self) -> Option<String> {
        let mut buffer = [0; 1000];
        self.0.recv(&mut buffer).ok().map(|length| String::from_utf8_lossy(&buffer[..length]).into_owned())
    }

    /// Whether no sign of life comes for a while.
    fn is_silent(&self) -> bool {
        // What is on the way, and what was just being said.
        std::thread::sleep(SIGN * 2);
        while self.next().is_some() {}
        std::thread::sleep(SIGN * 6);
        self.next().is_none()
    }
}

#[test]
fn the_service_manager_is_told() {
    let mut site = Site::new("service", Over::Ethernet, &[WEB]);
    let (manager, command) = Manager::new(&site);
    site.launch_by(command, &[]);
    manager.hear(&["READY=1", "STATUS=generation 1, enforce mode, on eth0"]);
    assert!(site.link("eth0", "tcx-egress").exists(), "ready once it enforces");
    manager.hear(&["WATCHDOG=1"]);
    site.signal(libc::SIGHUP);
    let reloading = manager.hear(&["RELOADING=1", "MONOTONIC_USEC="]);
    let time = reloading.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC=")).unwrap();
    let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
    let seconds: f64 = uptime.split('.').next().unwrap().parse().unwrap();
    assert!((time.parse::<f64>().unwrap() / 1e6 - seconds).abs() < 60.0, "{time} at {seconds} s");
    manager.hear(&["READY=1", "STATUS=generation 2, "]);
    site.signal(libc::SIGTERM);
    manager.hear(&["STOPPING=1"]);
    assert_eq!(site.exit_code(), Some(0));
    assert!(site.log().contains("stays enforced"), "{}", site.log());
}

#[test]
fn an_agent_that_waits_for_its_interface_is_ready_and_lives() {
    let mut site = Site::new("svcwait", Over::Ethernet, &[WEB]);
    site.write("agent.toml", &(site.configuration("server", "eth0") + "optional = true\n"));
    site.namespace("server").ip("link del eth0").unwrap();
    let (manager, command) = Manager::new(&site);
    site.launch_by(command, &[]);
    manager.hear(&["READY=1", "STATUS=waiting for an interface: eth0"]);
    assert!(site.has_guard(), "closed before whatever makes the interface goes on");
    manager.hear(&["WATCHDOG=1"]);
    site.replace_interface();
    manager.hear(&["READY=1", "STATUS=generation 1, enforce mode, on eth0"]);
}

#[test]
fn an_agent_that_cannot_go_on_gives_no_sign_of_life() {
    let mut site = Site::new("svchang", Over::Ethernet, &[WEB]);
    let (manager, mut command) = Manager::new(&site);
    // An nft that hangs while there is a file, of which the agent's change of the guard waits.
    let (programs, hangs) = (site.path("programs"), site.path("hangs"));
    std::fs::create_dir(&programs).unwrap();
    let path = std::env::var("PATH").unwrap();
    let script =
        format!("#!/bin/sh\nwhile [ -e {hangs} ]; do sleep 0.05; done\nPATH={path} exec nft \"$@\"\n");
    let nft_file = format!("{programs}/nft");
    std::fs::write(&nft_file, script).unwrap();
    std::fs::set_permissions(&nft_file, std::fs::Permissions::from_mode(0o755)).unwrap();
    command.env("PATH", format!("{programs}:{path}"));
    site.launch_by(command, &[]);
    manager.hear(&["READY=1"]);
    assert!(!manager.is_silent());
    std::fs::write(&hangs, "").unwrap();
    nft(&site, &format!("delete table inet bulkhead-{}", site.instance()));
    assert!(manager.is_silent(), "its locks are held for ever");
    std::fs::remove_file(&hangs).unwrap();
    manager.hear(&["WATCHDOG=1"]);
}

/// The capabilities of packaging/systemd/bulkhead.service, for which nothing but the kernel's answers is asked.
#[test]
fn four_capabilities_are_enough() {
    let mut site = Site::new("svccaps", Over::Ethernet, &[WEB]);
    let launch = |site: &mut Site| {
        let mut command = Command::new("setpriv");
        command
            .arg("--bounding-set=-all,+bpf,+perfmon,+net_admin,+net_raw")
            .arg(site.command().get_program());
        let pid = site.launch_by(command, &[]);
        site.wait_for("the agent answers", |status| status["agent"]["pid"] == pid)
    };
    let generations = |status: &serde_json::Value| -> Vec<u64> {
        let links = status["links"].as_array().unwrap().iter();
        links.map(|link| link["generation"].as_u64().unwrap_or_default()).collect()
    };
    let status = launch(&mut site);
    assert_eq!((&status["state"], generations(&status)), (&"enforced".into(), vec![1, 1]), "{status}");
    assert!(site.connects("client", 8080) && site.is_denied("client", 8081));
    site.done(&["apply"]);
    site.kill();
    let status = launch(&mut site);
    assert_eq!((&status["state"], generations(&status)), (&"enforced".into(), vec![3, 3]), "{status}");
    site.done(&["quarantine", "client"]);
    assert!(site.is_denied("client", 8080));
    site.done(&["release", "client"]);
    assert!(site.connects("client", 8080));
    let events = reports(&site.journal_file());
    assert!(!events.is_empty() && events.iter().all(|event| event["kind"] != "unenforced"), "{events:?}");
}

/// What a reboot leaves of it: the state directory.
fn forget_all_but_the_state(site: &mut Site) {
    site.kill();
    nft(site, &format!("delete table inet bulkhead-{}", site.instance()));
    std::fs::remove_dir_all(site.pins()).unwrap();
    std::fs::remove_dir_all(format!("/run/bulkhead/{}", site.instance())).unwrap();
}

#[test]
fn what_was_enforced_is_closed_until_the_agent_enforces_again() {
    let mut site = Site::new("svcguard", Over::Ethernet, &[WEB]);
    let config = site.path("agent.toml");
    let close = |site: &Site| {
        let output = site.bulkhead(&["guard", "--config", &config]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(close(&site).contains("nothing was enforced"));
    assert!(!site.has_guard() && site.connects("client", 8081), "nobody is locked out by an installation");
    site.start();
    assert!(close(&site).contains("already"), "what runs is left alone");
    assert!(site.connects("client", 8080));

    forget_all_but_the_state(&mut site);
    assert!(site.connects("client", 8081), "nothing is enforced");
    assert!(close(&site).contains("closed until the agent enforces there: eth0"));
    assert!(site.is_denied("client", 8081) && site.is_denied("client", 8080));
    let status = site.bulkhead(&["status"]);
    assert_eq!(status.status.code(), Some(1), "{status:?}");
    let said = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(said.contains("degraded") && said.contains("the guard closes every managed interface"), "{said}");
    site.start();
    assert!(site.connects("client", 8080) && site.is_denied("client", 8081));

    // The agent cannot start, and the operator opens the host.
    forget_all_but_the_state(&mut site);
    assert!(close(&site).contains("eth0"));
    let detached = site.bulkhead(&["detach"]);
    assert!(String::from_utf8_lossy(&detached.stdout).contains("the guard is removed"), "{detached:?}");
    assert!(!site.has_guard() && site.connects("client", 8081));
    assert!(String::from_utf8_lossy(&site.bulkhead(&["status"]).stdout).contains("nothing is enforced"));
    site.start();

    // A file that went bad while the host was down.
    forget_all_but_the_state(&mut site);
    let text = std::fs::read_to_string(&config).unwrap();
    site.write("agent.toml", "node = ");
    assert!(close(&site).contains("eth0"));
    assert!(site.is_denied("client", 8080));
    site.write("agent.toml", &(text.clone() + "\n[[management]]\nfrom = [\"203.0.113.9\"]\nports = [22]\n"));
    site.start();
    assert!(site.connects("client", 8080) && site.is_denied("client", 8081));

    // Audit mode drops nothing, at a start neither.
    site.done(&["apply", "--mode", "audit"]);
    forget_all_but_the_state(&mut site);
    assert!(close(&site).contains("audit mode"));
    assert!(site.connects("client", 8081));
    site.write("agent.toml", &(String::from("guard = false\n") + &text));
    assert!(close(&site).contains("guard = false"));
}
