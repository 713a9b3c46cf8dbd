//! Compares what is wanted with what the kernel says, at once when rtnetlink has news and otherwise every few
//! milliseconds, and restores it. What cannot be restored at once the guard closes.

pub mod contest;
pub mod gaps;
mod looks;
mod pin_news;
mod readdress;
pub mod reconciler;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bulkhead_api::event::{Action, Effect, Kind};
use bulkhead_dataplane::{Attached, Dataplane, Device, DeviceTable as _, Fault, HookLinks as _, Interface};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::sync::oneshot;

use crate::daemon::clock::boot_time;
use crate::daemon::events::control::Change;
use crate::daemon::fallback;
use crate::daemon::log::log_unsaved;
pub use crate::daemon::reconcile::looks::Looks;
use crate::daemon::reconcile::pin_news::{Descriptors, PinNews};
use crate::daemon::reconcile::reconciler::Reconciler;
use crate::daemon::state::member::Arrival;
use crate::daemon::state::{Enforcer, Live, Rebuild, held};

/// Between two looks, unless there is news. Detaching a link or putting a program before ours makes none.
const INTERVAL: Duration = Duration::from_millis(5);

/// Of one CPU's time, looks take a part in so many.
const SHARE: u32 = 20;

/// Between two looks at most.
const LONGEST: Duration = Duration::from_millis(100);

/// `RTMGRP_LINK` of linux/rtnetlink.h: interfaces come, go and change.
const LINK_NEWS: u32 = 1;

/// `RTMGRP_IPV4_IFADDR` and `RTMGRP_IPV6_IFADDR`: addresses come and go.
const ADDRESS_NEWS: u32 = 0x10 | 0x100;

/// Looks at every managed interface and at the guard, and restores what is not as it should be. `is_news`:
/// devices may have changed.
///
/// # Errors
/// What could not be restored; it is tried again by the next look.
pub fn reconcile<D: Dataplane>(enforcer: &Enforcer<D>, is_news: bool) -> anyhow::Result<()> {
    let mut reconciler = held(&enforcer.reconciler);
    let mut live = enforcer.live();
    if live.detached {
        return Ok(());
    }
    reconciler.looks.note(Instant::now());
    let is_whole = is_news || reconciler.is_due();
    if is_whole && let Some(pins) = &mut reconciler.pins {
        pins.begin();
    }
    let mut failure = None;
    for place in 0..live.attached.len() {
        let interface = live.attached[place].interface.clone();
        if let Err(error) = look_at(enforcer, &mut reconciler, &mut live, place, is_whole) {
            reconciler.fail(&interface, &error);
            failure = Some(error.context(format!("interface {interface} is not enforced")));
        }
    }
    if is_whole {
        reconciler.whole = Some(Instant::now());
        if let Err(error) = readdress::look(enforcer, &mut reconciler, &mut live) {
            reconciler.fail("addresses", &error);
        }
        if let Err(error) = live.built.keep_pinned(enforcer.pins()) {
            reconciler.fail("pins", &error);
        }
    }
    drop(live);
    // Until the guard knows an interface it lets nothing pass there.
    let asked = boot_time();
    let generation = match fallback::keep_guard(enforcer) {
        Ok(fixed) => {
            if let Some(cause) = fixed {
                reconciler.gaps.bad("guard", asked, cause, Effect::Open);
            }
            enforcer.live().built.number
        }
        Err(error) => {
            reconciler.gaps.bad("guard", asked, &format!("{error:#}"), Effect::Open);
            reconciler.fail("guard", &error);
            return Err(error);
        }
    };
    is_well(enforcer, &mut reconciler, "guard", asked, generation);
    if !reconciler.gaps.any() {
        reconciler.gaps.note();
    }
    failure.map_or(Ok(()), Err)
}

