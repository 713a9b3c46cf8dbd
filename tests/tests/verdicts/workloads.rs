//! Who sends: a workload's address from its cgroup, from others, and as the kernel; and `lo`.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use bulkhead_abi::Workload;
use bulkhead_dataplane::{Kind, Specification};
use bulkhead_engine::memory::Tables;
use bulkhead_engine::parse::protocol::{TCP, UDP};
use bulkhead_engine::{Action, Reason};
use bulkhead_policy::compile::{Limits, compile_loopback};
use bulkhead_testkit::packets::World;
use bulkhead_testkit::packets::build::{Ip, tcp, udp};

use crate::decided;
use crate::kernel::{Kernel, Program, ample, specification};

const SYN: u8 = 2;
const ACK: u8 = 0x10;
const RST: u8 = 4;
const HIGH: u16 = 40_000;

/// A host with an engine and a backup, and a peer.
fn world() -> World {
    let policy = r#"{"tagOwners": {"tag:engine": [], "tag:peer": [], "tag:host": []},
        "acls": [
            {"action": "accept", "src": ["tag:engine"], "dst": ["tag:peer:443"]},
            {"action": "accept", "src": ["tag:peer"], "dst": ["tag:engine:80"]},
            {"action": "accept", "src": ["tag:host"], "dst": ["tag:peer:443", "tag:engine:80"]}]}"#;
    let inventory = r#"{"nodes": [
        {"name": "n1", "addresses": ["100.64.0.1", "fd7a:115c:a1e0::1"], "tags": ["tag:host"],
         "routes": ["100.64.9.0/30", "fd7a:115c:a1e0::90/124"], "workloads": [
            {"name": "engine", "addresses": ["100.64.9.1", "fd7a:115c:a1e0::91"], "tags": ["tag:engine"], "match": {"unit": "engine.service"}},
            {"name": "backup", "addresses": ["100.64.9.2", "fd7a:115c:a1e0::92"], "match": {"unit": "backup.service"}}]},
        {"name": "n2", "addresses": ["100.64.0.2", "fd7a:115c:a1e0::2"], "tags": ["tag:peer"]}]}"#;
    World::new(policy.to_owned(), inventory.to_owned(), "n1")
}

/// The addresses of one family.
#[derive(Clone, Copy)]
struct Ends {
    host: IpAddr,
    engine: IpAddr,
    backup: IpAddr,
    peer: IpAddr,
}

fn ends(v4: bool) -> Ends {
    let of = |v4_text: &str, v6_text: &str| if v4 { v4_text } else { v6_text }.parse().expect("an address");
    Ends {
        host: of("100.64.0.1", "fd7a:115c:a1e0::1"),
        engine: of("100.64.9.1", "fd7a:115c:a1e0::91"),
        backup: of("100.64.9.2", "fd7a:115c:a1e0::92"),
        peer: of("100.64.0.2", "fd7a:115c:a1e0::2"),
    }
}

/// Cgroups of this test's own, in which its process is while it runs.
struct Cgroups {
    before: PathBuf,
    top: PathBuf,
}

impl Cgroups {
    const NAMES: [&str; 2] = ["engine", "backup"];

    fn new() -> Self {
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("the mounts");
        let mount = mounts.lines().find(|line| line.contains(" - cgroup2 ")).expect("cgroup2");
        let root = Path::new(mount.split(' ').nth(4).expect("a mount point"));
        let own = fs::read_to_string("/proc/self/cgroup").expect("the own cgroup");
        let own = own.lines().find_map(|line| line.strip_prefix("0::/")).expect("a cgroup of cgroup2");
        let top = root.join(format!("bulkhead-verdicts-{}", std::process::id()));
        for name in Self::NAMES {
            fs::create_dir_all(top.join(name)).expect("a cgroup");
        }
        Self { before: root.join(own), top }
    }

    /// The id of a cgroup below the own top.
    fn id(&self, name: &str) -> u64 {
        fs::metadata(self.top.join(name)).expect("a cgroup").ino()
    }

    /// Moves this process.
    fn enter(&self, name: &str) {
        move_to(&self.top.join(name));
    }

    /// Moves this process to where the kernel's own sockets are.
    fn enter_root(&self) {
        move_to(self.top.parent().expect("the mount point"));
    }
}

fn move_to(cgroup: &Path) {
    fs::write(cgroup.join("cgroup.procs"), std::process::id().to_string()).expect("moving to a cgroup");
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        move_to(&self.before);
        for name in Self::NAMES {
            let _ = fs::remove_dir(self.top.join(name));
        }
        let _ = fs::remove_dir(&self.top);
    }
}

struct Scene {
    kernel: Kernel,
    kind: Kind,
}

impl Scene {
    fn new(tables: &Tables, kind: Kind, is_loopback: bool) -> Self {
        let specification = Specification { event_budget: u32::MAX, ..specification(tables, ample()) };
        Self { kernel: Kernel::of_interface(specification, kind, 0, is_loopback), kind }
    }

    /// Hands a packet over; why it was decided so. `from` is the interface by which it came in, 0: none.
    fn run(&mut self, program: Program, packet: &Ip, from: u32) -> Reason {
        decided(&mut self.kernel, self.kind, program, packet, from)
    }

    fn sent(&mut self, packet: &Ip) -> Reason {
        self.run(Program::TcEgress, packet, 0)
    }
}

