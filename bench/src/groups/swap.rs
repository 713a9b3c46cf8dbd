//! From a change to its being enforced, under traffic: what the kernel's part takes, what the
//! agent's `apply` takes with reading and compiling, and whether a packet was lost or decided
//! wrongly meanwhile.
//!
//! Two kinds of packets go on all the while: from known senders, which both generations admit, and
//! from strangers, which neither does. Each is counted where it ends.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use bulkhead_dataplane::{
    Generation, Hook as Place, Interface, Kind, Links, Pins, Specialisation, Specification, State, attach,
    detach,
};
use bulkhead_engine::Reason;
use bulkhead_engine::memory::Tables;
use bulkhead_testkit::lab::{Namespace, PREFIX};
use bulkhead_testkit::measure::{Addresses, Hook, Order, Write};

use super::Effort;
use crate::agent::{Agent, Files, counted};
use crate::figure::{Figure, Report, Unit};
use crate::stage::{ACK, Carries, From, LONG, Traffic, stay_on};
use crate::traffic::{BURST, Flood, Stream};
use crate::wire::{RECEIVER, Wire};
use crate::world::{Family, Rules, SERVICE, Texts};

/// The size that the requirement is stated for.
const IDENTITIES: u32 = 100_000;
/// The CPU that sends.
const CPU: usize = 1;
/// A number that no generation in force has.
const SPARE: u32 = 1 << 20;
/// Before and after a swap, so that both generations decide some packets.
const AROUND: Duration = Duration::from_millis(100);

/// The two kinds of packets.
pub fn streams(wire: &Wire, known: Addresses) -> Result<[Stream; 2]> {
    let stream = |addresses| -> Result<Stream> {
        let traffic = Traffic { hook: Hook::Xdp, family: Family::V4, addresses };
        let frame = traffic.packet(From::Peer, Carries::Tcp(ACK), (50_000, SERVICE));
        let write = Write { checksum: Some(14), ..traffic.write(From::Peer, Order::Random) };
        Ok(Stream::new(wire.driver(write, &frame)?, frame))
    };
    Ok([stream(known)?, stream(Addresses::dense(Ipv4Addr::new(172, 16, 0, 0), known.count))?])
}

/// Measures.
///
/// # Errors
/// If the system refuses.
pub fn run(effort: &Effort, report: &mut Report) -> Result<()> {
    // The agent, too: on the sender's CPU it would delay receiving until the wire overflows.
    stay_on(0)?;
    let known = Addresses::dense(Ipv4Addr::new(100, 64, 0, 0), IDENTITIES);
    let texts = [Rules::Inward, Rules::BothWays].map(|rules| Texts::new(Family::V4, &known, rules));
    by_kernel(effort, &texts, known, report)?;
    by_agent(effort, &texts, known, report)
}

/// Builds a generation and puts it in the place of the one before; from compiled tables to enforced.
fn by_kernel(effort: &Effort, texts: &[Texts; 2], known: Addresses, report: &mut Report) -> Result<()> {
    let tables = [texts[0].compile()?.tables, texts[1].compile()?.tables];
    let sender = Namespace::create("swap-tx")?;
    let wire = Wire::new(&sender, "swap-rx")?;
    wire.count_at_the_end()?;
    let pins = Pins::new(Path::new("/sys/fs/bpf/bulkhead"), &format!("{PREFIX}{}-swap", std::process::id()));
    let enforced = Enforced { pins };
    enforced.pins.create()?;
    enforced.enforce(&wire, 1, &tables[0])?;
    let state = State::open(&enforced.pins)?;
    let streams = streams(&wire, known)?;
    let few = Addresses { count: 10, ..known };
    let few = Texts::new(Family::V4, &few, Rules::Inward).compile()?.tables;
    let (mut whole, mut links, mut programs) = (Vec::new(), Vec::new(), Vec::new());
    let stop = AtomicBool::new(false);
    let rounds = effort.pick(5, 21);
    thread::scope(|scope| -> Result<()> {
        let flood = Flood::start(scope, &sender, CPU, &streams, BURST, &stop);
        let mut swaps = || -> Result<()> {
            for number in 2..2 + rounds {
                thread::sleep(AROUND);
                let start = Instant::now();
                let linked = enforced.enforce(&wire, number, &tables[number as usize % 2])?;
                whole.push(start.elapsed().as_secs_f64() * 1e3);
                links.push(linked.as_secs_f64() * 1e3);
                thread::sleep(AROUND);
                enforced.pins.remove_generation(number - 1)?;
                let start = Instant::now();
                drop(enforced.build(&wire, SPARE, &few)?);
                programs.push(start.elapsed().as_secs_f64() * 1e3);
                enforced.pins.remove_generation(SPARE)?;
            }
            Ok(())
        };
        let swapped = swaps();
        flood.stop()?;
        swapped
    })?;
    let account = Account::of(&streams, &wire, &state)?;
    let title = "packets lost or decided wrongly during all swaps";
    let figure = account
        .proves(Figure::new("swap/wrong", title, Unit::Count, vec![account.wrong as f64]))
        .noted(format!("of {} packets over {rounds} swaps", account.sent));
    report.add(figure, &[]);
    let title = "from compiled tables of 100,000 identities to enforced";
    report.add(Figure::new("swap/generation", title, Unit::Milliseconds, whole), &[]);
    let title = "the same of 10 identities, without the links: programs loaded and verified";
    report.add(Figure::new("swap/programs", title, Unit::Milliseconds, programs), &["swap/generation"]);
    let title = "of that, the update of the links (XDP and TCX)";
    report.add(Figure::new("swap/links", title, Unit::Milliseconds, links), &["swap/generation"]);
    Ok(())
}

