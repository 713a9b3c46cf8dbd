//! How many packets a core drops at native XDP on a veth: XDP_DROP alone, Bulkhead, xdp-filter.
//! The sender's part is in every figure.

use std::net::Ipv4Addr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use anyhow::Result;
use bulkhead_abi::Direction;
use bulkhead_engine::Reason;
use bulkhead_testkit::lab::Namespace;
use bulkhead_testkit::measure::bpf::Place;
use bulkhead_testkit::measure::{Addresses, Driver, Hook, Order, dropping};

use super::Effort;
use super::decision::USUAL;
use crate::figure::{Figure, Report, Unit};
use crate::stage::{Carries, From, Stage, Traffic, stay_on};
use crate::wire::{RECEIVER, Softirq, Wire, send};
use crate::world::{CLOSED, Family, Rules, Texts};

/// The CPU that sends and receives.
const CPU: usize = 1;
/// What xdp-filter is called, and where Debian puts it.
const XDP_FILTER: &str = "/usr/sbin/xdp-filter";

/// One that takes turns.
struct Contender<'a> {
    id: &'static str,
    title: &'static str,
    wire: &'a Wire,
    driver: Driver,
    frame: Vec<u8>,
    /// Counts what it dropped, where the program counts.
    reason: Option<Reason>,
    times: Vec<f64>,
    received: u64,
    counted: u64,
}

/// Measures.
///
/// # Errors
/// If the system refuses.
pub fn run(effort: &Effort, report: &mut Report) -> Result<()> {
    let known = Addresses::dense(Ipv4Addr::new(100, 64, 0, 0), USUAL);
    let strangers = Addresses::dense(Ipv4Addr::new(172, 16, 0, 0), USUAL);
    let sender = Namespace::create("drop-tx")?;
    let bare = Wire::new(&sender, "drop-bare")?;
    let bulkhead = Wire::new(&sender, "drop-bh")?;
    let _bare: OwnedFd = bare.attach(Place::Xdp, dropping(Hook::Xdp)?.as_fd())?;

    let tables = Texts::new(Family::V4, &known, Rules::Inward).compile()?.tables;
    let mut stage = Stage::new(Hook::Xdp, &tables, USUAL, 0)?;
    let _bulkhead = bulkhead.attach(Place::Xdp, stage.ingress(Hook::Xdp)?.as_fd())?;

    let mut contenders = Vec::new();
    let mut contend = |id, title, wire, addresses, reason| -> Result<()> {
        let traffic = Traffic { hook: Hook::Xdp, family: Family::V4, addresses };
        let frame = traffic.packet(From::Peer, Carries::Udp, (50_000, CLOSED));
        let driver = Wire::driver(wire, traffic.write(From::Peer, Order::Random), &frame)?;
        let (times, received, counted) = Default::default();
        contenders.push(Contender { id, title, wire, driver, frame, reason, times, received, counted });
        Ok(())
    };
    contend("drop/xdp_drop", "a program that drops at once", &bare, known, None)?;
    contend(
        "drop/unknown",
        "Bulkhead, senders in no table",
        &bulkhead,
        strangers,
        Some(Reason::UnknownAddress),
    )?;
    contend("drop/known", "Bulkhead, known senders without a rule", &bulkhead, known, Some(Reason::NoRule))?;
    let filter = xdp_filter(&sender, report)?;
    if let Some(filter) = &filter {
        contend("drop/xdp-filter", "xdp-filter, denying IPv4 and UDP", &filter.wire, known, None)?;
    }

    let (rounds, count) = effort.pick((9, 200_000), (25, 2_000_000));
    let measured = sender.run(|| -> Result<()> {
        stay_on(CPU)?;
        let softirq = Softirq::of(CPU)?;
        for contender in &contenders {
            send(&contender.driver, &contender.frame, count / 4, &softirq)?;
        }
        for _ in 0..rounds {
            for contender in &mut contenders {
                let counted = |stage: &Stage| {
                    contender.reason.map_or(0, |reason| stage.count(reason, Direction::Ingress))
                };
                let before = (contender.wire.received()?, counted(&stage));
                let time = send(&contender.driver, &contender.frame, count, &softirq)?;
                contender.received += contender.wire.received()? - before.0;
                contender.counted += counted(&stage) - before.1;
                contender.times.push(1e9 / time);
            }
        }
        Ok(())
    })?;
    measured?;

    let sent = u64::from(count) * rounds as u64;
    for contender in contenders {
        let mut figure = Figure::new(contender.id, contender.title, Unit::PacketsPerSecond, contender.times)
            .proved("the receiving end", sent, contender.received);
        if contender.reason.is_some() {
            figure = figure.proved("the program's counter for this reason", sent, contender.counted);
        }
        report.add(figure, &["drop/xdp_drop", "drop/unknown", "drop/known"]);
    }
    Ok(())
}

/// xdp-filter on a wire of its own; taken off when dropped.
struct Filter {
    wire: Wire,
}

impl Drop for Filter {
    fn drop(&mut self) {
        if let Err(error) = self.wire.command(&[XDP_FILTER, "unload", RECEIVER], "") {
            eprintln!("bench: {error:#}");
        }
    }
}

/// xdp-filter denying what it is not told to allow, which is everything.
fn xdp_filter(sender: &Namespace, report: &mut Report) -> Result<Option<Filter>> {
    const ID: &str = "drop/xdp-filter";
    if !Path::new(XDP_FILTER).exists() {
        report.miss(ID, format!("{XDP_FILTER} is not there; Debian has it in xdp-tools"));
        return Ok(None);
    }
    let wire = Wire::new(sender, "drop-xf")?;
    let load =
        [XDP_FILTER, "load", "--mode", "native", "--policy", "deny", "--features", "ipv4,udp", RECEIVER];
    match wire.command(&load, "") {
        Ok(_) => Ok(Some(Filter { wire })),
        Err(error) => {
            report.miss(ID, format!("{error:#}"));
            Ok(None)
        }
    }
}