fn segment((from, port): (IpAddr, u16), (to, to_port): (IpAddr, u16), flags: u8) -> Ip {
    Ip::new(from, to, TCP, tcp((port, to_port), flags, b""))
}

/// Gives each workload its cgroup.
fn run(tables: &mut Tables, cgroups: [u64; 2]) {
    for workload in tables.workloads.iter_mut().filter(|workload| workload.is_some()) {
        let cgroup = cgroups[workload.number as usize];
        *workload = Workload { cgroup, level: 2, ..*workload };
    }
}

/// Plays everything; returns the reasons. Nothing else may move the process meanwhile.
pub fn play() -> Vec<Reason> {
    let world = world();
    let cgroups = Cgroups::new();
    let ids = Cgroups::NAMES.map(|name| cgroups.id(name));
    let mut tables = world.program.tables.clone();
    run(&mut tables, ids);
    for kind in [Kind::BareIp, Kind::Ethernet] {
        for v4 in [true, false] {
            over_an_overlay(&tables, &cgroups, kind, ends(v4));
        }
    }
    let program = compile_loopback(&world.ruleset, &world.inventory, "n1", Limits::default());
    let mut tables = program.expect("tables of lo").tables;
    run(&mut tables, ids);
    for v4 in [true, false] {
        over_lo(&tables, &cgroups, ends(v4));
    }
    vec![Reason::WorkloadSpoofed, Reason::Loopback]
}

fn over_an_overlay(tables: &Tables, cgroups: &Cgroups, kind: Kind, ends: Ends) {
    let Ends { host, engine, backup, peer } = ends;
    let mut scene = Scene::new(tables, kind, false);
    let ask = |from: IpAddr| segment((from, HIGH), (peer, 443), SYN);
    let go_on = |from: IpAddr| segment((from, HIGH), (peer, 443), ACK);
    let reset = segment((engine, 80), (peer, HIGH), RST | ACK);
    let asked = segment((peer, HIGH), (engine, 80), SYN);

    cgroups.enter("engine");
    for packet in [ask(engine), go_on(engine), ask(host)] {
        assert_eq!(scene.sent(&packet), Reason::Rule);
    }
    assert_eq!(scene.sent(&ask(backup)), Reason::WorkloadSpoofed);
    cgroups.enter("backup");
    for packet in
        [ask(engine), go_on(engine), reset.clone(), Ip::new(engine, peer, UDP, udp((HIGH, 443), b"x"))]
    {
        assert_eq!(scene.sent(&packet), Reason::WorkloadSpoofed);
    }
    assert_eq!(scene.sent(&ask(backup)), Reason::NoRule);
    assert_eq!(scene.sent(&ask(host)), Reason::Rule);
    // As the kernel: it answers and begins nothing, and what came in by an interface is not its.
    cgroups.enter_root();
    assert_eq!(scene.sent(&ask(engine)), Reason::WorkloadSpoofed);
    assert_eq!(scene.sent(&reset), Reason::Reset);
    assert_eq!(scene.run(Program::TcIngress, &asked, 0), Reason::Rule);
    assert_eq!(scene.sent(&reset), Reason::Reply);
    assert_eq!(scene.run(Program::TcEgress, &reset, 1), Reason::WorkloadSpoofed);
    // What arrives has no sender here.
    assert_eq!(scene.run(Program::XdpIngress, &asked, 0), Reason::Rule);
    assert_eq!(
        scene.run(Program::TcIngress, &segment((engine, HIGH), (host, 443), SYN), 0),
        Reason::NotLocal
    );
}

fn over_lo(tables: &Tables, cgroups: &Cgroups, ends: Ends) {
    let Ends { host, engine, backup, peer } = ends;
    let mut scene = Scene::new(tables, Kind::Ethernet, true);
    let mut over = |packet: &Ip| {
        let sent = scene.sent(packet);
        let arrived = (sent.action() == Action::Pass).then(|| scene.run(Program::TcIngress, packet, 0));
        (sent, arrived)
    };
    let between = |from: IpAddr, to: IpAddr, flags| segment((from, HIGH), (to, 80), flags);
    let answer = segment((engine, 80), (host, HIGH), 0x12);
    let local: IpAddr =
        if host.is_ipv4() { [127, 0, 0, 1].into() } else { std::net::Ipv6Addr::LOCALHOST.into() };

    cgroups.enter("backup");
    let passes = (Reason::Loopback, Some(Reason::Loopback));
    for (from, to) in [(local, local), (host, host), (host, local), (peer, host)] {
        assert_eq!(over(&between(from, to, SYN)), passes);
    }
    assert_eq!(over(&between(backup, engine, SYN)), (Reason::NoRule, None));
    assert_eq!(over(&between(backup, backup, SYN)), passes);
    assert_eq!(over(&between(engine, engine, SYN)), (Reason::WorkloadSpoofed, None));
    assert_eq!(over(&answer), (Reason::WorkloadSpoofed, None));
    assert_eq!(over(&between(host, engine, SYN)), (Reason::Rule, Some(Reason::Rule)));
    cgroups.enter("engine");
    assert_eq!(over(&answer), (Reason::Reply, Some(Reason::Reply)));
    assert_eq!(over(&between(engine, backup, SYN)), (Reason::NoRule, None));
    cgroups.enter_root();
    assert_eq!(over(&between(engine, engine, SYN)), (Reason::WorkloadSpoofed, None));
    assert_eq!(over(&between(engine, engine, RST)), passes);
}
