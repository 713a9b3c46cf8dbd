//! Which end of a packet is this node's, and what classes both are of.

use bulkhead_abi::{Direction, Leaf, recall};

use crate::metadata::Sides;
use crate::parse::{Headers, Role};
use crate::workload::{is_answer, is_apart, may_send_apart, sides_between};
use crate::{Calls, Reason};

/// The first class of local addresses; 0 is no class.
const FIRST_LOCAL: u32 = 1;

/// Which end is this node's: the destination of what comes in, the source of what goes out.
/// The other end must not be the node's own.
///
/// # Errors
/// [`Reason::NotLocal`].
#[inline(always)]
pub fn local_check(direction: Direction, source: Leaf, destination: Leaf) -> Result<Sides, Reason> {
    sides_of(direction, source, destination, false)
}

/// [`local_check`]; where it `may_be_own`, the other end is this node's as well.
#[inline(always)]
pub(crate) fn sides_of(
    direction: Direction,
    source: Leaf,
    destination: Leaf,
    may_be_own: bool,
) -> Result<Sides, Reason> {
    let (near, far) = match direction {
        Direction::Ingress => (destination, source),
        Direction::Egress => (source, destination),
    };
    if near.local() == 0 || far.own() && !may_be_own {
        return Err(Reason::NotLocal);
    }
    Ok(Sides { local: near.local(), remote: far.remote(), quarantined: 0, begun: 0 })
}

/// The classes of both ends. Where there are management exemptions, a quarantined end is marked
/// and not yet a reason to drop.
#[inline(always)]
pub(crate) fn ends(env: &impl Calls, direction: Direction, headers: &Headers) -> Result<Sides, Reason> {
    let (source, destination) = both_leaves(env, headers)?;
    let cut_off = cut_off(env, source, destination)?;
    // Asked on lo alone: nobody else keeps the role for it.
    let is_answer = || is_answer(recall(&headers.role));
    marked(sides_between(env, direction, source, destination, is_answer), cut_off)
}

/// [`ends`] of a packet that was sent before, and is quoted. On `lo` it has a flow, or what the quote is about had none:
/// no workload has a flow with itself.
#[inline(always)]
pub(crate) fn quoted_ends(env: &impl Calls, sent: Direction, quote: &Headers) -> Result<Sides, Reason> {
    let (source, destination) = both_leaves(env, quote)?;
    let cut_off = cut_off(env, source, destination)?;
    marked(sides_of(sent, source, destination, env.is_loopback()), cut_off)
}

/// Whether an end is quarantined, where there are management exemptions.
#[inline(always)]
fn cut_off(env: &impl Calls, source: Leaf, destination: Leaf) -> Result<bool, Reason> {
    let cut_off = source.quarantined() || destination.quarantined();
    if cut_off && !env.has_exemptions() { Err(Reason::Quarantined) } else { Ok(cut_off) }
}

#[inline(always)]
fn marked(sides: Result<Sides, Reason>, cut_off: bool) -> Result<Sides, Reason> {
    match sides {
        Ok(sides) => Ok(Sides { quarantined: u32::from(cut_off), ..sides }),
        Err(_) if cut_off => Err(Reason::Quarantined),
        Err(reason) => Err(reason),
    }
}

/// Neither end of a packet on `lo` is a workload's: it passes at once, whatever it is.
#[inline(always)]
pub(crate) fn passes_apart(env: &impl Calls, headers: &Headers) -> bool {
    match recall(&headers.version) {
        0 => headers.role == Role::Link,
        _ => both_leaves(env, headers).is_ok_and(|(source, destination)| is_apart(env, source, destination)),
    }
}

/// Whether a packet that is of no conversation may pass as far as its ends have a say.
///
/// # Errors
/// Why not.
#[inline(always)]
pub(crate) fn passes_as_to_ends(
    env: &impl Calls,
    direction: Direction,
    headers: &Headers,
) -> Result<(), Reason> {
    let (source, _) = leaves(env, headers)?;
    if direction == Direction::Egress && env.has_workloads() {
        may_send_apart(env, source.local())?;
    }
    Ok(())
}

/// Whether the rules keep an end of a packet off this link, so that what is a link protocol otherwise is judged as any
/// other packet. They keep it from every address of this node alike, so that any of them is asked about: the other end
/// may be a group's, or none yet. Out of line: what it needs of the stack is not the decision's, which has the longest
/// chain of calls.
#[inline(never)]
pub(crate) fn is_kept_off(env: &impl Calls, direction: Direction, headers: &Headers) -> bool {
    let Ok((source, destination)) = both_leaves(env, headers) else { return false };
    let is_closed = |end: Leaf| {
        let classes = [FIRST_LOCAL, end.remote()];
        let (protocol, port) = (recall(&headers.protocol), recall(&headers.destination_port));
        end.remote() != 0 && env.judge(direction, classes, protocol, port).closed()
    };
    is_closed(source) || is_closed(destination)
}

/// The leaves of source and destination, neither of them quarantined.
#[inline(always)]
pub(crate) fn leaves(env: &impl Calls, headers: &Headers) -> Result<(Leaf, Leaf), Reason> {
    let (source, destination) = both_leaves(env, headers)?;
    if source.quarantined() || destination.quarantined() {
        return Err(Reason::Quarantined);
    }
    Ok((source, destination))
}

/// The leaves of source and destination.
#[inline(always)]
fn both_leaves(env: &impl Calls, headers: &Headers) -> Result<(Leaf, Leaf), Reason> {
    let version = recall(&headers.version);
    Ok((env.leaf(version, &headers.source)?, env.leaf(version, &headers.destination)?))
}
