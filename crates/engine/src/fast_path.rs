//! The fast path to a verdict, for plain packets: read and judged in registers. Only where a flow or
//! a rate has a say, metadata is made for it, and it goes on as any other.

use bulkhead_abi::{
    Address, CELL_ALLOW, CELL_DEFAULT_DENY, CELL_DENY, CELL_ONE_WAY, CELL_REJECT, CELL_TLS_REQUIRED, Cell,
    Direction, LINK_DATAGRAMS, Leaf,
};

use crate::decide::decide_judged;
use crate::parse::plain::{self, Plain};
use crate::parse::{mapped, protocol};
use crate::tables::{cell_of, leaf_of};
use crate::workload::{is_apart, may_send, sides_between};
use crate::{Calls, Environment, Judgement, Metadata, Outcome, Packet, Reason, Sides};

/// How far a plain packet got.
pub enum FastPath<'a> {
    /// Its length at the IP layer, bytes, its verdict, the one that [`crate::decide`] comes to, and the class
    /// of its remote end, as far as it was asked.
    Verdict(u32, Outcome, u32),
    /// A flow or a rate has a say.
    NeedsFlow(Judged<'a>),
}

/// A plain packet that the tables have judged.
pub struct Judged<'a> {
    plain: Plain<'a>,
    sides: Sides,
    judgement: Judgement,
}

/// Judges a plain packet; nothing is written. Of all others, and where a look-up fails, only
/// [`crate::decide`] can tell more. See docs/decisions/0018.
#[inline(always)]
pub fn fast_path<'a>(
    env: &impl Environment,
    packet: &Packet<'a>,
    direction: Direction,
) -> Option<FastPath<'a>> {
    if !env.has_fast_path() {
        return None;
    }
    let plain = plain::parse(packet, env.ethernet())?;
    // A link protocol may pass.
    if plain.protocol == protocol::UDP && env.link() & LINK_DATAGRAMS != 0 {
        return None;
    }
    let leaf = |address| leaf_of(env, 4, &mapped(address)).ok();
    let (source, destination) = (leaf(plain.source())?, leaf(plain.destination())?);
    if source.quarantined() || destination.quarantined() {
        if env.is_loopback() && is_apart(env, source, destination) {
            return Some(FastPath::Verdict(plain.length, Outcome::of(Reason::Loopback), 0));
        }
        // A management exemption may let it pass.
        let settled = FastPath::Verdict(plain.length, Outcome::of(Reason::Quarantined), 0);
        return (!env.has_exemptions()).then_some(settled);
    }
    judge_between(env, direction, plain, source, destination)
}

#[inline(always)]
fn judge_between<'a>(
    env: &impl Environment,
    direction: Direction,
    plain: Plain<'a>,
    source: Leaf,
    destination: Leaf,
) -> Option<FastPath<'a>> {
    let at_once = |reason| Some(FastPath::Verdict(plain.length, Outcome::of(reason), 0));
    let is_answer = || plain.protocol == protocol::TCP && !plain.opens();
    let sides = match sides_between(env, direction, source, destination, is_answer) {
        Ok(sides) => sides,
        Err(reason) => return at_once(reason),
    };
    if direction == Direction::Egress
        && env.has_workloads()
        && let Err(reason) = may_send(env, sides.local, is_answer())
    {
        let is_apart = env.is_loopback() && is_apart(env, source, destination);
        return at_once(if is_apart { Reason::Loopback } else { reason });
    }
    // Class 0 is whom no rule speaks of: none needs to be asked.
    if sides.remote == 0 {
        let is_apart = env.is_loopback() && is_apart(env, source, destination);
        return at_once(if is_apart { Reason::Loopback } else { Reason::UnknownAddress });
    }
    let ends = [sides.local, sides.remote];
    let (pair, cell) = cell_of(env, direction, ends, plain.protocol, plain.destination_port())?;
    if cell.deadline != 0 {
        return None;
    }
    // What tells of a denial is no plain packet any more, nor is the answer.
    let is_told = env.has_rejects()
        && cell.action != CELL_ALLOW
        && (cell.flags & CELL_REJECT != 0
            || direction == Direction::Egress && plain.protocol == protocol::TCP && !plain.opens());
    let settled = if is_told { None } else { settled(&plain, cell, pair.opposite(), env.has_tls()) };
    Some(match settled {
        Some(outcome) => FastPath::Verdict(plain.length, outcome, sides.remote),
        None => FastPath::NeedsFlow(Judged { plain, sides, judgement: Judgement::of(cell, pair.opposite()) }),
    })
}

/// The outcome where neither a flow nor a rate has a say, by the cell alone: what [`decide_judged`]
/// comes to.
#[inline(always)]
fn settled(plain: &Plain, cell: Cell, opposite: bool, tls: bool) -> Option<Outcome> {
    let by_rule = |reason| Outcome { reason, rule: cell.rule };
    if cell.action == CELL_ALLOW {
        // The busy direction of an established conversation needs no flow, unless what it begins with has a say.
        let is_compared = tls && cell.flags & CELL_TLS_REQUIRED != 0;
        let without_flow = plain.continues() && !is_compared || cell.flags & CELL_ONE_WAY != 0;
        return (without_flow && cell.limit == 0).then_some(by_rule(Reason::Rule));
    }
    if opposite && !plain.opens() {
        return None;
    }
    Some(match cell.action {
        CELL_DENY => by_rule(Reason::DenyRule),
        CELL_DEFAULT_DENY => by_rule(Reason::VenueDefaultDeny),
        _ => Outcome::of(Reason::NoRule),
    })
}

/// Source and destination of a packet that was settled, read once more: one that passes pays nothing for it.
#[inline(always)]
#[must_use]
pub fn plain_ends(env: &impl Environment, packet: &Packet) -> [Address; 2] {
    plain::ends(packet, env.ethernet()).unwrap_or_default().map(mapped)
}

impl Judged<'_> {
    /// Makes metadata for it and decides, as [`crate::decide`] does.
    #[inline(always)]
    pub fn decide(self, env: &impl Calls, packet: &Packet, direction: Direction, meta: &mut Metadata) {
        let Self { plain, sides, judgement } = self;
        plain.write(env.ethernet(), &mut meta.headers);
        meta.sides = sides;
        meta.outcome = decide_judged(env, packet, direction, plain.role(), meta, judgement);
    }
}
