//! From asking for a quarantine to the first packet cut, while the one to be cut off sends.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use bulkhead_dataplane::{AddressTables, State};
use bulkhead_engine::Reason;
use bulkhead_testkit::lab::Namespace;
use bulkhead_testkit::measure::Addresses;

use super::Effort;
use super::swap::streams;
use crate::agent::{Agent, Files, counted};
use crate::figure::{Figure, Report, Unit};
use crate::stage::stay_on;
use crate::traffic::{Flood, LONG_BURST};
use crate::wire::{RECEIVER, Wire};
use crate::world::{Family, Rules, Texts};

const IDENTITIES: u32 = 100_000;
/// The CPU that sends.
const CPU: usize = 1;
/// What a cut may take.
const LIMIT: Duration = Duration::from_secs(10);

/// Measures.
///
/// # Errors
/// If the system refuses.
pub fn run(effort: &Effort, report: &mut Report) -> Result<()> {
    // The agent, too: on the sender's CPU it would delay receiving until the wire overflows.
    stay_on(0)?;
    let known = Addresses::dense(Ipv4Addr::new(100, 64, 0, 0), IDENTITIES);
    let texts = Texts::new(Family::V4, &known, Rules::Inward);
    let sender = Namespace::create("cut-tx")?;
    let wire = Wire::new(&sender, "cut-rx")?;
    let agent = Agent::start(&effort.bulkhead, &wire.receiver, RECEIVER, Files::new("cut", &texts)?)?;
    let state = State::open(&agent.pins)?;
    let running = bulkhead_dataplane::running(&agent.pins)?;
    let generation = running.iter().find_map(|link| link.generation).unwrap_or(1);
    // One of them sends, as fast as bursts go.
    let one = Addresses { count: 1, ..known };
    let streams = streams(&wire, one)?;
    let stop = AtomicBool::new(false);
    let (mut stores, mut commands) = (Vec::new(), Vec::new());
    let rounds = effort.pick(7, 31);
    thread::scope(|scope| -> Result<()> {
        let flood = Flood::start(scope, &sender, CPU, &streams[..1], LONG_BURST, &stop);
        let mut cuts = || -> Result<()> {
            let mut tables = AddressTables::open(&agent.pins, generation)?;
            let address = IpAddr::V4(known.v4(0));
            for _ in 0..rounds {
                stores.push(time_to_cut(&state, || Ok(tables.set(address, true)?))?);
                tables.set(address, false)?;
                commands.push(time_to_cut(&state, || agent.command(&["quarantine", "n0"]).map(drop))?);
                agent.command(&["release", "n0"])?;
            }
            Ok(())
        };
        let cut = cuts();
        flood.stop()?;
        cut
    })?;
    let title = "from the store into the running tables to the first packet cut";
    let note = "with the reading of all counters, by which the cut is seen, over and over";
    report.add(Figure::new("quarantine/store", title, Unit::Microseconds, stores).noted(note), &[]);
    let title = "from typing `bulkhead quarantine` to the first packet cut, at 100,000 identities";
    let note = "with the start of the command, and the list stored on disk first";
    report.add(
        Figure::new("quarantine/command", title, Unit::Microseconds, commands).noted(note),
        &["quarantine/store"],
    );
    Ok(())
}

/// µs from before `cut` to the first packet that is counted as cut.
fn time_to_cut(state: &State, cut: impl FnOnce() -> Result<()> + Send) -> Result<f64> {
    let before = counted(state, Reason::Quarantined)?;
    let start = Instant::now();
    let seen = thread::scope(|scope| -> Result<f64> {
        let cutting = scope.spawn(cut);
        let seen = loop {
            if counted(state, Reason::Quarantined)? > before {
                break Some(start.elapsed());
            }
            if start.elapsed() > LIMIT {
                break None;
            }
            thread::yield_now();
        };
        // What it failed with says more than that no packet was cut.
        cutting.join().map_err(|_| anyhow::anyhow!("the cutting thread panicked"))??;
        let seen = seen.with_context(|| format!("no packet was cut within {} s", LIMIT.as_secs()))?;
        Ok(seen.as_nanos() as f64 / 1e3)
    })?;
    Ok(seen)
}
