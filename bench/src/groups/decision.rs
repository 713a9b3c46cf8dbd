//! What a decision costs, by path, beside an empty program, one look-up in an LRU hash of as many
//! entries, and address LPM followed by policy LPM.
//!
//! Every run has a random one of the addresses (see `bulkhead_testkit::measure`). A figure is the
//! time with the driver less that of the driver in front of an empty program; of the look-up,
//! less that of the driver in front of a program that only makes the key.

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd as _;
use std::rc::Rc;

use anyhow::Result;
use bulkhead_abi::Direction;
use bulkhead_dataplane::quarantine_tables;
use bulkhead_engine::Reason;
use bulkhead_engine::memory::Tables;
use bulkhead_testkit::measure::{
    Addresses, Driver, Hook, KEY, Misses, Order, Parts, Then, bpf, keyed, lpm_pair, nothing,
};
use bulkhead_testkit::packets::build::{Extension, Ip, udp};

use super::Effort;
use crate::figure::{Figure, Report, Unit};
use crate::placement::Placement;
use crate::stage::{ACK, Carries, From, Stage, Traffic, link_header};
use crate::world::{ASKED, CLOSED, Family, Rules, SERVICE, Texts};

/// Addresses that nobody has.
const STRANGERS: Ipv4Addr = Ipv4Addr::new(172, 16, 0, 0);
/// A port of whoever asks.
const EPHEMERAL: u16 = 50_000;
/// The size whose figures the table of ratios takes.
pub const USUAL: u32 = 131_072;
/// The largest.
pub const LARGEST: u32 = 1_000_000;

/// Who tells that packets came, and for what they were decided.
enum Witness {
    /// Nobody: an empty program.
    None,
    /// Look-ups that found something.
    Found(Rc<Misses>),
    /// The generation's counters of these reasons.
    Reasons(Rc<RefCell<Stage>>, &'static [Reason]),
}

impl Witness {
    fn mark(&self) -> u64 {
        match self {
            Self::None => 0,
            Self::Found(misses) => misses.count(),
            Self::Reasons(stage, reasons) => {
                let stage = stage.borrow();
                reasons.iter().map(|reason| stage.count(*reason, Direction::Ingress)).sum()
            }
        }
    }

    /// How many of so many runs since the mark it has seen.
    fn seen_since(&self, mark: u64, runs: u64) -> u64 {
        let more = self.mark() - mark;
        if matches!(self, Self::Found(_)) { runs - more } else { more }
    }

    const fn name(&self) -> &'static str {
        match self {
            Self::None => "",
            Self::Found(_) => "look-ups that found their key",
            Self::Reasons(..) => "the program's counters for this reason",
        }
    }
}

/// One program that takes turns with the others.
struct Contender {
    id: String,
    title: String,
    driver: Driver,
    packet: Vec<u8>,
    witness: Witness,
    /// Whose time is taken off.
    less: Option<String>,
    /// Ids that it is compared with.
    compared: Vec<String>,
    rounds: Vec<f64>,
    sent: u64,
    counted: u64,
}

/// Measures.
///
/// # Errors
/// If the kernel refuses.
pub fn run(effort: &Effort, report: &mut Report) -> Result<()> {
    crate::stage::stay_on(0)?;
    for hook in [Hook::Tc, Hook::Xdp] {
        for family in [Family::V4, Family::V6] {
            let mut contenders = Vec::new();
            // A look needs one size of XDP, and no tree of a million prefixes.
            let sizes: &[u32] =
                if effort.quick && hook == Hook::Xdp { &[USUAL] } else { &[1000, USUAL, LARGEST] };
            for &count in sizes {
                let with_lpm = !effort.quick || count < LARGEST;
                assemble(hook, family, Placement::Dense, count, with_lpm, &mut contenders)?;
                if hook == Hook::Tc && family == Family::V4 && count != 1000 {
                    assemble(hook, family, Placement::Scattered, count, false, &mut contenders)?;
                }
                if hook == Hook::Tc && family == Family::V4 && count == LARGEST {
                    assemble(hook, family, Placement::Everywhere, count, false, &mut contenders)?;
                }
            }
            measure(effort, &mut contenders)?;
            conclude(contenders, report);
        }
    }
    Ok(())
}

