//! A flood of drops that are all distinct: what reporting them costs the packet path, by budget,
//! and what becomes of them. Every drop must be accounted for: in an event, an aggregate, or as
//! lost.

use std::net::Ipv4Addr;
use std::os::fd::AsFd as _;

use anyhow::Result;
use aya::maps::{MapData, RingBuf};
use bulkhead_abi::Direction;
use bulkhead_engine::Reason;
use bulkhead_testkit::measure::{Addresses, Driver, Hook, Order, Then, nothing};

use super::Effort;
use crate::figure::{Figure, Report, Unit};
use crate::stage::{ACK, Carries, From, Stage, Traffic, stay_on};
use crate::world::{Family, Rules, SERVICE, Texts};

/// Reports a CPU may make in a second.
const BUDGETS: [u32; 5] = [0, 100, 1000, 10_000, u32::MAX];
/// Senders, each a kind of drop of its own: as many as tables of aggregates never hold.
const SENDERS: u32 = 1 << 24;

fn name(budget: u32) -> String {
    if budget == u32::MAX { "unlimited".into() } else { budget.to_string() }
}

/// Measures.
///
/// # Errors
/// If the kernel refuses.
pub fn run(effort: &Effort, report: &mut Report) -> Result<()> {
    stay_on(0)?;
    let known = Addresses::dense(Ipv4Addr::new(100, 64, 0, 0), 1000);
    let tables = Texts::new(Family::V4, &known, Rules::Inward).compile()?.tables;
    let strangers = Addresses::dense(Ipv4Addr::new(128, 0, 0, 0), SENDERS);
    let traffic = Traffic { hook: Hook::Tc, family: Family::V4, addresses: strangers };
    let packet = traffic.packet(From::Peer, Carries::Tcp(ACK), (50_000, SERVICE));
    let write = traffic.write(From::Peer, Order::Random);
    let empty = Driver::new(Hook::Tc, Then::Program(nothing(Hook::Tc)?.as_fd()), write, &packet)?;
    let mut stages = Vec::new();
    for budget in BUDGETS {
        let mut stage = Stage::new(Hook::Tc, &tables, 4096, budget)?;
        let driver = stage.driver(&traffic, write, &packet, Direction::Ingress)?;
        let ring = stage.events()?;
        stages.push(Flood { budget, stage, driver, ring, times: Vec::new(), events: 0 });
    }
    let (rounds, repeat) = effort.pick((7, 50_000), (21, 300_000));
    for round in 0..=rounds {
        let base = empty.run(&packet, repeat)?.nanoseconds;
        for flood in &mut stages {
            let ran = flood.driver.run(&packet, repeat)?;
            // As the agent does, between bursts.
            flood.drain();
            if round > 0 {
                flood.times.push(ran.nanoseconds - base);
            }
        }
    }
    for flood in stages {
        flood.conclude(report)?;
    }
    Ok(())
}

struct Flood {
    budget: u32,
    stage: Stage,
    driver: Driver,
    ring: RingBuf<MapData>,
    times: Vec<f64>,
    events: u64,
}

impl Flood {
    fn drain(&mut self) {
        while self.ring.next().is_some() {
            self.events += 1;
        }
    }

    fn conclude(mut self, report: &mut Report) -> Result<()> {
        self.drain();
        let dropped = self.stage.count(Reason::UnknownAddress, Direction::Ingress);
        let [ring, budget] = self.stage.lost()?;
        let aggregated = self.stage.aggregated()?;
        let told = self.events + aggregated;
        let name = name(self.budget);
        let title = format!("a distinct drop, at most {name} reports a second and CPU");
        let figure = Figure::new(format!("events/cost/{name}"), title, Unit::Nanoseconds, self.times)
            .proved("events, aggregates and counted losses", dropped, told + ring + budget)
            .noted(format!(
                "{dropped} drops: {} events, {aggregated} in aggregates, {ring} lost to a full ring, {budget} beyond the budget",
                self.events
            ));
        report.add(figure, &["events/cost/0"]);
        let title =
            format!("part of the drops that no event and no aggregate tells of, at most {name} reports");
        let part = 1.0 - told as f64 / dropped as f64;
        report.add(Figure::new(format!("events/lost/{name}"), title, Unit::Count, vec![part]), &[]);
        Ok(())
    }
}
