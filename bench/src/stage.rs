//! A generation that is attached to nothing, its flows, and what its counters say.

use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

use anyhow::{Context as _, Result, ensure};
use aya::maps::{HashMap, Map, MapData, RingBuf};
use bulkhead_abi::{
    AggregateKey, AggregateValue, DIRECTIONS, Direction, LOST_RING, REASONS, TIMEOUTS, Timeouts,
};
use bulkhead_dataplane::{
    Capacity, Generation, Hook as Place, Kind, Specialisation, Specification, TABLE_MAPS,
};
use bulkhead_engine::Reason;
use bulkhead_engine::memory::Tables;
use bulkhead_testkit::measure::{Addresses, Driver, Hook, Order, Then, Write, bpf};
use bulkhead_testkit::packets::build::{Ip, Ports, ethernet, ethertype, tcp, udp};

use crate::world::Family;

/// Time-outs that no run reaches.
pub const LONG: Timeouts = Timeouts([3600; TIMEOUTS]);

/// TCP flags.
pub const SYN: u8 = 0x02;
/// TCP flag.
pub const ACK: u8 = 0x10;

/// Who sends a packet of a conversation between a node and one of many others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// One of the others.
    Peer,
    /// The node.
    Node,
}

/// What a packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carries {
    /// A TCP segment with these flags.
    Tcp(u8),
    /// A TCP segment that is the first with data: a TLS record's header with this type of handshake.
    Hello(u8),
    /// A TCP segment without data behind such ones of both ends.
    Settled,
    /// A datagram.
    Udp,
}

/// ClientHello and ServerHello (RFC 8446 section 4).
const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;

/// Bytes of [`hello`].
const HELLO: u32 = 6;

/// The header of a TLS record (RFC 8446 section 5.1), and of the handshake in it its type.
const fn hello(kind: u8) -> [u8; 6] {
    [0x16, 3, 1, 0, 42, kind]
}

/// A segment whose sequence and acknowledgement numbers are so much higher.
fn advanced(mut segment: Vec<u8>, by: [u32; 2]) -> Vec<u8> {
    for (at, by) in [4, 8].into_iter().zip(by) {
        let number = u32::from_be_bytes([segment[at], segment[at + 1], segment[at + 2], segment[at + 3]]);
        segment[at..at + 4].copy_from_slice(&number.wrapping_add(by).to_be_bytes());
    }
    segment
}

/// Bytes of a link header: Ethernet's where XDP runs, none where TC runs.
#[must_use]
pub const fn link_header(hook: Hook) -> i16 {
    match hook {
        Hook::Tc => 0,
        Hook::Xdp => 14,
    }
}

/// Kinds of packets between the node and others.
#[derive(Clone, Copy, Debug)]
pub struct Traffic {
    /// Where they are seen, and so whether they have a link header.
    pub hook: Hook,
    /// IP version.
    pub family: Family,
    /// The others.
    pub addresses: Addresses,
}

impl Traffic {
    /// A packet to or from the first of the others. `ports` are the other's and the node's.
    #[must_use]
    pub fn packet(&self, from: From, carries: Carries, ports: Ports) -> Vec<u8> {
        let (peer, node) = (self.family.address(&self.addresses, 0), self.family.node());
        let (source, destination, ports) = match from {
            From::Peer => (peer, node, ports),
            From::Node => (node, peer, (ports.1, ports.0)),
        };
        let ip = match carries {
            Carries::Tcp(flags) => Ip::new(source, destination, 6, tcp(ports, flags, &[])),
            Carries::Hello(kind) => {
                let segment = tcp(ports, ACK, &hello(kind));
                let heard = if kind == SERVER_HELLO { HELLO } else { 0 };
                Ip::new(source, destination, 6, advanced(segment, [1, heard]))
            }
            Carries::Settled => {
                Ip::new(source, destination, 6, advanced(tcp(ports, ACK, &[]), [1 + HELLO, HELLO]))
            }
            // As long as the TCP segment, so that one program reads both.
            Carries::Udp => Ip::new(source, destination, 17, udp(ports, &[0; 12])),
        };
        self.framed(&ip.bytes())
    }

    /// With the link header that the hook has.
    #[must_use]
    pub fn framed(&self, ip: &[u8]) -> Vec<u8> {
        match self.hook {
            Hook::Tc => ip.to_vec(),
            Hook::Xdp => ethernet(&[], ethertype(ip), ip),
        }
    }

    /// What a driver writes into such a packet.
    #[must_use]
    pub fn write(&self, from: From, order: Order) -> Write {
        let offset = match (self.family, from) {
            (Family::V4, From::Peer) => 12,
            (Family::V4, From::Node) => 16,
            (Family::V6, From::Peer) => 20,
            (Family::V6, From::Node) => 36,
        };
        let link = link_header(self.hook);
        let length = i32::from(link) + 40;
        Write { addresses: self.addresses, order, offset: link + offset, length, parts: None, checksum: None }
    }
}

