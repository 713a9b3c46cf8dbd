//! What the guard drops, told like what the programs drop: each packet that the kernel logs by a report
//! of its own, and the others by a summary a second.

use std::os::fd::{AsFd as _, AsRawFd as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bulkhead_api::event::{self, Counted, Protocol, Reason};
use bulkhead_api::status::ReasonCount;
use bulkhead_dataplane::name_of;
use bulkhead_events::{Enricher, Origin, Pace};

use crate::daemon::clock::{boot_id, boot_time};
use crate::daemon::events::{Shared, timestamp};
use crate::daemon::log::{log_and_default, log_unsaved};
use crate::daemon::store::Store;
use crate::guard::{self, Account, Amount, Dropped, Kind, Log};

/// The file in the state directory.
const FILE: &str = "guard-drops.json";

/// How often what was not logged is told of.
const INTERVAL: Duration = Duration::from_secs(1);

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
            direction: kind.direction().name().to_owned(),
            reason: kind.reason().name().to_owned(),
            packets: amount.packets,
            bytes: amount.bytes,
        })
        .collect())
}

fn load(store: &Store) -> Account {
    let account: Option<Account> = store.load(FILE).unwrap_or_else(log_and_default);
    account.unwrap_or_default().in_boot(&boot_id())
}

/// Begins to collect on a thread of its own, in the caller's network namespace, and tells of what it collects.
///
/// # Errors
/// If there can be no further thread.
pub fn collect(instance: &str, store: Store, log: Option<Log>, shared: Arc<Shared>) -> anyhow::Result<()> {
    let teller = Teller { shared, pace: Pace::default() };
    let mut collector =
        Collector { instance: instance.to_owned(), account: load(&store), store, log, teller };
    std::thread::Builder::new()
        .name("guard-drops".to_owned())
        .spawn(move || collector.run())
        .context("starting a thread for the guard's drops")?;
    Ok(())
}

struct Collector {
    instance: String,
    store: Store,
    log: Option<Log>,
    account: Account,
    teller: Teller,
}

impl Collector {
    fn run(&mut self) {
        let mut saved = self.account.clone();
        let mut next = Instant::now() + INTERVAL;
        let mut is_told = false;
        loop {
            self.wait(next.saturating_duration_since(Instant::now()));
            let mut done = self.take_logged();
            if Instant::now() >= next {
                next = Instant::now() + INTERVAL;
                done = done.and_then(|()| self.take_counted());
                if saved != self.account {
                    log_unsaved(self.store.save(FILE, &self.account));
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
        let Self { log: Some(log), account, teller, .. } = self else { return Ok(()) };
        let each = |dropped: Dropped| {
            let amount = Amount { packets: 1, bytes: dropped.bytes };
            account.tell(dropped.kind, amount);
            teller.tell(&Told { kind: dropped.kind, amount, dropped: Some(dropped) });
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
            self.teller.tell(&Told { kind, amount, dropped: None });
        }
        Ok(())
    }
}

impl Told {
    fn drop(&self, generation: u32, names: &Enricher) -> event::Drop {
        let headers = self.dropped.as_ref().and_then(|dropped| dropped.headers);
        let interface = self.dropped.as_ref().map(|dropped| dropped.interface);
        let port = |port: u16| Some(port).filter(|port| *port != 0);
        event::Drop {
            direction: self.kind.direction(),
            source: headers.map(|headers| names.end(headers.source)),
            source_port: headers.and_then(|headers| port(headers.ports.0)),
            destination: headers.map(|headers| names.end(headers.destination)),
            destination_port: headers.and_then(|headers| port(headers.ports.1)),
            protocol: headers.map(|headers| Protocol(headers.protocol)),
            ethertype: None,
            reason: Reason::Guard(self.kind.reason()),
            rule: None,
            interface: interface.map(|index| name_of(index).unwrap_or_else(|| format!("if{index}"))),
            count: self.amount.packets,
            bytes: self.amount.bytes,
            generation,
            // The guard's work is the same in both modes.
            audit: false,
            odd: false,
            many: self.dropped.is_none(),
        }
    }
}

/// Tells of the guard's drops.
struct Teller {
    shared: Arc<Shared>,
    pace: Pace,
}

impl Teller {
    /// Tells of one or more of them. While the event log is behind, the kernel keeps what it logs, or counts it.
    fn tell(&mut self, told: &Told) {
        self.pace.wait(&self.shared.hub, || false);
        let (generation, names) = self.shared.names.latest();
        let counted = if told.dropped.is_some() { Counted::GuardLogged } else { Counted::GuardCounted };
        let kind = event::Kind::Drop(Box::new(told.drop(generation, &names)));
        self.shared.hub.publish(timestamp(boot_time()), kind, counted, Origin::Agent);
    }
}
