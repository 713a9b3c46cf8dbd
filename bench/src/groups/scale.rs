//! How everything grows: with identities, with rules, with flows. Memory is what the kernel says
//! that the maps hold.

use std::net::Ipv4Addr;
use std::os::fd::AsFd as _;
use std::time::Instant;

use anyhow::Result;
use bulkhead_abi::Direction;
use bulkhead_engine::Reason;
use bulkhead_testkit::measure::{Addresses, Driver, Hook, Order, Then, nothing};

use super::Effort;
use crate::figure::{Figure, Report, Unit};
use crate::placement::Placement;
use crate::stage::{ACK, Carries, From, Stage, Traffic, stay_on};
use crate::world::{ASKED, Family, NETWORK, Rules, SERVICE, Texts};

const EPHEMERAL: u16 = 50_000;

/// Measures.
///
/// # Errors
/// If the system refuses.
pub fn run(effort: &Effort, report: &mut Report) -> Result<()> {
    stay_on(0)?;
    let identities: &[u32] = if effort.quick {
        &[1000, 100_000, 1_000_000]
    } else {
        &[1000, 10_000, 100_000, 1_000_000, 4_000_000]
    };
    for (family, placement) in [
        (Family::V4, Placement::Dense),
        (Family::V4, Placement::Scattered),
        (Family::V4, Placement::Everywhere),
        (Family::V6, Placement::Dense),
    ] {
        let name = if family == Family::V6 { "ipv6" } else { placement.name() };
        for count in identities.iter().copied().filter(|count| *count <= placement.holds()) {
            by_identities(effort, family, placement, name, count, report)?;
        }
    }
    for rules in [10, 100, 1000, 10_000] {
        by_rules(effort, rules, report)?;
    }
    let flows: &[u32] = if effort.quick {
        &[10_000, 131_072, 1_000_000]
    } else {
        &[10_000, 131_072, 1_000_000, 4_000_000, 16_000_000]
    };
    for count in flows {
        by_flows(effort, *count, report)?;
    }
    Ok(())
}

/// Rounds, the first of which warms up, and runs in each.
const fn rounds(effort: &Effort) -> (u32, u32) {
    effort.pick((6, 50_000), (16, 300_000))
}

/// How often a program under test runs.
const fn runs(effort: &Effort) -> u64 {
    let (rounds, repeat) = rounds(effort);
    rounds as u64 * repeat as u64
}

/// ns for a packet, driver and empty program taken off; interleaved.
fn cost(effort: &Effort, traffic: &Traffic, stage: &mut Stage, packet: &[u8]) -> Result<Vec<f64>> {
    let (rounds, repeat) = rounds(effort);
    let write = traffic.write(From::Peer, Order::Random);
    let base = Driver::new(traffic.hook, Then::Program(nothing(traffic.hook)?.as_fd()), write, packet)?;
    let driver = stage.driver(traffic, write, packet, Direction::Ingress)?;
    driver.run(packet, repeat)?;
    (1..rounds)
        .map(|_| Ok(driver.run(packet, repeat)?.nanoseconds - base.run(packet, repeat)?.nanoseconds))
        .collect()
}