/// What became of the packets that were sent during the swaps.
struct Account {
    sent: u64,
    counted: u64,
    wrong: u64,
}

impl Account {
    fn of(streams: &[Stream; 2], wire: &Wire, state: &State) -> Result<Self> {
        let [sent, strange] = [streams[0].sent(), streams[1].sent()];
        let (through, dropped) = (wire.through()?, counted(state, Reason::UnknownAddress)?);
        let wrong = sent.abs_diff(through) + strange.abs_diff(dropped);
        Ok(Self { sent: sent + strange, counted: through + dropped, wrong })
    }

    fn proves(&self, figure: Figure) -> Figure {
        figure.proved("the chain at the end, and the counter of strangers", self.sent, self.counted)
    }
}

/// What is pinned; detached when dropped.
struct Enforced {
    pins: Pins,
}

impl Enforced {
    fn build(&self, wire: &Wire, number: u32, tables: &Tables) -> Result<Generation> {
        wire.receiver.run(|| -> Result<Generation> {
            let wanted = (Specialisation::new(Kind::Ethernet, 1), vec![Place::XdpNative, Place::TcxEgress]);
            let specification = Specification { event_budget: 0, ..Specification::new(number, tables, LONG) };
            Ok(Generation::build(&specification, &[wanted], Some(&self.pins))?)
        })?
    }

    /// What the links took.
    fn enforce(&self, wire: &Wire, number: u32, tables: &Tables) -> Result<Duration> {
        let mut generation = self.build(wire, number, tables)?;
        wire.receiver.run(|| -> Result<Duration> {
            let interface = Interface::find(RECEIVER)?;
            let start = Instant::now();
            attach(
                generation.only_group()?,
                &interface,
                &[Place::XdpNative],
                &self.pins,
                &mut Links::default(),
            )?;
            Ok(start.elapsed())
        })?
    }
}

impl Drop for Enforced {
    fn drop(&mut self) {
        if let Err(error) = detach(&self.pins) {
            eprintln!("bench: {error}");
        }
    }
}

/// `bulkhead apply` of a running agent, as a user types it.
fn by_agent(effort: &Effort, texts: &[Texts; 2], known: Addresses, report: &mut Report) -> Result<()> {
    let sender = Namespace::create("apply-tx")?;
    let wire = Wire::new(&sender, "apply-rx")?;
    wire.count_at_the_end()?;
    let files = Files::new("apply", &texts[0])?;
    let agent = Agent::start(&effort.bulkhead, &wire.receiver, RECEIVER, files)?;
    let state = State::open(&agent.pins)?;
    let streams = streams(&wire, known)?;
    let stop = AtomicBool::new(false);
    let rounds = effort.pick(3, 11);
    let mut times = Vec::new();
    thread::scope(|scope| -> Result<()> {
        let flood = Flood::start(scope, &sender, CPU, &streams, BURST, &stop);
        let mut swaps = || -> Result<()> {
            for round in 1..=rounds {
                agent.files().write(&texts[round % 2])?;
                let start = Instant::now();
                agent.command(&["apply"])?;
                times.push(start.elapsed().as_secs_f64() * 1e3);
            }
            Ok(())
        };
        let swapped = swaps();
        flood.stop()?;
        swapped
    })?;
    let account = Account::of(&streams, &wire, &state)?;
    let title = "`bulkhead apply` at 100,000 identities: reading, checking, compiling, storing and enforcing";
    let figure = account
        .proves(Figure::new("swap/apply", title, Unit::Milliseconds, times))
        .noted(format!("{} of {} packets lost or decided wrongly", account.wrong, account.sent));
    report.add(figure, &["swap/generation"]);
    Ok(())
}
