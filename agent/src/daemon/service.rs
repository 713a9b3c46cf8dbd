//! What the service manager is told: that the agent is ready, what it does, and that it lives (sd_notify(3)).
//!
//! Without a service manager (no `NOTIFY_SOCKET`) nothing is sent.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bulkhead_dataplane::Attached;
use sd_notify::NotifyState::{self, MonotonicUsec, Ready, Reloading, Status, Stopping, Watchdog};

use crate::daemon::state::generation::LoadedGeneration;
use crate::daemon::state::{Enforcer, held};

/// How often it is told what the agent does where it does not ask for signs of life.
const INTERVAL: Duration = Duration::from_secs(10);

/// Tells that no interface is there, and that the agent waits for one. What depends on the agent goes on: that
/// may be what makes the interface.
pub fn wait_for(interfaces: &[&str]) {
    notify(&[Ready, Status(&format!("waiting for an interface: {}", interfaces.join(", ")))]);
}

/// Gives a sign of life from a loop that waits.
pub fn alive() {
    notify(&[Watchdog]);
}

/// Tells that everything is enforced that can be: what is there, and what is waited for.
pub fn ready(enforcer: &Enforcer) {
    notify(&[Ready, Watchdog, Status(&summary(enforcer))]);
}

/// Tells that files are read again; [`ready`] says that this is over.
pub fn reloading() {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let microseconds = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000;
    notify(&[Reloading, MonotonicUsec(microseconds)]);
}

/// Tells that the agent ends.
pub fn stopping() {
    notify(&[Stopping]);
}

/// Gives signs of life as often as the service manager wants them, and says what the agent does. Each is given
/// only after the locks were had that every change of enforcement needs: an agent whose threads wait for each
/// other gives none, and is started again.
///
/// # Errors
/// If the process has no threads left.
pub async fn keep_alive(enforcer: Arc<Enforcer>) -> anyhow::Result<Infallible> {
    // A sign may be late by half of the time.
    let interval = sd_notify::watchdog_enabled().map_or(INTERVAL, |limit| limit / 4);
    loop {
        tokio::time::sleep(interval).await;
        let enforcer = enforcer.clone();
        let look = tokio::task::spawn_blocking(move || {
            drop(held(&enforcer.reconciler));
            drop(held(&enforcer.guarded));
            summary(&enforcer)
        });
        let summary = look.await.context("looking at what is enforced")?;
        notify(&[Watchdog, Status(&summary)]);
    }
}

fn summary(enforcer: &Enforcer) -> String {
    let live = enforcer.live();
    let LoadedGeneration { number, mode, .. } = &live.built;
    summarize(&live.attached, *number, mode.name())
}

/// One line, as `systemctl status` shows it.
fn summarize(attached: &[Attached], generation: u32, mode: &str) -> String {
    let names = |is_there: bool| {
        let of = attached.iter().filter(|attached| (attached.index != 0) == is_there);
        of.map(|attached| &*attached.interface).collect::<Vec<_>>().join(", ")
    };
    let (there, absent) = (names(true), names(false));
    let there = if there.is_empty() { "no interface".to_owned() } else { there };
    let absent = if absent.is_empty() { absent } else { format!("; waiting for {absent}") };
    format!("generation {generation}, {mode} mode, on {there}{absent}")
}

/// A service manager that does not hear is no reason not to enforce.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!("the service manager cannot be told ({}): {error}", states[0]);
    }
}

#[cfg(test)]
mod tests {
    use bulkhead_dataplane::Attached;

    use super::summarize;

    #[test]
    fn a_summary_tells_interfaces_that_are_there_from_those_that_are_waited_for() {
        let absent = Attached::absent("wg1");
        let there = Attached { index: 3, ..Attached::absent("wg0") };
        let both = [there, absent.clone()];
        assert_eq!(summarize(&both, 7, "enforce"), "generation 7, enforce mode, on wg0; waiting for wg1");
        assert_eq!(summarize(&both[..1], 7, "audit"), "generation 7, audit mode, on wg0");
        assert_eq!(
            summarize(&[absent], 1, "enforce"),
            "generation 1, enforce mode, on no interface; waiting for wg1"
        );
    }
}
