//! Many attempts of many workloads, drawn at random, and judged on the wire: whoever the other end sees is whoever sent.
//!
//! Each workload, and the rest of the host, has a port at the peer of its own, to which it alone sends, and one at which
//! it answers. So each packet that the peer gets tells whose it is, whatever its source says.

mod attempts;

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use bulkhead_testkit::setting;

use self::attempts::{at, draw};
use super::capture::{Capture, Captured, Packet, What};
use super::cgroup::{Actor, Cgroups};
use super::witness::Witness;
use crate::site::{Over, Site};

/// The peer, by each family.
const PEERS: [&str; 2] = ["100.64.0.2", "fd7a:115c:a1e0::2"];
/// The first port at the peer to which a workload sends, by its number; behind them that of the rest of the host.
const BEGUN: u16 = 20_000;
/// The first port at which a workload answers.
const SERVED: u16 = 21_000;
/// The port at the peer to which those send who are in another network namespace.
const STRANGERS: u16 = 22_000;

/// Who is who on the host.
#[derive(Clone)]
pub struct Host {
    /// The addresses of each workload, and behind them those of the rest of the host.
    own: Vec<Vec<IpAddr>>,
    /// Those of the namespace that attempts are made from as well.
    strangers: Vec<IpAddr>,
    /// Its path, and that of the host's.
    elsewhere: String,
    here: String,
}

impl Host {
    /// Whether a packet that the peer gets is from whoever it says.
    fn is_right(&self, packet: &Packet) -> bool {
        let is_own = |who: u16| {
            let own = self.own.get(usize::from(who));
            own.is_some_and(|own| own.contains(&packet.source))
        };
        let is_there = self.own.iter().chain([&self.strangers]).flatten().any(|own| *own == packet.source);
        match packet.what {
            // Resets, errors and echoes of the kernel are from where they were asked for.
            What::Tcp { is_reset: true, .. } => is_there,
            What::Tcp { from, to, .. } | What::Udp { from, to } => match (from, to) {
                (_, STRANGERS) => self.strangers.contains(&packet.source),
                (_, BEGUN..SERVED) => is_own(to - BEGUN),
                (SERVED..STRANGERS, _) => is_own(from - SERVED),
                _ => false,
            },
            What::Icmp { kind: 8 | 128, identifier } => is_own(identifier.wrapping_sub(BEGUN)),
            What::Icmp { .. } => is_there || packet.source.to_string().starts_with("fe80"),
            What::Other(_) => false,
        }
    }
}

/// The host with its workloads, each of which has an actor; the last actor is of the rest of the host.
struct Crowd {
    /// These end before their cgroups are removed.
    actors: Vec<Actor>,
    /// Of the peer.
    clients: Vec<Actor>,
    site: Site,
    cgroups: Cgroups,
    host: Host,
    capture: Capture,
    label: &'static str,
    /// Keeps answering.
    _witness: Witness,
}

impl Crowd {
    /// No agent yet.
    fn new(label: &'static str, count: usize) -> Self {
        let mut own: Vec<Vec<IpAddr>> = (1..=count)
            .map(|number| {
                let v4 = format!("100.64.9.{number}").parse().unwrap();
                let v6 = format!("fd7a:115c:a1e0::9:{number:x}").parse().unwrap();
                // Some have one family.
                if number % 3 == 0 { vec![v4] } else { vec![v4, v6] }
            })
            .collect();
        let of_workloads: Vec<IpAddr> = own.iter().flatten().copied().collect();
        let site = Site::with_addresses(label, Over::Tunnel, &[], &of_workloads);
        let path = |name: &str| site.namespace(name).path().display().to_string();
        own.push(vec![super::HOST.parse().unwrap(), super::HOST6.parse().unwrap()]);
        let host = Host {
            own,
            strangers: site.addresses("stranger"),
            elsewhere: path("stranger"),
            here: path("server"),
        };
        let ports = (0..=count as u16).map(|who| BEGUN + who).chain([STRANGERS]);
        let answers: Vec<SocketAddr> =
            ports.flat_map(|port| PEERS.map(|peer| at(peer, port).parse().unwrap())).collect();
        let witness = Witness::start(site.namespace("client"), &answers);
        let judge = host.clone();
        let capture = Capture::start(site.namespace("client"), "wg0", move |packet| judge.is_right(packet));
        let server = site.namespace("server");
        server.run(|| std::fs::write("/proc/sys/net/ipv4/ping_group_range", "0 0")).unwrap().unwrap();
        let cgroups = Cgroups::new(label);
        let mut crowd = Self {
            site,
            cgroups,
            host,
            actors: Vec::new(),
            clients: Vec::new(),
            capture,
            label,
            _witness: witness,
        };
        crowd.write();
        crowd.actors = (0..=count).map(|who| crowd.actor(who)).collect();
        let client = crowd.cgroups.at("user.slice/client.scope");
        crowd.clients = (0..4).map(|_| Actor::new(crowd.site.namespace("client"), &client)).collect();
        crowd
    }