/// A generation under test and its counters.
pub struct Stage {
    generation: Generation,
    /// Those of what is reported, and of drops that are not.
    reasons: [OwnedFd; 2],
    rules: OwnedFd,
    rule_count: u32,
    cpus: usize,
}

impl Stage {
    /// Builds a generation for packets of a hook: bare IP for TC, Ethernet for XDP. So many
    /// flows fit; at most `event_budget` drops a second are reported.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn new(hook: Hook, tables: &Tables, flows: u32, event_budget: u32) -> Result<Self> {
        let kind = match hook {
            Hook::Tc => Kind::BareIp,
            Hook::Xdp => Kind::Ethernet,
        };
        Self::of_kind(kind, tables, flows, event_budget)
    }

    /// Builds a generation for Ethernet frames at every hook.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn for_frames(tables: &Tables, event_budget: u32) -> Result<Self> {
        Self::of_kind(Kind::Ethernet, tables, Capacity::default().flows, event_budget)
    }

    /// Builds a generation for an interface of a kind.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn of_kind(kind: Kind, tables: &Tables, flows: u32, event_budget: u32) -> Result<Self> {
        let wanted = (Specialisation::new(kind, 0), Place::ALL.to_vec());
        let specification = Specification {
            // Openings come all at once here.
            capacity: Capacity { flows, ..Capacity::default() },
            event_budget,
            ..Specification::new(1, tables, LONG)
        };
        let generation = Generation::build(&specification, &[wanted], None)?;
        let reasons = [descriptor(&generation, "REASON_COUNTERS")?, descriptor(&generation, "UNREPORTED")?];
        let rules = descriptor(&generation, "RULE_COUNTERS")?;
        let cpus = aya::util::nr_cpus().map_err(|(what, error)| anyhow::Error::new(error).context(what))?;
        Ok(Self { generation, reasons, rules, rule_count: tables.rules, cpus })
    }

    /// A driver in front of a program: `ingress` by the hook's, `egress` by TC's.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn driver(
        &mut self,
        traffic: &Traffic,
        write: Write,
        packet: &[u8],
        direction: Direction,
    ) -> Result<Driver> {
        let (hook, next) = match direction {
            Direction::Ingress => (traffic.hook, self.ingress(traffic.hook)?),
            Direction::Egress => (Hook::Tc, self.egress()?),
        };
        Driver::new(hook, Then::Program(next.as_fd()), write, packet)
    }

    /// The program for ingress.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn ingress(&mut self, hook: Hook) -> Result<OwnedFd> {
        let group = self.generation.only_group()?;
        let program = match hook {
            Hook::Xdp => group.xdp("xdp_ingress")?.fd()?,
            Hook::Tc => group.classifier("tc_ingress")?.fd()?,
        };
        Ok(program.as_fd().try_clone_to_owned()?)
    }

    /// The program for egress, TC's.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn egress(&mut self) -> Result<OwnedFd> {
        let program = self.generation.only_group()?.classifier("tc_egress")?.fd()?;
        Ok(program.as_fd().try_clone_to_owned()?)
    }

    /// Sends one packet by each of the others, in order, through a program.
    fn by_all(&mut self, traffic: &Traffic, from: From, carries: Carries, ports: Ports) -> Result<()> {
        let packet = traffic.packet(from, carries, ports);
        let direction = if from == From::Peer { Direction::Ingress } else { Direction::Egress };
        let driver = self.driver(traffic, traffic.write(from, Order::Sequential), &packet, direction)?;
        driver.run(&packet, traffic.addresses.count)?;
        Ok(())
    }

    /// Opens and completes a TCP conversation with each of the others. `ports` are theirs and the
    /// node's.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn establish_tcp(&mut self, traffic: &Traffic, opener: From, ports: Ports) -> Result<()> {
        let other = if opener == From::Peer { From::Node } else { From::Peer };
        self.by_all(traffic, opener, Carries::Tcp(SYN), ports)?;
        self.by_all(traffic, other, Carries::Tcp(SYN | ACK), ports)?;
        // Completed by a segment of who was asked.
        self.by_all(traffic, other, Carries::Tcp(ACK), ports)
    }

    /// Opens a connection between the node and each of the others, which begins as TLS.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn establish_tls(&mut self, traffic: &Traffic, opener: From, ports: Ports) -> Result<()> {
        let other = if opener == From::Peer { From::Node } else { From::Peer };
        self.by_all(traffic, opener, Carries::Tcp(SYN), ports)?;
        self.by_all(traffic, other, Carries::Tcp(SYN | ACK), ports)?;
        self.by_all(traffic, opener, Carries::Hello(CLIENT_HELLO), ports)?;
        self.by_all(traffic, other, Carries::Hello(SERVER_HELLO), ports)?;
        self.by_all(traffic, opener, Carries::Settled, ports)?;
        self.by_all(traffic, other, Carries::Settled, ports)
    }

    /// Exchanges a datagram with each of the others.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn establish_udp(&mut self, traffic: &Traffic, ports: Ports) -> Result<()> {
        self.by_all(traffic, From::Peer, Carries::Udp, ports)?;
        self.by_all(traffic, From::Node, Carries::Udp, ports)
    }

    /// Packets that were decided so far for a reason.
    #[must_use]
    pub fn count(&self, reason: Reason, direction: Direction) -> u64 {
        if reason == Reason::Rule {
            return (0..self.rule_count).map(|rule| self.sum(&self.rules, rule)).sum();
        }
        self.reasons.iter().map(|map| self.sum(map, direction.index() * REASONS + reason as u32)).sum()
    }

    /// MiB of kernel memory of the generation's own maps.
    ///
    /// # Errors
    /// If the kernel does not tell.
    pub fn table_memory(&self) -> Result<f64> {
        self.memory(TABLE_MAPS)
    }

    /// MiB of kernel memory of some maps.
    ///
    /// # Errors
    /// If the kernel does not tell.
    pub fn memory(&self, names: &[&str]) -> Result<f64> {
        let mut bytes = 0;
        for name in names {
            bytes += memory_of(&descriptor(&self.generation, name)?)?;
        }
        Ok(bytes as f64 / f64::from(1 << 20))
    }

    /// The event ring.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn events(&self) -> Result<RingBuf<MapData>> {
        let data = MapData::from_fd(descriptor(&self.generation, "EVENTS")?)?;
        Ok(RingBuf::try_from(Map::RingBuf(data))?)
    }

    /// Drops that aggregates hold.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn aggregated(&self) -> Result<u64> {
        const HALF: usize = size_of::<u32>();
        const WORD: usize = size_of::<u64>();
        let mut sum = 0;
        for name in ["AGGREGATES_0", "AGGREGATES_1"] {
            let data = MapData::from_fd(descriptor(&self.generation, name)?)?;
            let map = HashMap::<
                _,
                [u32; size_of::<AggregateKey>() / HALF],
                [u64; size_of::<AggregateValue>() / WORD],
            >::try_from(Map::HashMap(data))?;
            for entry in map.iter() {
                // Packets come first.
                sum += entry?.1[0];
            }
        }
        Ok(sum)
    }

    /// Drops that neither an event nor an aggregate tells of: for want of room in the ring, and beyond
    /// the budget.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn lost(&self) -> Result<[u64; 2]> {
        let map = descriptor(&self.generation, "LOST_EVENTS")?;
        let mut values = vec![0; 8 * self.cpus];
        ensure!(bpf::has(&map, &LOST_RING.to_ne_bytes(), &mut values), "no counter of lost events");
        let ring = values.as_chunks().0.iter().map(|cpu| u64::from_ne_bytes(*cpu)).sum();
        let [_, unreported] = &self.reasons;
        Ok([ring, (0..DIRECTIONS * REASONS).map(|index| self.sum(unreported, index)).sum()])
    }

    /// Packets of one counter, all CPUs together.
    fn sum(&self, map: &OwnedFd, index: u32) -> u64 {
        // Packets and bytes, for each CPU.
        let mut values = vec![0; 16 * self.cpus];
        bpf::has(map, &index.to_ne_bytes(), &mut values);
        values.chunks_exact(16).map(|cpu| u64::from_ne_bytes(cpu[..8].try_into().unwrap_or_default())).sum()
    }
}

/// A descriptor of a map of a generation, for as long as one likes.
fn descriptor(generation: &Generation, name: &str) -> Result<OwnedFd> {
    generation.descriptor(name)?.try_clone_to_owned().context("share a map")
}

/// Bytes of kernel memory that a map holds.
fn memory_of(map: &OwnedFd) -> Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", map.as_raw_fd()))?;
    let line = text.lines().find_map(|line| line.strip_prefix("memlock:"));
    line.and_then(|bytes| bytes.trim().parse().ok()).context("fdinfo does not tell the map's memory")
}

/// Stays on one CPU from here on, so that per-CPU state and caches are its own.
///
/// # Errors
/// If the kernel refuses.
pub fn stay_on(cpu: usize) -> Result<()> {
    let mut set = rustix::thread::CpuSet::new();
    ensure!(cpu < rustix::thread::CpuSet::MAX_CPU, "there is no CPU {cpu}");
    set.set(cpu);
    rustix::thread::sched_setaffinity(None, &set).context("stay on one CPU")
}