/// Rounds, and ns that one contender's turn takes.
const fn rounds(effort: &Effort) -> (usize, f64) {
    effort.pick((7, 8e6), (21, 40e6))
}

/// All take turns of the same length, so that a slow moment of the machine meets all. Each turn
/// begins with runs that bring back what the others drove out of the caches.
fn measure(effort: &Effort, contenders: &mut [Contender]) -> Result<()> {
    const WARM_UP: u32 = 20_000;
    let (rounds, turn) = rounds(effort);
    let mut repeats = Vec::with_capacity(contenders.len());
    for contender in contenders.iter() {
        let time = contender.driver.run(&contender.packet, WARM_UP)?.nanoseconds;
        repeats.push((turn / time) as u32);
    }
    for _ in 0..rounds {
        for (contender, repeat) in contenders.iter_mut().zip(&repeats) {
            contender.driver.run(&contender.packet, WARM_UP)?;
            let mark = contender.witness.mark();
            let ran = contender.driver.run(&contender.packet, *repeat)?;
            contender.counted += contender.witness.seen_since(mark, (*repeat).into());
            contender.sent += u64::from(*repeat);
            contender.rounds.push(ran.nanoseconds);
        }
    }
    Ok(())
}

fn conclude(contenders: Vec<Contender>, report: &mut Report) {
    let raw: Vec<(String, Vec<f64>)> =
        contenders.iter().map(|contender| (contender.id.clone(), contender.rounds.clone())).collect();
    for contender in contenders {
        let less = contender.less.as_ref().and_then(|less| raw.iter().find(|(id, _)| id == less));
        let rounds = match less {
            Some((_, less)) => contender.rounds.iter().zip(less).map(|(own, less)| own - less).collect(),
            None => contender.rounds,
        };
        let mut figure = Figure::new(contender.id, contender.title, Unit::Nanoseconds, rounds);
        if !matches!(contender.witness, Witness::None) {
            figure = figure.proved(contender.witness.name(), contender.sent, contender.counted);
        }
        let compared: Vec<&str> = contender.compared.iter().map(String::as_str).collect();
        report.add(figure, &compared);
    }
}

/// Entries of a hash that is to hold so many: an LRU map hands out its elements in batches, so a
/// small one evicts before it is full.
const fn capacity(count: u32) -> u32 {
    if count < 10_000 { count + 1024 } else { count }
}

