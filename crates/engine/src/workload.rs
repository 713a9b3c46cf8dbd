//! Who may send from a workload's address, and what is said on `lo`.

use bulkhead_abi::{Direction, Leaf};

use crate::metadata::Sides;
use crate::parse::Role;
use crate::sides::{local_check, sides_of};
use crate::{Environment, Reason};

/// Whether a packet of this role answers somebody, so that the kernel may send it by itself: in TIME_WAIT, with SYN
/// cookies, from a closed port, as an ICMP error.
#[inline(always)]
pub(crate) const fn is_answer(role: Role) -> bool {
    !matches!(role, Role::Open | Role::Datagram)
}

/// Whether a packet may leave from an address of the local class `local`. What the kernel sends by itself begins nothing.
///
/// # Errors
/// [`Reason::WorkloadSpoofed`]; [`Reason::LookupFailed`] if the table does not know the class.
#[inline(always)]
pub(crate) fn may_send(env: &impl Environment, local: u32, is_answer: bool) -> Result<(), Reason> {
    let Some(workload) = env.workload(local) else {
        return Err(Reason::LookupFailed);
    };
    // No program on a cgroup sees what packet sockets send: a workload could speak as its host.
    if env.is_by_packet_socket() {
        return Err(Reason::WorkloadSpoofed);
    }
    let is_its = !workload.is_some() || env.ancestor(workload.level) == workload.cgroup;
    if is_its || is_answer && env.is_by_kernel() { Ok(()) } else { Err(Reason::WorkloadSpoofed) }
}

/// The same for what is of no conversation: link protocols and membership, which hosts send by packet sockets.
///
/// # Errors
/// As there.
#[inline(always)]
pub(crate) fn may_send_apart(env: &impl Environment, local: u32) -> Result<(), Reason> {
    match env.workload(local) {
        Some(workload) if !workload.is_some() => Ok(()),
        _ => may_send(env, local, true),
    }
}

/// Which end is this node's, as [`local_check`] says; on `lo` both are, and each is judged at its own hook.
///
/// # Errors
/// [`Reason::NotLocal`]; on `lo` [`Reason::Loopback`], which passes, between addresses of one workload or of none, and
/// what [`may_send`] says of the former.
#[inline(always)]
pub(crate) fn sides_between(
    env: &impl Environment,
    direction: Direction,
    source: Leaf,
    destination: Leaf,
    is_answer: impl Fn() -> bool,
) -> Result<Sides, Reason> {
    match local_check(direction, source, destination) {
        Err(_) if env.is_loopback() => within(env, direction, source, destination, is_answer),
        other => other,
    }
}

/// [`sides_between`] on `lo`.
#[inline(always)]
fn within(
    env: &impl Environment,
    direction: Direction,
    source: Leaf,
    destination: Leaf,
    is_answer: impl Fn() -> bool,
) -> Result<Sides, Reason> {
    let (Some(sender), Some(receiver)) = (env.workload(source.local()), env.workload(destination.local()))
    else {
        return Err(Reason::LookupFailed);
    };
    if !sender.is_some() && !receiver.is_some() {
        return Err(Reason::Loopback);
    }
    if sender.is_some() && receiver.is_some() && sender.number == receiver.number {
        // Nobody else may have written its address there.
        if direction == Direction::Egress && env.has_workloads() {
            may_send(env, source.local(), is_answer())?;
        }
        return Err(Reason::Loopback);
    }
    sides_of(direction, source, destination, true)
}

/// Whether neither end of a packet on `lo` is a workload's: it passes, whatever it is. False where that cannot be told.
#[inline(always)]
pub(crate) fn is_apart(env: &impl Environment, source: Leaf, destination: Leaf) -> bool {
    let is_none = |leaf: Leaf| env.workload(leaf.local()).is_some_and(|workload| !workload.is_some());
    is_none(source) && is_none(destination)
}