fn look_at<D: Dataplane>(
    enforcer: &Enforcer<D>,
    reconciler: &mut Reconciler<D>,
    live: &mut Live<D>,
    place: usize,
    is_whole: bool,
) -> anyhow::Result<()> {
    let known = live.attached[place].clone();
    let interface = known.interface.as_str();
    let (asked, generation) = (boot_time(), live.built.number);
    let asked_for = reconciler.device(interface, is_whole)?;
    if let Some(None) = asked_for
        && known.index != 0
    {
        tracing::info!(interface, index = known.index, "interface removed");
        live.attached[place] = Attached::absent(interface);
    }
    let device = asked_for.flatten();
    if device.is_none() && (is_whole || known.index == 0) {
        is_well(enforcer, reconciler, interface, asked, generation);
        return Ok(());
    }
    let mut fault = fault(live, &known, device.as_ref())?;
    if fault.is_none() && !is_pinned(enforcer, reconciler, live, &known, is_whole)? {
        fault = Some(Fault::Unpinned);
    }
    // What is wrong is looked at as a whole.
    let device = match device {
        None if fault.is_some() => reconciler.devices.by_name(interface)?,
        device => device,
    };
    let (Some(fault), Some(device)) = (fault, device.clone()) else {
        is_well(enforcer, reconciler, interface, asked, generation);
        settle(reconciler, &mut live.attached[place]);
        return device.map_or(Ok(()), |device| follow(enforcer, &mut live.attached[place], device));
    };
    let effect = match (&fault, enforcer.is_closed(&device)) {
        (Fault::Unpinned, _) => Effect::None,
        (_, true) => Effect::Closed,
        (_, false) => Effect::Open,
    };
    if reconciler.gaps.bad(interface, asked, &fault.to_string(), effect) && known.index != 0 {
        tracing::warn!(interface, index = device.index, %fault, "enforcement lost");
    }
    if reconciler.is_resting(interface) {
        // A name that is not enforced is not in the guard's set either.
        return Ok(());
    }
    if known.index != 0 && known.index != device.index {
        // Before its programs go where its name is.
        fallback::unmark(&enforcer.plane, &enforcer.setup, known.index)?;
    }
    let found = Interface::of(interface, &device)?;
    let managed = enforcer.setup.config.interfaces.iter().find(|managed| managed.name == interface);
    let managed = managed.context("agent.toml does not name it")?;
    let before = live.built.zones();
    match live.built.attach_again(&found, managed, enforcer.pins(), &mut live.links) {
        Ok(Arrival::Attached(attached)) => {
            tracing::info!(interface, index = device.index, generation, "interface attached");
            let mut indices = held(&enforcer.shared.indices);
            indices.insert(device.index, interface.to_owned());
            drop(indices);
            live.attached[place] = attached;
            // One that comes back is closed until here.
            if known.index == device.index && effect != Effect::None {
                reconciler.contests.restored(interface, Instant::now());
            }
            settle(reconciler, &mut live.attached[place]);
            fallback::mark(&enforcer.plane, &enforcer.setup, &mut live.attached[place..=place])?;
            reconciler.failed.remove(interface);
            let zones = live.built.zones();
            if zones != before {
                log_unsaved(live.built.save_zones(&enforcer.store));
            }
            is_well(enforcer, reconciler, interface, boot_time(), generation);
            Ok(())
        }
        // It is of another kind now, or was not there when the generation was built.
        Ok(Arrival::NeedsGeneration) => {
            live.attached[place] = Attached::absent(interface);
            live.must_rebuild = Some(Rebuild::Interface);
            Ok(())
        }
        Err(error) => {
            live.attached[place] = Attached::absent(interface);
            Err(error)
        }
    }
}

/// Seconds without enforcement since the agent started, by interface and of the guard.
pub fn unenforced<D: Dataplane>(enforcer: &Enforcer<D>) -> BTreeMap<String, f64> {
    let nanoseconds = held(&enforcer.reconciler).gaps.nanoseconds();
    nanoseconds.into_iter().map(|(what, time)| (what, time as f64 / 1e9)).collect()
}

/// Nanoseconds without enforcement since the agent started, by interface and of the guard, and the looks that were
/// taken at the kernel since the last time that this was asked for.
pub fn watched<D: Dataplane>(enforcer: &Enforcer<D>) -> (BTreeMap<String, u64>, Looks) {
    let mut reconciler = held(&enforcer.reconciler);
    (reconciler.gaps.nanoseconds(), reconciler.looks.take())
}

/// What the operator is told of interfaces whose enforcement others keep taking away.
pub fn contested<D: Dataplane>(enforcer: &Enforcer<D>) -> Vec<String> {
    let live = enforcer.live();
    let contested = live.attached.iter().filter(|attached| attached.contested);
    contested.map(|attached| contest::problem(&attached.interface, enforcer.setup.config.guard)).collect()
}

/// The guard knows a device by its name and group, which others may change.
fn follow<D: Dataplane>(enforcer: &Enforcer<D>, known: &mut Attached, device: Device) -> anyhow::Result<()> {
    if (known.group, &known.device) == (device.group, &device.name) {
        return Ok(());
    }
    (known.group, known.device) = (device.group, device.name);
    fallback::mark(&enforcer.plane, &enforcer.setup, std::slice::from_mut(known))
}