/// Makes the contenders of one hook, family, placement and size, baselines first.
fn assemble(
    hook: Hook,
    family: Family,
    placement: Placement,
    count: u32,
    with_lpm: bool,
    contenders: &mut Vec<Contender>,
) -> Result<()> {
    let addresses = placement.addresses(count);
    let traffic = Traffic { hook, family, addresses };
    let place = match hook {
        Hook::Tc => "tc",
        Hook::Xdp => "xdp",
    };
    let prefix = format!("decision/{place}/{}/{count}{}", family.name(), placement.suffix());
    let id = |name: &str| format!("{prefix}/{name}");
    let segment = traffic.packet(From::Peer, Carries::Tcp(ACK), (EPHEMERAL, SERVICE));
    let write = traffic.write(From::Peer, Order::Random);

    let flows = bpf::create(bpf::LRU_HASH, KEY, 32, capacity(count))?;
    let link = link_header(hook) as usize;
    let changing = write.offset as usize - link;
    let mut key = segment[link..link + KEY as usize].to_vec();
    for index in 0..count {
        key[changing..changing + 4].copy_from_slice(&addresses.number(index).to_be_bytes());
        bpf::update(&flows, &key, &[1; 32])?;
    }
    let mut baseline = |name: &str,
                        title: &str,
                        program: std::os::fd::BorrowedFd,
                        witness,
                        less: Option<&str>|
     -> Result<()> {
        contenders.push(Contender {
            id: id(name),
            title: title.to_owned(),
            driver: Driver::new(hook, Then::Program(program), write, &segment)?,
            packet: segment.clone(),
            witness,
            less: less.map(&id),
            compared: Vec::new(),
            rounds: Vec::new(),
            sent: 0,
            counted: 0,
        });
        Ok(())
    };
    baseline("empty", "driver and an empty program", nothing(hook)?.as_fd(), Witness::None, None)?;
    let copy = keyed(hook, link_header(hook), None)?;
    baseline("key", "the same, and making a key of 40 bytes", copy.as_fd(), Witness::None, None)?;
    let look_up = Rc::new(keyed(hook, link_header(hook), Some(flows))?);
    let witness = Witness::Found(Rc::clone(&look_up));
    baseline("lru", "one look-up in an LRU hash", look_up.as_fd(), witness, Some("key"))?;
    let all: Vec<IpAddr> = (0..count).map(|index| family.address(&addresses, index)).collect();
    if with_lpm {
        let lpm = Rc::new(lpm_pair(hook, link_header(hook), all.iter().copied(), SERVICE)?);
        let witness = Witness::Found(Rc::clone(&lpm));
        baseline("lpm", "address LPM, then policy LPM", lpm.as_fd(), witness, Some("empty"))?;
    }

    let tables = Texts::new(family, &addresses, Rules::Inward).compile()?.tables;
    let paths = Paths { traffic, prefix: &prefix };
    let inward = paths.stage(&tables, count)?;
    contenders.push(paths.contender(
        "forward",
        "TCP, admitted by a rule",
        &inward,
        segment.clone(),
        &[Reason::Rule],
    )?);
    if placement != Placement::Dense {
        return Ok(());
    }
    inward.borrow_mut().establish_udp(&traffic, (EPHEMERAL, SERVICE))?;
    let datagram = traffic.packet(From::Peer, Carries::Udp, (EPHEMERAL, SERVICE));
    contenders.push(paths.contender(
        "udp",
        "UDP, admitted by a rule; its flow is touched",
        &inward,
        datagram,
        &[Reason::Rule],
    )?);
    let closed = traffic.packet(From::Peer, Carries::Tcp(ACK), (EPHEMERAL, CLOSED));
    contenders.push(paths.contender(
        "deny",
        "no rule, and nothing admitted the other way",
        &inward,
        closed.clone(),
        &[Reason::NoRule],
    )?);
    contenders.push(paths.strangers(&inward, count)?);
    contenders.push(paths.fragments(&inward)?);

    let both = Texts::new(family, &addresses, Rules::BothWays).compile()?.tables;
    let both = paths.stage(&both, count)?;
    both.borrow_mut().establish_tcp(&traffic, From::Node, (ASKED, EPHEMERAL))?;
    let reply = traffic.packet(From::Peer, Carries::Tcp(ACK), (ASKED, EPHEMERAL));
    contenders.push(paths.contender("reply", "the reply side of a flow", &both, reply, &[Reason::Reply])?);
    contenders.push(paths.contender(
        "miss",
        "no rule, and no flow either",
        &both,
        closed,
        &[Reason::NoFlow],
    )?);

    for (name, title, rules, opener, ports, reason, base) in [
        (
            "tls-observed",
            "the reply side of a flow that began as TLS, which its rule observes",
            Rules::Observed,
            From::Node,
            (ASKED, EPHEMERAL),
            &[Reason::Reply] as &'static [Reason],
            "reply",
        ),
        (
            "tls-required",
            "TCP that began as TLS, which its rule requires",
            Rules::Required,
            From::Peer,
            (EPHEMERAL, SERVICE),
            &[Reason::Rule],
            "udp",
        ),
    ] {
        let tables = Texts::new(family, &addresses, rules).compile()?.tables;
        let stage = paths.stage(&tables, count)?;
        stage.borrow_mut().establish_tls(&traffic, opener, ports)?;
        let segment = traffic.packet(From::Peer, Carries::Settled, ports);
        let mut contender = paths.contender(name, title, &stage, segment, reason)?;
        contender.compared.push(id(base));
        contenders.push(contender);
    }

    let quarantined = paths.stage(&cut_off(tables, &all)?, count)?;
    contenders.push(paths.contender(
        "quarantined",
        "the sender is cut off",
        &quarantined,
        segment,
        &[Reason::Quarantined],
    )?);
    Ok(())
}

