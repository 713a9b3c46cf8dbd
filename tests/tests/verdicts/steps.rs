//! Plays a scene step by step and looks at everything after each.

use std::net::IpAddr;
use std::time::Duration;

use bulkhead_abi::{
    Address, AggregateKey, Counter, Direction, EVENT_AUDIT, Event, KIND_DROP, NO_RULE, REASONS, Rate, from_ip,
};
use bulkhead_dataplane::Kind;
use bulkhead_engine::memory::Tables;
use bulkhead_engine::{Action, Metadata, Reason};
use bulkhead_policy::compile::Program as Compiled;
use bulkhead_testkit::packets::build::{Ip, ethernet, ethertype, hex};

use crate::kernel::{GENERATION, INTERFACE, Kernel, Program, ample, blank_metadata, settled};
use crate::world::Place;

/// The bytes of a step.
pub enum Bytes {
    /// A packet; on Ethernet with a plain header before it.
    Packet(Vec<u8>),
    /// A frame as it is, for Ethernet only.
    Frame(Vec<u8>),
}

/// One packet and what must become of it.
pub struct Step {
    /// It goes the other way than the packet under test.
    pub back: bool,
    /// When, in seconds since the scene's first packet.
    pub after: u64,
    pub bytes: Bytes,
    pub reason: Reason,
    /// The policy's rule that the outcome names.
    pub rule: u32,
    /// What its event names as destination, if not the packet's.
    pub named: Option<IpAddr>,
}

/// Some steps; the last is the packet under test.
pub struct Scene {
    pub name: &'static str,
    /// Seconds of the clock at its start; else some time after the scene before.
    pub start: Option<u64>,
    pub steps: Vec<Step>,
}

impl Step {
    /// A packet the way of the test.
    pub fn forth(packet: &Ip, reason: Reason) -> Self {
        Self::raw(packet.bytes(), reason)
    }

    /// A packet the other way.
    pub fn back(packet: &Ip, reason: Reason) -> Self {
        Self { back: true, ..Self::forth(packet, reason) }
    }

    /// A packet of these bytes.
    pub fn raw(bytes: Vec<u8>, reason: Reason) -> Self {
        Self { back: false, after: 0, bytes: Bytes::Packet(bytes), reason, rule: NO_RULE, named: None }
    }

    /// A frame of these bytes.
    pub fn frame(bytes: Vec<u8>, reason: Reason) -> Self {
        Self { bytes: Bytes::Frame(bytes), ..Self::raw(Vec::new(), reason) }
    }

    pub fn rule(self, rule: u32) -> Self {
        Self { rule, ..self }
    }

    pub fn after(self, after: u64) -> Self {
        Self { after, ..self }
    }
}

/// A generation, and the clock that goes on from scene to scene.
pub struct Stage {
    kernel: Kernel,
    tables: Tables,
    kind: Kind,
    audit: bool,
    clock: u64,
    /// The policy's rules by their number in the tables.
    rules: Vec<usize>,
}

impl Stage {
    pub fn new(compiled: &Compiled, kind: Kind, audit: bool) -> Self {
        Self::with(compiled, kind, audit, Rate::default(), 0)
    }

    /// With a rate at which senders may begin flows, and `LINK_` bits.
    pub fn with(compiled: &Compiled, kind: Kind, audit: bool, new_flows: Rate, link: u32) -> Self {
        let kernel = Kernel::with(&compiled.tables, kind, audit, ample(), new_flows, link);
        let Compiled { tables, rules, .. } = compiled;
        Self { kernel, kind, audit, clock: 0, tables: tables.clone(), rules: rules.clone() }
    }

    /// The number that the tables have for a rule of the policy.
    fn number(&self, rule: u32) -> u32 {
        let position = self.rules.iter().position(|number| *number == rule as usize);
        position.map_or(NO_RULE, |position| position as u32)
    }

    /// Plays a scene with its last packet on a program; returns the last reason, unless this
    /// kind of interface has no such packets.
    pub fn play(&mut self, program: Program, place: &Place, scene: &Scene) -> Option<Reason> {
        let is_frame = |step: &Step| matches!(step.bytes, Bytes::Frame(_));
        if self.kind == Kind::BareIp && scene.steps.iter().any(is_frame) {
            return None;
        }
        let last = scene.steps.last()?;
        if !program.takes(&self.bytes(last)) {
            // Of what BPF_PROG_TEST_RUN refuses to give to a classifier, XDP gets all.
            assert_ne!(program, Program::XdpIngress, "{}", scene.name);
            return None;
        }
        self.kernel.forget_flows();
        if scene.start.is_some_and(|start| start < self.clock) {
            self.kernel.forget_icmp_misses();
        }
        self.clock = scene.start.unwrap_or((self.clock + 1000).max(1000));
        let start = self.clock;
        for (index, step) in scene.steps.iter().enumerate() {
            self.clock = start + step.after;
            self.kernel.set_clock(self.clock * 1_000_000_000);
            let program = match (step.back, program.direction()) {
                (false, _) => program,
                (true, Direction::Ingress) => Program::TcEgress,
                (true, Direction::Egress) => Program::TcIngress,
            };
            let name = format!("{}, step {index}, {program:?}, {:?}, v4 {}", scene.name, self.kind, place.v4);
            self.take(step, program, &name);
        }
        Some(last.reason)
    }