fn by_identities(
    effort: &Effort,
    family: Family,
    placement: Placement,
    name: &str,
    count: u32,
    report: &mut Report,
) -> Result<()> {
    let traffic = Traffic { hook: Hook::Tc, family, addresses: placement.addresses(count) };
    let texts = Texts::new(family, &traffic.addresses, Rules::Inward);
    let start = Instant::now();
    let tables = texts.compile()?.tables;
    let compiled = start.elapsed().as_secs_f64() * 1e3;
    let start = Instant::now();
    let mut stage = Stage::new(Hook::Tc, &tables, 4096, 0)?;
    let loaded = start.elapsed().as_secs_f64() * 1e3;
    let packet = traffic.packet(From::Peer, Carries::Tcp(ACK), (EPHEMERAL, SERVICE));
    let times = cost(effort, &traffic, &mut stage, &packet)?;
    let mut add = |what: &str, title: &str, unit, rounds| {
        let title = format!("{title}, {count} identities, {}", placement.words());
        report.add(
            Figure::new(format!("scale/{what}/{name}/{count}"), title, unit, rounds),
            &[&format!("scale/{what}/{name}/1000")],
        );
    };
    add("forward", "TCP, admitted by a rule", Unit::Nanoseconds, times);
    add("memory", "the tables of one generation in the kernel", Unit::Mebibytes, vec![stage.table_memory()?]);
    add("compile", "reading and compiling", Unit::Milliseconds, vec![compiled]);
    add("load", "from tables to a loaded generation", Unit::Milliseconds, vec![loaded]);
    add(
        "inventory",
        "the inventory's text",
        Unit::Mebibytes,
        vec![texts.inventory.len() as f64 / f64::from(1 << 20)],
    );
    Ok(())
}

fn by_rules(effort: &Effort, rules: u32, report: &mut Report) -> Result<()> {
    let addresses = Addresses::dense(Ipv4Addr::new(100, 64, 0, 0), 100_000);
    let traffic = Traffic { hook: Hook::Tc, family: Family::V4, addresses };
    let texts = Texts::new(Family::V4, &addresses, Rules::Many(rules));
    let start = Instant::now();
    let tables = texts.compile()?.tables;
    let compiled = start.elapsed().as_secs_f64() * 1e3;
    let mut stage = Stage::new(Hook::Tc, &tables, 4096, 0)?;
    let packet = traffic.packet(From::Peer, Carries::Tcp(ACK), (EPHEMERAL, SERVICE));
    let times = cost(effort, &traffic, &mut stage, &packet)?;
    let mut add = |what: &str, title: &str, unit, rounds| {
        let title = format!("{title}, {rules} rules, 100,000 identities");
        report.add(
            Figure::new(format!("scale/{what}/rules/{rules}"), title, unit, rounds),
            &[&format!("scale/{what}/rules/10")],
        );
    };
    add("forward", "TCP, admitted by a rule", Unit::Nanoseconds, times);
    add("memory", "the tables of one generation in the kernel", Unit::Mebibytes, vec![stage.table_memory()?]);
    add("compile", "reading and compiling", Unit::Milliseconds, vec![compiled]);
    Ok(())
}

fn by_flows(effort: &Effort, count: u32, report: &mut Report) -> Result<()> {
    // The other ends need not be identities: a network's addresses are as good for flows.
    let addresses = Addresses { count, ..NETWORK };
    let traffic = Traffic { hook: Hook::Tc, family: Family::V4, addresses };
    let nobody = Addresses { count: 0, ..addresses };
    let tables = Texts::new(Family::V4, &nobody, Rules::Network).compile()?.tables;
    let mut stage = Stage::new(Hook::Tc, &tables, count, 0)?;
    stage.establish_tcp(&traffic, From::Node, (ASKED, EPHEMERAL))?;
    let packet = traffic.packet(From::Peer, Carries::Tcp(ACK), (ASKED, EPHEMERAL));
    let before = stage.count(Reason::Reply, Direction::Ingress);
    let times = cost(effort, &traffic, &mut stage, &packet)?;
    let replies = stage.count(Reason::Reply, Direction::Ingress) - before;
    let title = format!("the reply side of one of {count} flows");
    let figure = Figure::new(format!("scale/reply/flows/{count}"), title, Unit::Nanoseconds, times).proved(
        "the program's counter of replies",
        runs(effort),
        replies,
    );
    report.add(figure, &["scale/reply/flows/10000"]);
    let title = format!("the table of {count} established flows");
    let memory = stage.memory(&["FLOWS"])?;
    report.add(Figure::new(format!("scale/memory/flows/{count}"), title, Unit::Mebibytes, vec![memory]), &[]);
    Ok(())
}
