//! One admitted identity begins new flows without end while another keeps conversations in which
//! nothing is said: none of those may be lost. The agent's own programs and tables, at their default
//! sizes and time-outs, run packet by packet at a clock of the test's.
//!
//! `cargo xtask prove flows` runs 10 million flows beside 10,000 conversations, or `BULKHEAD_FLOWS`
//! and `BULKHEAD_IDLE`; `BULKHEAD_SEED` chooses the flood's ports.

mod kernel;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use bulkhead_abi::{Direction, REASONS, Rate};
use bulkhead_dataplane::{DEFAULT_NEW_FLOWS, Kind, Specification, default_timeouts, per_second};
use bulkhead_engine::parse::protocol::{TCP, UDP};
use bulkhead_engine::{Action, Reason};
use bulkhead_testkit::packets::World;
use bulkhead_testkit::packets::build::{Ip, Ports, ethernet, ethertype, tcp, udp};
use bulkhead_testkit::setting;
use kernel::{GENERATION, Kernel, Program};

const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
/// The port of the server that idle conversations are with.
const SERVICE: u16 = 8080;
/// The first of their own ports, by address family.
const FIRST_PORT: u16 = 20_000;
/// Odd, so that multiplying by it permutes the numbers of 32 bits.
const FACTOR: u32 = 0x9e37_79b1;
/// Flows between two steps of the clock. The burst of the rate is more.
const STEP: u64 = 100;

const POLICY: &str = r#"{
    "acls": [
        {"action": "accept", "src": ["tag:client"], "dst": ["tag:server:8080"]},
        {"action": "accept", "src": ["tag:flood"], "dst": ["tag:server:*"]}],
    "tagOwners": {"tag:server": [], "tag:client": [], "tag:flood": []}}"#;
const INVENTORY: &str = r#"{"nodes": [
    {"name": "server", "addresses": ["100.64.0.1", "fd7a:115c:a1e0::1"], "tags": ["tag:server"]},
    {"name": "client", "addresses": ["100.64.0.2", "fd7a:115c:a1e0::2"], "tags": ["tag:client"]},
    {"name": "flood", "addresses": ["100.64.0.3", "fd7a:115c:a1e0::3"], "tags": ["tag:flood"]}]}"#;

/// An address of a node of the inventory.
fn address(node: u16, v4: bool) -> IpAddr {
    if v4 { [100, 64, 0, node as u8].into() } else { [0xfd7a, 0x115c, 0xa1e0, 0, 0, 0, 0, node].into() }
}

/// Who talks to the server, and by what.
#[derive(Clone, Copy)]
struct Ends {
    node: u16,
    v4: bool,
    protocol: u8,
    ports: Ports,
}

/// An idle conversation of the client's; every other one is IPv6.
fn idle(number: u16) -> Ends {
    Ends { node: 2, v4: number.is_multiple_of(2), protocol: TCP, ports: (FIRST_PORT + number / 2, SERVICE) }
}

/// A flow of the flood; every other one is UDP. All that have ports differ.
fn flood(number: u32, seed: u32) -> Option<Ends> {
    let mixed = number.wrapping_mul(FACTOR) ^ seed;
    let ports = ((mixed >> 16) as u16, mixed as u16);
    let protocol = if number.is_multiple_of(2) { TCP } else { UDP };
    (ports.0 != 0 && ports.1 != 0).then_some(Ends { node: 3, v4: true, protocol, ports })
}

/// The programs at work.
struct Ground {
    kernel: Kernel,
    kind: Kind,
    now: u64,
}

impl Ground {
    fn new(world: &World, kind: Kind, new_flows: Rate) -> Self {
        let specification = Specification {
            new_flows,
            ..Specification::new(GENERATION, &world.program.tables, default_timeouts())
        };
        let mut ground = Self { kernel: Kernel::of(specification, kind, 0), kind, now: 0 };
        ground.pass_time(Duration::from_secs(100));
        ground
    }

    fn pass_time(&mut self, time: Duration) {
        self.now += time.as_nanos() as u64;
        self.kernel.set_clock(self.now);
    }

    /// Runs one packet of a flow: of its initiator, or of the server. Flags are TCP's.
    fn packet(&mut self, ends: Ends, direction: Direction, flags: u8) -> Action {
        let Ends { node, v4, protocol, ports } = ends;
        let (peer, server) = (address(node, v4), address(1, v4));
        let (source, destination, ports) = match direction {
            Direction::Ingress => (peer, server, ports),
            Direction::Egress => (server, peer, (ports.1, ports.0)),
        };
        let payload = if protocol == TCP { tcp(ports, flags, &[]) } else { udp(ports, &[]) };
        let packet = Ip::new(source, destination, protocol, payload).bytes();
        let program = match (self.kind, direction) {
            (Kind::Ethernet, Direction::Ingress) => Program::XdpIngress,
            (Kind::BareIp, Direction::Ingress) => Program::TcIngress,
            (_, Direction::Egress) => Program::TcEgress,
        };
        match self.kind {
            Kind::Ethernet => self.kernel.run(program, &ethernet(&[], ethertype(&packet), &packet)),
            Kind::BareIp => self.kernel.run(program, &packet),
        }
    }