    fn bytes(&self, step: &Step) -> Vec<u8> {
        match (&step.bytes, self.kind) {
            (Bytes::Frame(frame), _) => frame.clone(),
            (Bytes::Packet(packet), Kind::BareIp) => packet.clone(),
            (Bytes::Packet(packet), Kind::Ethernet) => ethernet(&[], ethertype(packet), packet),
        }
    }

    fn take(&mut self, step: &Step, program: Program, name: &str) {
        let bytes = self.bytes(step);
        let name = &format!("{name}\n{}", hex(&bytes));
        let direction = program.direction();
        let (reasons, rules) = (self.kernel.reasons(), self.kernel.rules());
        let before = boot_time();
        let action = self.kernel.run(program, &bytes);
        let memory = self.kernel.memory(&self.tables);
        let meta = match settled(&memory, &bytes, direction, true) {
            Some((length, outcome)) => {
                let mut meta = blank_metadata();
                (meta.headers.length, meta.outcome) = (length, outcome);
                meta
            }
            None => self.kernel.meta(direction),
        };
        assert_eq!((meta.outcome.reason, meta.outcome.rule), (step.reason, self.number(step.rule)), "{name}");
        assert_eq!(action, self.kernel.action(step.reason), "{name}");

        let index = (direction.index() * REASONS) as usize + step.reason as usize;
        let reason = (step.reason != Reason::Rule).then_some(index);
        let rule = matches!(step.reason, Reason::Rule | Reason::DenyRule | Reason::VenueDefaultDeny)
            .then_some(self.number(step.rule) as usize);
        check_deltas(&reasons, &self.kernel.reasons(), reason, meta.headers.length, name);
        check_deltas(&rules, &self.kernel.rules(), rule, meta.headers.length, name);

        let events = self.kernel.events();
        if step.reason.action() == Action::Pass {
            assert_eq!(events, [], "{name}");
        } else {
            let [event] = events[..] else { panic!("{} events\n{name}", events.len()) };
            self.check_event(event, &meta, step.named, &bytes, name);
            if step.reason == Reason::LinkProtocol {
                let at = if bytes[12..14] == [0x81, 0] { 16 } else { 12 };
                assert_eq!(event.key.port.to_be_bytes(), bytes[at..at + 2], "the EtherType, {name}");
            }
            assert!((before..=boot_time()).contains(&Duration::from_nanos(event.time)), "{name}");
        }
        self.kernel.forget_aggregates();
        assert_eq!(self.kernel.lost(), 0);
    }

    /// The event against the packet's own bytes, and what cannot be read from them against the metadata.
    fn check_event(&self, event: Event, meta: &Metadata, named: Option<IpAddr>, bytes: &[u8], name: &str) {
        let headers = &meta.headers;
        let (source, destination) = addresses(bytes, self.kind, meta);
        let destination = named.map_or(destination, from_ip);
        let direction = Direction::of_index(u32::from(event.key.reason >> 7));
        let key = AggregateKey {
            source,
            destination,
            interface: INTERFACE,
            rule: meta.outcome.rule,
            generation: GENERATION,
            port: headers.destination_port,
            protocol: headers.protocol,
            reason: meta.outcome.reason as u8 | (direction.index() as u8) << 7,
            other_rule: NO_RULE,
            other_generation: 0,
            other_reason: 0,
            kind: KIND_DROP,
            reserved: [0; 2],
        };
        assert_eq!(event.key, key, "{name}");
        let told = (event.length, event.source_port, event.detail, event.flags);
        let flags = if self.audit { EVENT_AUDIT } else { 0 };
        assert_eq!(told, (headers.length, headers.source_port, headers.detail, flags), "{name}");
    }
}

/// The addresses of a packet, read where they lie; zeros if it was not parsed that far.
fn addresses(bytes: &[u8], kind: Kind, meta: &Metadata) -> (Address, Address) {
    let mut packet = bytes;
    if kind == Kind::Ethernet {
        let tags = bytes[12..]
            .chunks(4)
            .take_while(|tag| [[0x81, 0], [0x88, 0xa8]].iter().any(|of| tag.starts_with(of)));
        packet = bytes.get(14 + 4 * tags.count()..).unwrap_or_default();
    }
    let v4 = |at: usize| IpAddr::from(<[u8; 4]>::try_from(&packet[at..at + 4]).expect("4 bytes"));
    let v6 = |at: usize| IpAddr::from(<[u8; 16]>::try_from(&packet[at..at + 16]).expect("16 bytes"));
    match meta.headers.version {
        4 => (from_ip(v4(12)), from_ip(v4(16))),
        6 => (from_ip(v6(8)), from_ip(v6(24))),
        _ => Default::default(),
    }
}

/// Of all counters the one at `moved` went up by one packet, and no other.
fn check_deltas(before: &[Counter], after: &[Counter], moved: Option<usize>, length: u32, name: &str) {
    for (index, (before, after)) in before.iter().zip(after).enumerate() {
        let delta = (after.packets - before.packets, after.bytes - before.bytes);
        let due = if moved == Some(index) { (1, u64::from(length)) } else { (0, 0) };
        assert_eq!(delta, due, "counter {index}, {name}");
    }
}

/// `CLOCK_BOOTTIME`.
fn boot_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
