//! `bulkhead watch` as an operator uses it: filtered, from the past on without a gap, in a terminal and on its whole
//! screen.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bulkhead_testkit::lab::{Process, slower};
use rustix::termios::{Termios, tcgetattr};
use serde_json::Value;

use crate::site::account::reports;
use crate::site::{Over, Site, WEB};

/// Datagrams of the stranger to ports that no rule admits.
fn knock(site: &Site, ports: impl IntoIterator<Item = u16>, pause: Duration) {
    let any = SocketAddr::from(([0, 0, 0, 0], 0));
    let socket = site.namespace("stranger").run(|| UdpSocket::bind(any)).unwrap().unwrap();
    for port in ports {
        socket.send_to(b"?", SocketAddr::new(site.address("server"), port)).unwrap();
        std::thread::sleep(pause);
    }
}

/// `watch` with more flags; it writes to a file.
fn watch(site: &Site, name: &str, more: &[&str]) -> Process {
    let mut command = site.command();
    command.args(["--instance", site.instance(), "watch"]).args(more);
    Process::spawn(site.namespace("server"), &mut command, &site.lab.directory().join(name)).unwrap()
}

/// Waits until something holds.
fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + slower(Duration::from_secs(20));
    while !holds() {
        assert!(Instant::now() < deadline, "not so: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// How often each text is there.
fn times(lines: impl IntoIterator<Item = String>) -> BTreeMap<String, u32> {
    let mut times = BTreeMap::new();
    for line in lines {
        *times.entry(line).or_default() += 1;
    }
    times
}

#[test]
fn only_what_is_asked_for_is_shown() {
    let mut site = Site::new("asked", Over::Ethernet, &[WEB]);
    site.start();
    let by_port = watch(&site, "by-port", &["--port", "1001"]);
    let by_reason = watch(&site, "by-reason", &["--reason", "deny_rule"]);
    let by_name =
        watch(&site, "by-name", &["--from", "stranger", "--protocol", "udp", "--direction", "ingress"]);
    std::thread::sleep(slower(Duration::from_millis(500)));
    knock(&site, 1000..1003, Duration::ZERO);
    until("all three are told of", || by_name.log().lines().count() == 3);
    let line = by_port.log();
    assert!(line.lines().count() == 1 && line.contains(" 1001/udp no_rule on eth0"), "{line}");
    assert!(!line.contains('\u{1b}'), "a file has no colours: {line:?}");
    assert_eq!(by_reason.log(), "");

    for (words, said) in [
        (&["--reason", "because"][..], "no reason"),
        (&["--since", "yesterday"], "no time"),
        (&["--top"], "needs a terminal"),
        (&["--direction", "up"], "ingress"),
    ] {
        let output = site.bulkhead(&[&["watch"], words].concat());
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && error.contains(said), "{words:?}: {error}");
    }
}

#[test]
fn what_was_and_what_comes_join_without_a_gap_or_a_double() {
    let mut site = Site::new("since", Over::Ethernet, &[WEB]);
    site.start();
    knock(&site, 2000..2200, Duration::ZERO);
    // Each joins in the middle of what goes on.
    let watching: Vec<_> = std::thread::scope(|scope| {
        let knocking = scope.spawn(|| knock(&site, 3000..5000, Duration::from_micros(700)));
        let names = ["a", "b", "c", "d"];
        let watching = names.map(|name| {
            std::thread::sleep(Duration::from_millis(300));
            watch(&site, name, &["--json", "--since", "10m"])
        });
        knocking.join().unwrap();
        watching.into()
    });
    let of_log = || {
        let told = reports(&site.journal_file());
        let told =
            told.into_iter().filter(|event| !matches!(event["kind"].as_str(), Some("balance" | "lost")));
        times(told.map(|event| event.to_string()))
    };
    let drops = || reports(&site.journal_file()).iter().filter(|event| event["kind"] == "drop").count();
    until("all drops are told of", || drops() >= 2200);
    for process in watching {
        let seen = || {
            let log = process.log();
            let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            times(lines.map(|event| event.to_string()))
        };
        // Others come meanwhile, such as router discovery.
        let told = of_log();
        until("everything is seen, as often as it was", || {
            let seen = seen();
            told.iter().all(|(event, count)| seen.get(event) == Some(count))
        });
        let (seen, told) = (seen(), of_log());
        for (event, count) in &seen {
            assert_eq!(told.get(event), Some(count), "{event}");
        }
    }
    // From later on.
    let later = watch(&site, "later", &["--json", "--since", "36500d", "--port", "3500"]);
    until("one of the past", || later.log().lines().count() == 1);
    let none = watch(&site, "none", &["--json", "--since", "2500-01-01T00:00:00Z"]);
    knock(&site, [3500], Duration::ZERO);
    until("one of the past and a new one", || later.log().lines().count() == 2);
    assert_eq!(none.log(), "");
}

/// A command in a terminal of its own.
struct InTerminal {
    process: Child,
    master: File,
    terminal: OwnedFd,
    shown: Arc<Mutex<Vec<u8>>>,
    before: Termios,
}

impl InTerminal {
    fn new(site: &Site, words: &[&str], settings: &[(&str, &str)]) -> Self {
        let (mut master, mut terminal) = (-1, -1);
        let size = libc::winsize { ws_row: 30, ws_col: 130, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: two numbers to fill in, no name, no settings, and a size.
        let opened = unsafe {
            libc::openpty(
                &raw mut master,
                &raw mut terminal,
                std::ptr::null_mut(),
                std::ptr::null(),
                &raw const size,
            )
        };
        assert_eq!(opened, 0);
        // SAFETY: they were just opened, and nobody else has them.
        let (master, terminal) = unsafe { (OwnedFd::from_raw_fd(master), OwnedFd::from_raw_fd(terminal)) };
        let before = tcgetattr(&terminal).unwrap();
        let mut command: Command = site.command();
        command.args(["--instance", site.instance(), "watch"]).args(words);
        command.env_remove("NO_COLOR").env("TERM", "xterm").envs(settings.iter().copied());
        // That of a command in a namespace is empty otherwise.
        site.namespace("server").prepare(&mut command).unwrap();
        let end = || terminal.try_clone().unwrap();
        let process = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        let shown = Arc::<Mutex<Vec<u8>>>::default();
        let (mut reader, all) = (File::from(master.try_clone().unwrap()), shown.clone());
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count) = reader.read(&mut bytes) {
                all.lock().unwrap().extend_from_slice(&bytes[..count]);
            }
        });
        Self { process, master: File::from(master), terminal, shown, before }
    }

    fn shown(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().unwrap()).into_owned()
    }

    fn until(&self, words: &str) {
        let deadline = Instant::now() + slower(Duration::from_secs(20));
        while !self.shown().contains(words) {
            assert!(Instant::now() < deadline, "{words:?} is not in {:?}", self.shown());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn press(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + slower(Duration::from_secs(10));
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "it goes on: {:?}", self.shown());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn is_raw(&self) -> bool {
        tcgetattr(&self.terminal).unwrap().local_modes != self.before.local_modes
    }

    /// Ends, and everything is as it was.
    fn ends(&mut self) -> ExitStatus {
        let status = self.wait();
        self.until("\u{1b}[?1049l");
        self.until("\u{1b}[?25h");
        let after = tcgetattr(&self.terminal).unwrap();
        let modes = |of: &Termios| (of.local_modes, of.input_modes, of.output_modes, of.control_modes);
        assert_eq!(modes(&after), modes(&self.before));
        status
    }
}

impl Drop for InTerminal {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_terminal_shows_columns_and_colours_that_can_be_left_out() {
    let mut site = Site::new("columns", Over::Ethernet, &[WEB]);
    site.start();
    let coloured = InTerminal::new(&site, &[], &[]);
    let plain = InTerminal::new(&site, &[], &[("NO_COLOR", "1")]);
    let never = InTerminal::new(&site, &["--color", "never"], &[]);
    std::thread::sleep(slower(Duration::from_millis(500)));
    knock(&site, [7, 65_000], Duration::ZERO);
    for terminal in [&coloured, &plain, &never] {
        terminal.until("65000/udp");
    }
    assert!(coloured.shown().contains("\u{1b}[31m"), "{:?}", coloured.shown());
    for terminal in [&plain, &never] {
        let shown = terminal.shown();
        assert!(!shown.contains('\u{1b}'), "{shown:?}");
        let lines: Vec<_> = shown.lines().filter(|line| line.contains("/udp")).collect();
        let place = |line: &str| line.chars().position(|letter| letter == '→');
        assert!(lines.len() == 2 && place(lines[0]) == place(lines[1]), "{lines:?}");
        assert!(lines[0].contains("stranger") && lines[0].contains("no_rule"), "{lines:?}");
    }
}

#[test]
fn the_whole_screen_follows_and_is_given_back() {
    let mut site = Site::new("top", Over::Ethernet, &[WEB]);
    site.start();
    let mut top = InTerminal::new(&site, &["--top"], &[]);
    top.until("enforced");
    assert!(top.is_raw());
    knock(&site, [7, 65_000], Duration::ZERO);
    for words in ["stranger", "65000/udp", "no_rule", "budget"] {
        top.until(words);
    }
    top.press("p");
    top.until("HELD");
    top.press("p/port=7\r");
    top.until("filter:");
    // Over a restart of the agent.
    site.kill();
    top.until("ended");
    site.start();
    top.until("watched");
    top.press("q");
    assert_eq!(top.ends().code(), Some(0));

    // Ctrl-C, and signals.
    let mut top = InTerminal::new(&site, &["--top"], &[("NO_COLOR", "1")]);
    top.until("enforced");
    let colours = ["\u{1b}[31", "\u{1b}[32", "\u{1b}[38"];
    assert!(!colours.iter().any(|colour| top.shown().contains(colour)), "{:?}", top.shown());
    top.press("\u{3}");
    assert_eq!(top.ends().code(), Some(0));
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
        let mut top = InTerminal::new(&site, &["--top"], &[]);
        top.until("enforced");
        let pid = i32::try_from(top.process.id()).unwrap();
        // SAFETY: our own child, not waited for yet.
        unsafe { libc::kill(pid, signal) };
        assert_eq!(top.ends().code(), Some(0), "{signal}");
    }

    // Where no agent is, the terminal stays as it is.
    site.kill();
    let mut top = InTerminal::new(&site, &["--top"], &[]);
    assert_eq!(top.wait().code(), Some(3));
    top.until("no agent listens");
    assert!(!top.shown().contains('\u{1b}'), "{:?}", top.shown());
}