/// Whether the pins are there and hold the links. Asked for by whole looks, or if they cannot be watched.
fn is_pinned<D: Dataplane>(
    enforcer: &Enforcer<D>,
    reconciler: &mut Reconciler<D>,
    live: &Live<D>,
    known: &Attached,
    is_whole: bool,
) -> anyhow::Result<bool> {
    if is_whole {
        reconciler.watch(enforcer.pins(), &known.interface);
    } else if reconciler.pins.is_some() {
        return Ok(true);
    }
    for hook in &known.hooks {
        if !live.links.is_pinned(&known.interface, *hook, enforcer.pins())? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What tells of news of pins, if these can be watched.
fn pin_news<D: Dataplane>(enforcer: &Enforcer<D>) -> io::Result<Option<Descriptors>> {
    let reconciler = held(&enforcer.reconciler);
    reconciler.pins.as_ref().map(PinNews::descriptors).transpose()
}

/// Ends a time without enforcement, if there was one, and reports it.
fn is_well<D: Dataplane>(
    enforcer: &Enforcer<D>,
    reconciler: &mut Reconciler<D>,
    what: &str,
    asked: u64,
    generation: u32,
) {
    let Some((time, report)) = reconciler.gaps.well(what, asked, generation) else { return };
    tracing::warn!(
        interface = what,
        milliseconds = report.milliseconds,
        cause = report.cause,
        effect = ?report.effect,
        "enforcement restored"
    );
    let restored = Change::by_agent(Action::Restore, generation, Some(&report.cause));
    let restored = Change { subject: Some(what.to_owned()), ..restored }.event(generation, [None, None]);
    enforcer.shared.tell(time, Kind::Unenforced(Box::new(report)));
    enforcer.shared.tell(time, restored);
}

/// Closes an interface whose enforcement others keep taking away, and opens it again.
fn settle<D: Dataplane>(reconciler: &Reconciler<D>, attached: &mut Attached) {
    let is_contested = reconciler.contests.is_contested(&attached.interface, Instant::now());
    if is_contested && !attached.contested {
        tracing::error!(interface = attached.interface, "enforcement is taken away again and again: closed");
    } else if attached.contested && !is_contested {
        tracing::warn!(interface = attached.interface, "left alone: open again");
    }
    attached.contested = is_contested;
}

/// What is wrong with an interface; without its device, if there was no news of it.
fn fault<D: Dataplane>(
    live: &Live<D>,
    known: &Attached,
    device: Option<&Device>,
) -> anyhow::Result<Option<Fault>> {
    let Attached { interface, index, .. } = known;
    if *index == 0 {
        return Ok(Some(Fault::Detached));
    }
    for (hook, program) in known.hooks.iter().zip(&known.programs) {
        let fault = match device {
            Some(device) => live.links.fault(interface, *hook, device, *program),
            None => live.links.fault_without_news(interface, *hook, *index, *program),
        };
        if let Some(fault) = fault? {
            return Ok(Some(fault));
        }
    }
    // The hooks follow the device when it is renamed, its name is another one's then.
    let is_another = device.is_some_and(|device| device.index != *index);
    Ok(is_another.then_some(Fault::Elsewhere { index: *index }))
}

/// Reconciles on a thread of its own. What is returned tells if that ends, as it does only by a fault of ours.
///
/// # Errors
/// If the kernel's news cannot be had.
pub fn start(enforcer: Arc<Enforcer>) -> io::Result<oneshot::Receiver<Infallible>> {
    let mut news = Socket::new(NETLINK_ROUTE)?;
    let of_addresses = if enforcer.setup.config.has_underlay() { ADDRESS_NEWS } else { 0 };
    news.bind(&SocketAddr::new(0, LINK_NEWS | of_addresses))?;
    news.set_non_blocking(true)?;
    let news = (news, pin_news(&enforcer)?);
    let (alive, ended) = oneshot::channel();
    std::thread::Builder::new().name("reconcile".to_owned()).spawn(move || {
        let _alive = alive;
        let (mut looks, mut is_news) = ([Duration::ZERO; 8], true);
        let mut before = thread_time();
        for look in (0..looks.len()).cycle() {
            // What fails is told once, by its interface, and tried again.
            let _ = reconcile(&enforcer, is_news);
            let now = thread_time();
            looks[look] = now.saturating_sub(before);
            before = now;
            // Whole looks, and those that restore, are few.
            let usual = looks.into_iter().min().unwrap_or_default();
            is_news = wait((&news.0, news.1.as_ref()), (usual * SHARE).clamp(INTERVAL, LONGEST));
        }
    })?;
    Ok(ended)
}

/// CPU time that this thread has used.
fn thread_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.cast_unsigned(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Waits until there is news of devices or pins, or the time is over; whether there was.
fn wait((devices, pins): (&Socket, Option<&Descriptors>), limit: Duration) -> bool {
    let mut polls: Vec<_> = std::iter::once(PollFd::new(devices, PollFlags::IN))
        .chain(pins.into_iter().flat_map(Descriptors::polls))
        .collect();
    // Interrupted, what there is is taken.
    if poll(&mut polls, Timespec::try_from(limit).ok().as_ref()) == Ok(0) {
        return false;
    }
    let of_pins = pins.is_some_and(|pins| pins.take(&polls[1..]));
    take(devices) || of_pins
}

/// Takes what has come; whether anything has.
fn take(news: &Socket) -> bool {
    let mut buffer = Vec::with_capacity(1 << 16);
    // That there is news is all; what it is the next look tells. An overrun is news as well.
    let mut is_news = false;
    loop {
        match news.recv(&mut buffer, 0) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return is_news,
            Err(error) if error.raw_os_error() != Some(libc::ENOBUFS) => return true,
            _ => is_news = true,
        }
        buffer.clear();
    }
}