    /// All may come everywhere, so that nothing but who they are keeps them apart.
    fn write(&self) {
        let quoted = |addresses: &[IpAddr]| {
            let quoted: Vec<_> = addresses.iter().map(|address| format!("\"{address}\"")).collect();
            quoted.join(", ")
        };
        let (rest, workloads) = self.host.own.split_last().unwrap();
        let mut each = String::new();
        for (who, own) in workloads.iter().enumerate() {
            let comma = if who == 0 { "" } else { "," };
            let (own, unit) = (quoted(own), self.unit(who));
            writeln!(
                each,
                r#"{comma}{{"name": "w{who}", "addresses": [{own}], "tags": ["tag:w"], "match": {{"unit": "{unit}"}}}}"#
            )
            .unwrap();
        }
        let (rest, peers, strangers) =
            (quoted(rest), PEERS.map(|peer| format!("\"{peer}\"")).join(", "), quoted(&self.host.strangers));
        self.site.write(
            "inventory.json",
            &format!(
                r#"{{"nodes": [{{"name": "server", "addresses": [{rest}], "tags": ["tag:server"],
  "routes": ["100.64.9.0/24", "fd7a:115c:a1e0::9:0/112"], "workloads": [{each}]}},
  {{"name": "client", "addresses": [{peers}], "tags": ["tag:client"]}},
  {{"name": "stranger", "addresses": [{strangers}], "tags": ["tag:client"]}}]}}"#
            ),
        );
        self.site.write(
            "policy.hujson",
            r#"{"tagOwners": {"tag:w": [], "tag:server": [], "tag:client": []},
                "acls": [{"action": "accept", "src": ["*"], "dst": ["*:*"]}]}"#,
        );
        let lo = "[[interface]]\nname = \"lo\"\nrole = \"local\"\n";
        self.site.write("agent.toml", &(self.site.configuration("server", "wg0") + lo));
    }

    fn unit(&self, who: usize) -> String {
        format!("w{who}-{}-{}.service", std::process::id(), self.label)
    }

    /// The cgroup of a workload, or of the rest of the host.
    fn cgroup(&self, who: usize) -> String {
        if who + 1 == self.host.own.len() {
            return "user.slice/other.scope".to_owned();
        }
        format!("system.slice/{}", self.unit(who))
    }

    /// Starts one's process, which answers at its port.
    fn actor(&self, who: usize) -> Actor {
        let mut actor = Actor::new(self.site.namespace("server"), &self.cgroups.at(&self.cgroup(who)));
        for by in ["tcp", "udp"] {
            let at = format!("0.0.0.0:{}", SERVED + who as u16);
            assert_eq!(actor.ask(&format!("listen {by} {at} w{who} told")), "listening");
        }
        actor
    }

    /// Waits until the agent knows each as what it is.
    fn wait(&mut self) {
        self.site.wait_for("all workloads run", |status| {
            let workloads = status["agent"]["workloads"].as_array().unwrap();
            workloads.iter().all(|workload| workload["state"] == "running")
        });
    }

    /// Lets each do one thing at the same time, and some of the peer come to one of them; who heard what.
    fn round(&mut self, random: &mut fastrand::Rng, tally: &mut Tally) {
        let commands: Vec<_> = (0..self.actors.len()).map(|who| draw(random, &self.host, who)).collect();
        let (everybody, peers) = (self.actors.len(), self.clients.len());
        let mut target = |_| {
            let (address, port) = (random.usize(..everybody), random.usize(..everybody));
            if random.bool() { (address, address) } else { (address, port) }
        };
        let targets: Vec<_> = (0..peers).map(&mut target).collect();
        for (actor, command) in self.actors.iter_mut().zip(&commands) {
            actor.begin(command);
        }
        for (client, (address, port)) in self.clients.iter_mut().zip(&targets) {
            let by = if random.bool() { "tcp" } else { "udp" };
            client.begin(&format!("{by} {}", at(self.host.own[*address][0], SERVED + *port as u16)));
        }
        for (who, (actor, command)) in self.actors.iter_mut().zip(&commands).enumerate() {
            let answer = actor.end();
            tally.note(command, &answer);
            let own = if command.contains(&self.host.elsewhere) && !command.contains(&self.host.here) {
                &self.host.strangers
            } else {
                &self.host.own[who]
            };
            // What it was seen as, by the peer or by another of the host: last in what was said, but for what it had sent
            // with its SYN and gets back.
            let seen = answer.strip_prefix("seen ").and_then(|said| said.split(' ').next_back());
            let seen = seen.map(|seen| seen.trim_end_matches('x'));
            let is_right = seen.is_none_or(|seen| own.iter().any(|own| own.to_string() == seen));
            tally.judge(is_right, || format!("{who}: {command}: {answer}"));
        }
        for (client, (address, port)) in self.clients.iter_mut().zip(&targets) {
            let answer = client.end();
            tally.note("arrival", &answer);
            let is_right = !answer.starts_with("seen")
                || address == port && answer.starts_with(&format!("seen w{port} "));
            tally.judge(is_right, || format!("to {address} at {port}'s port: {answer}"));
        }
    }

    /// One of what needs more than one step.
    fn step(&mut self, random: &mut fastrand::Rng, tally: &mut Tally) {
        let workloads = self.actors.len() - 1;
        let (one, other) = (random.usize(..workloads), random.usize(..workloads));
        let to = |who: usize| at(PEERS[0], BEGUN + who as u16);
        match random.u8(..4) {
            // A unit starts again, and speaks at once: in a cgroup that nobody has seen.
            0 => {
                let cgroup = self.cgroup(one);
                let before = self.cgroups.id(&cgroup);
                let new = self.cgroups.at("user.slice/placeholder.scope");
                drop(std::mem::replace(
                    &mut self.actors[one],
                    Actor::new(self.site.namespace("server"), &new),
                ));
                self.cgroups.remove(&cgroup);
                self.actors[one] = self.actor(one);
                // An id is never a later cgroup's.
                assert!(self.cgroups.id(&cgroup) > before);
                for _ in 0..3 {
                    let command = draw(random, &self.host, one);
                    let answer = self.actors[one].ask(&command);
                    tally.note("restart", &answer);
                }
                if random.bool() {
                    self.wait();
                    tally.note("restart", &self.actors[one].ask(&format!("tcp {}", to(one))));
                }
            }
            // A socket is handed over, and speaks as whose it was.
            1 if one != other => {
                let path = self.site.path("passed");
                let _ = std::fs::remove_file(&path);
                assert_eq!(self.actors[one].ask("open udp given"), "open");
                self.actors[one].begin(&format!("give given {path}"));
                assert_eq!(self.actors[other].ask(&format!("take given {path}")), "taken");
                assert_eq!(self.actors[one].end(), "given");
                let answer = self.actors[other].ask(&format!("use given {}", to(one)));
                tally.note("passed", &answer);
                for who in [one, other] {
                    self.actors[who].ask("close given");
                }
            }
            // A process goes elsewhere: what it opened stays whose it was, what it opens is where it is.
            2 if one != other => {
                let place = |crowd: &Self, who| crowd.cgroups.at(&crowd.cgroup(who)).display().to_string();
                let (home, away) = (place(self, one), place(self, other));
                let actor = &mut self.actors[one];
                assert_eq!(actor.ask("open udp old"), "open");
                assert_eq!(actor.ask(&format!("move {away}")), "moved");
                let answers = [format!("use old {}", to(one)), format!("tcp {}", to(other))];
                let answers = answers.map(|command| actor.ask(&command));
                assert_eq!(actor.ask(&format!("move {home}")), "moved");
                actor.ask("close old");
                answers.iter().for_each(|answer| tally.note("moved", answer));
            }
            // A cgroup below its own is the same workload.
            _ => {
                let below = format!("{}/below", self.cgroup(one));
                let mut actor = Actor::new(self.site.namespace("server"), &self.cgroups.at(&below));
                self.wait();
                tally.note("below", &actor.ask(&draw(random, &self.host, one)));
                for option in ["option bypass", "option xdp"] {
                    let answer = actor.ask(option);
                    tally.note(option, &answer);
                    tally.judge(answer == "error PermissionDenied", || format!("{option}: {answer}"));
                }
                drop(actor);
                self.cgroups.remove(&below);
            }
        }
    }
}

