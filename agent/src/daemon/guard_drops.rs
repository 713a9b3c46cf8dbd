//! What the guard drops, told like what the programs drop: each packet that the kernel logs by a report
//! of its own, and the others by a summary a second.

use std::os::fd::{AsFd as _, AsRawFd as _};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bulkhead_api::status::ReasonCount;
use bulkhead_dataplane::name_of;
use tokio::sync::mpsc;

use super::clock::{BootClock, boot_id, boot_time};
use super::journal::Journal;
use super::names::Names;
use super::pump::Shared;
use super::start;
use super::store::Store;
use crate::guard::{self, Account, Amount, Dropped, Kind, Log};
use crate::report::{DropReport, Report, protocol_name};

/// The file in the state directory.
const FILE: &str = "guard-drops.json";

/// How often what was not logged is told of.
const INTERVAL: Duration = Duration::from_secs(1);

/// Reports that may wait for the pump. When there are more, the kernel keeps what it logs, or counts it.
const BACKLOG: usize = 1024;

/// One report to be.
#[derive(Clone, Debug)]
pub struct Told {
    kind: Kind,
    amount: Amount,
    /// The packet; none for a summary.
    dropped: Option<Dropped>,
}

/// What the guard of an instance has dropped, by kind: the kernel's counters, and those before them.
///
/// # Errors
/// If the kernel cannot be asked.
pub fn totals(instance: &str, store: &Store) -> anyhow::Result<Vec<ReasonCount>> {
    let mut account = load(store);
    account.see(&guard::counts(instance)?);
    let totals = account.totals().into_iter();
    Ok(totals
        .map(|(kind, amount)| ReasonCount {
            direction: kind.direction().to_owned(),
            reason: kind.reason().to_owned(),
            packets: amount.packets,
            bytes: amount.bytes,
        })
        .collect())
}

fn load(store: &Store) -> Account {
    let account: Option<Account> = store.load(FILE).unwrap_or_else(start::told);
    account.unwrap_or_default().in_boot(&boot_id())
}

/// Begins to collect on a thread of its own, in the caller's network namespace. It ends when nobody
/// takes what it collects.
///
/// # Errors
/// If there can be no further thread.
pub fn collect(instance: &str, store: Store, log: Option<Log>) -> anyhow::Result<mpsc::Receiver<Told>> {
    let (sender, receiver) = mpsc::channel(BACKLOG);
    let mut collector =
        Collector { instance: instance.to_owned(), account: load(&store), store, log, sender };
    std::thread::Builder::new()
        .name("guard-drops".to_owned())
        .spawn(move || collector.run())
        .context("starting a thread for the guard's drops")?;
    Ok(receiver)
}

struct Collector {
    instance: String,
    store: Store,
    log: Option<Log>,
    account: Account,
    sender: mpsc::Sender<Told>,
}

impl Collector {
    fn run(&mut self) {
        let mut saved = self.account.clone();
        let mut next = Instant::now() + INTERVAL;
        let mut is_told = false;
        while !self.sender.is_closed() {
            self.wait(next.saturating_duration_since(Instant::now()));
            let mut done = self.take_logged();
            if Instant::now() >= next {
                next = Instant::now() + INTERVAL;
                done = done.and_then(|()| self.take_counted());
                if saved != self.account {
                    start::tell(self.store.save(FILE, &self.account));
                    saved = self.account.clone();
                }
            }
            match done {
                Err(error) if !is_told => {
                    tracing::error!("telling of the guard's drops: {error:#}; trying again");
                    is_told = true;
                    std::thread::sleep(INTERVAL);
                }
                Err(_) => std::thread::sleep(INTERVAL),
                Ok(()) => is_told = false,
            }
        }
    }

    /// Waits until something has been logged, or for so long.
    fn wait(&self, limit: Duration) {
        let Some(log) = &self.log else { return std::thread::sleep(limit) };
        let mut poll = libc::pollfd { fd: log.as_fd().as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one descriptor, which the log keeps open.
        unsafe { libc::poll(&raw mut poll, 1, limit.as_millis() as i32 + 1) };
    }

    fn take_logged(&mut self) -> anyhow::Result<()> {
        let Self { log: Some(log), account, sender, .. } = self else { return Ok(()) };
        let each = |dropped: Dropped| {
            let amount = Amount { packets: 1, bytes: dropped.bytes };
            account.tell(dropped.kind, amount);
            // An agent that ends takes no more; what it was not told of is in its next summary.
            let _ = sender.blocking_send(Told { kind: dropped.kind, amount, dropped: Some(dropped) });
        };
        log.drain(each).context("reading what the kernel has logged")
    }

    /// Tells of what was counted and not logged. All that was logged of it can be read by then: the
    /// rules log a packet before they count it.
    fn take_counted(&mut self) -> anyhow::Result<()> {
        self.account.see(&guard::counts(&self.instance)?);
        self.take_logged()?;
        for (kind, amount) in self.account.untold() {
            self.account.tell(kind, amount);
            let _ = self.sender.blocking_send(Told { kind, amount, dropped: None });
        }
        Ok(())
    }
}

impl Told {
    fn report(&self, generation: u32, names: &Names) -> DropReport {
        let headers = self.dropped.as_ref().and_then(|dropped| dropped.headers);
        let name = |address| names.host(address);
        let interface = self.dropped.as_ref().map(|dropped| dropped.interface);
        let interface = interface.map(|index| name_of(index).unwrap_or_else(|| format!("if{index}")));
        DropReport {
            time: BootClock::now().rfc3339(boot_time()),
            direction: self.kind.direction().to_owned(),
            source: headers.map(|headers| headers.source),
            source_name: headers.and_then(|headers| name(headers.source)),
            source_port: headers.map_or(0, |headers| headers.ports.0),
            destination: headers.map(|headers| headers.destination),
            destination_name: headers.and_then(|headers| name(headers.destination)),
            port: headers.map_or(0, |headers| headers.ports.1),
            protocol: headers.map_or_else(|| "any".to_owned(), |headers| protocol_name(headers.protocol)),
            ethertype: None,
            reason: self.kind.reason().to_owned(),
            rule: None,
            rule_name: None,
            position: None,
            interface: interface.unwrap_or_else(|| "any".to_owned()),
            count: self.amount.packets,
            bytes: self.amount.bytes,
            generation,
            // The guard's work is the same in both modes.
            audit: false,
            many: false,
            enforced: None,
        }
    }
}

impl Shared {
    /// Writes the report of one or more of the guard's drops, and sends it to whoever watches.
    pub(super) fn tell_guard(&self, told: &Told, journal: &mut Journal) {
        let (generation, names) = self.latest();
        let report = Report::Drop(Box::new(told.report(generation, &names)));
        self.tell(report, journal, |pumped| match told.dropped {
            Some(_) => &mut pumped.guard_logged,
            None => &mut pumped.guard_counted,
        });
    }
}