/// With all of them quarantined.
fn cut_off(mut tables: Tables, addresses: &[IpAddr]) -> Result<Tables> {
    quarantine_tables(&mut tables, addresses)?;
    Ok(tables)
}

/// Makes the contenders that run the agent's own program.
struct Paths<'a> {
    traffic: Traffic,
    prefix: &'a str,
}

impl Paths<'_> {
    fn stage(&self, tables: &Tables, count: u32) -> Result<Rc<RefCell<Stage>>> {
        Ok(Rc::new(RefCell::new(Stage::new(self.traffic.hook, tables, capacity(count), 0)?)))
    }

    fn contender(
        &self,
        name: &str,
        title: &str,
        stage: &Rc<RefCell<Stage>>,
        packet: Vec<u8>,
        reasons: &'static [Reason],
    ) -> Result<Contender> {
        self.writing(name, title, stage, packet, reasons, &self.traffic, None)
    }

    #[expect(clippy::too_many_arguments, reason = "all of a contender")]
    fn writing(
        &self,
        name: &str,
        title: &str,
        stage: &Rc<RefCell<Stage>>,
        packet: Vec<u8>,
        reasons: &'static [Reason],
        traffic: &Traffic,
        parts: Option<Parts>,
    ) -> Result<Contender> {
        let id = |name: &str| format!("{}/{name}", self.prefix);
        let mut write = traffic.write(From::Peer, Order::Random);
        if let Some(parts) = parts {
            write.length = write.length.max(i32::from(parts.offset) + 2);
            write.parts = Some(parts);
        }
        let driver = stage.borrow_mut().driver(traffic, write, &packet, Direction::Ingress)?;
        Ok(Contender {
            id: id(name),
            title: title.to_owned(),
            driver,
            packet,
            witness: Witness::Reasons(Rc::clone(stage), reasons),
            less: Some(id("empty")),
            compared: ["lru", "lpm", "forward"].into_iter().filter(|base| *base != name).map(id).collect(),
            rounds: Vec::new(),
            sent: 0,
            counted: 0,
        })
    }

    fn strangers(&self, stage: &Rc<RefCell<Stage>>, count: u32) -> Result<Contender> {
        let traffic = Traffic { addresses: Addresses::dense(STRANGERS, count), ..self.traffic };
        let packet = traffic.packet(From::Peer, Carries::Tcp(ACK), (EPHEMERAL, SERVICE));
        let reasons = &[Reason::UnknownAddress];
        self.writing("unknown", "the sender is in no table", stage, packet, reasons, &traffic, None)
    }

    /// Datagrams in two fragments each; the figure is for one fragment.
    fn fragments(&self, stage: &Rc<RefCell<Stage>>) -> Result<Contender> {
        // As long as a second fragment as well: what it carries is not looked at.
        const PAYLOAD: usize = 64;
        let traffic = &self.traffic;
        let (peer, node) = (traffic.family.address(&traffic.addresses, 0), traffic.family.node());
        let mut ip = Ip::new(peer, node, 17, udp((EPHEMERAL, SERVICE), &[0; PAYLOAD - 8]));
        // The datagram is two such parts.
        ip.payload[4..6].copy_from_slice(&(2 * PAYLOAD as u16).to_be_bytes());
        let link = link_header(traffic.hook);
        let next = (PAYLOAD / 8) as u16;
        let parts = match traffic.family {
            Family::V4 => Parts { offset: link + 6, values: [1 << 13, next] },
            Family::V6 => {
                ip.extensions.push(Extension::fragment(0, true, 7));
                Parts { offset: link + 42, values: [1, next << 3] }
            }
        };
        let packet = traffic.framed(&ip.bytes());
        let reasons = &[Reason::Rule, Reason::Fragment];
        self.writing(
            "fragment",
            "a fragment of two, in order; UDP",
            stage,
            packet,
            reasons,
            traffic,
            Some(parts),
        )
    }
}