/// What came of attempts.
#[derive(Default)]
struct Tally {
    attempts: usize,
    /// By kind: how many, and how many of them the other end has heard.
    kinds: std::collections::BTreeMap<String, (usize, usize)>,
    wrong: Vec<String>,
}

impl Tally {
    fn note(&mut self, command: &str, answer: &str) {
        self.attempts += 1;
        let mut kind = command.split(' ').next().unwrap_or_default().to_owned();
        for option in ["mptcp", "fastopen", "sqpoll", "source", "device", "freebind", "transparent", "mapped"]
        {
            if command.contains(option) {
                write!(kind, "+{option}").unwrap();
                break;
            }
        }
        if command.starts_with("option") {
            kind = command.to_owned();
        }
        let (all, heard) = self.kinds.entry(kind).or_default();
        *all += 1;
        *heard += usize::from(answer.starts_with("seen") || answer == "echoed");
    }

    fn judge(&mut self, is_right: bool, words: impl Fn() -> String) {
        if !is_right {
            self.wrong.push(words());
        }
    }

    /// How many attempts of this kind were heard.
    fn heard(&self, kind: &str) -> usize {
        self.kinds.get(kind).map_or(0, |(_, heard)| *heard)
    }
}

#[test]
fn nobody_is_seen_as_another_whatever_is_tried() {
    let attempts = setting("BULKHEAD_BYPASSES", 300) as usize;
    let seed = setting("BULKHEAD_SEED", fastrand::u64(..));
    println!("BULKHEAD_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut crowd = Crowd::new("random", 20);
    // While nobody looks the capture finds others' names.
    let mut unheld = Tally::default();
    for _ in 0..3 {
        crowd.round(&mut random, &mut unheld);
    }
    let Captured { packets, wrong } = crowd.capture.take();
    assert!(packets > 20 && wrong.len() > 5 && !unheld.wrong.is_empty(), "{packets}: {wrong:?}");
    crowd.site.start();
    crowd.wait();
    crowd.capture.take();

    let (begin, mut tally, mut packets) = (Instant::now(), Tally::default(), 0);
    while tally.attempts < attempts {
        crowd.round(&mut random, &mut tally);
        crowd.step(&mut random, &mut tally);
        let captured = crowd.capture.take();
        packets += captured.packets;
        assert!(
            captured.wrong.is_empty() && tally.wrong.is_empty(),
            "{:?} {:?}",
            captured.wrong,
            tally.wrong
        );
    }
    let missed = crowd.capture.missed();
    println!(
        "{} attempts of 20 workloads and their host in {} s: {packets} packets at the peer, {missed} missed, none under \
         another's name",
        tally.attempts,
        begin.elapsed().as_secs(),
    );
    assert_eq!(missed, 0);
    for (kind, (all, heard)) in &tally.kinds {
        println!("  {kind}: {all}, heard {heard}");
    }
    for kind in ["tcp", "udp", "udp+source", "echo", "arrival", "within", "child", "ring", "passed", "moved"]
    {
        assert!(tally.heard(kind) > 0, "{kind} is heard when it is itself: {:?}", tally.kinds);
    }
    assert!(packets as usize > attempts, "{packets}");
}