    fn opens(&mut self, ends: Ends) -> bool {
        self.packet(ends, Direction::Ingress, SYN) == Action::Pass
    }

    /// A whole conversation, completed by what the server says after its accept.
    fn completes(&mut self, ends: Ends) -> bool {
        self.opens(ends)
            && (ends.protocol != TCP
                || self.packet(ends, Direction::Egress, SYN | ACK) == Action::Pass
                    && self.packet(ends, Direction::Ingress, ACK) == Action::Pass)
            && self.replies(ends)
    }

    fn replies(&mut self, ends: Ends) -> bool {
        self.packet(ends, Direction::Egress, ACK) == Action::Pass
    }

    /// Begins flow after flow of the flood, so far apart; how many of them `begin` says yes to.
    fn flood(&mut self, flows: u32, seed: u32, apart: Duration, begin: fn(&mut Self, Ends) -> bool) -> u32 {
        let mut begun = 0;
        for number in 0..flows {
            if u64::from(number).is_multiple_of(STEP) {
                self.pass_time(apart * STEP as u32);
            }
            if let Some(ends) = flood(number, seed) {
                begun += u32::from(begin(self, ends));
            }
        }
        begun
    }

    /// Packets by reason, those that a rule passed left out.
    fn reasons(&self) -> BTreeMap<String, u64> {
        let counters = self.kernel.reasons();
        let name = |index: usize| {
            let direction = if index < REASONS as usize { "ingress" } else { "egress" };
            let reason = Reason::from_number((index % REASONS as usize) as u8);
            format!("{direction} {}", reason.map_or("?", Reason::name))
        };
        let counted = counters.iter().enumerate().filter(|(_, counter)| counter.packets != 0);
        counted.map(|(index, counter)| (name(index), counter.packets)).collect()
    }
}

/// Idle conversations, a flood, and what is left of the conversations.
fn withstands(
    name: &str,
    (kind, new_flows): (Kind, Rate),
    apart: Duration,
    begin: fn(&mut Ground, Ends) -> bool,
) {
    let flows = setting("BULKHEAD_FLOWS", 200_000) as u32;
    let idle_flows = setting("BULKHEAD_IDLE", 1_000) as u16;
    let seed = setting("BULKHEAD_SEED", 1) as u32;
    let world = World::new(POLICY.to_owned(), INVENTORY.to_owned(), "server");
    let mut ground = Ground::new(&world, kind, new_flows);
    for number in 0..idle_flows {
        // One sender's rate.
        ground.pass_time(Duration::from_millis(1));
        assert!(ground.completes(idle(number)), "idle conversation {number} does not begin");
    }
    assert!(!ground.replies(idle(idle_flows)), "replies of what was never begun pass: this proves nothing");
    let (start, begins) = (Instant::now(), ground.now);
    let begun = ground.flood(flows, seed, apart, begin);
    let (took, simulated) = (start.elapsed(), Duration::from_nanos(ground.now - begins));
    let lost: Vec<u16> = (0..idle_flows).filter(|number| !ground.replies(idle(*number))).collect();
    let kept = usize::from(idle_flows) - lost.len();
    println!(
        "{name}: {begun} of {flows} begun in {simulated:.0?} of the flows' clock ({took:.1?}); \
         {kept} of {idle_flows} idle conversations go on; packets {:?}",
        ground.reasons()
    );
    assert!(begun >= flows / 4, "a flood that is refused proves nothing: {begun} of {flows}");
    assert!(
        lost.is_empty(),
        "{name}, BULKHEAD_FLOWS={flows} BULKHEAD_IDLE={idle_flows} BULKHEAD_SEED={seed}: {} of the idle \
         conversations are lost, the first is number {}",
        lost.len(),
        lost[0]
    );
    // Nor is the flooded host closed to others.
    ground.pass_time(Duration::from_secs(1));
    assert!(ground.completes(idle(idle_flows)), "{name}: another identity begins no conversation any more");
}

/// Whatever a sender can do without being answered, as fast as a network carries it: no rate holds
/// it back here.
#[test]
fn bare_openings_cost_no_idle_conversation() {
    withstands("bare openings", (Kind::Ethernet, Rate::default()), Duration::from_micros(1), Ground::opens);
}

/// Whatever an admitted identity can do at the rate that agent.toml has by default.
#[test]
fn completed_conversations_cost_no_idle_one() {
    let rate = per_second(DEFAULT_NEW_FLOWS);
    let apart = Duration::from_nanos(rate.interval);
    withstands("whole conversations", (Kind::BareIp, rate), apart, Ground::completes);
}
