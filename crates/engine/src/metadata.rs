//! One packet's way from its headers to its verdict, as it is worked on.

use bulkhead_abi::{AggregateKey, Direction, FLOW_ESTABLISHED, FlowKey, FlowValue, KIND_DROP, NO_RULE};

use crate::Reason;
use crate::parse::Headers;
use crate::tls::Comparison;

/// The verdict on one packet.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Why; it implies the [`crate::Action`].
    pub reason: Reason,
    /// The rule that decided, or [`NO_RULE`]. Of a reply, the rule that admitted its flow.
    pub rule: u32,
}

impl Outcome {
    pub(crate) const fn of(reason: Reason) -> Self {
        Self { reason, rule: NO_RULE }
    }
}

/// The classes of a packet's two ends, seen from this node.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sides {
    /// This node's end: 1 and up.
    pub local: u32,
    /// The other end: 0 is 'unknown'.
    pub remote: u32,
    /// 1: one end is quarantined, and only a management exemption may let the packet pass.
    pub quarantined: u32,
    /// 1: a rule has let a flow begin with this packet. Written only where [`crate::Environment::tells_of_flows`].
    pub begun: u32,
}

/// A flow that was looked up, or why there is none. In memory of a map, like all metadata: stack
/// is scarce, and the verifier follows what is on it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// Its key.
    pub(crate) key: FlowKey,
    /// Its value: as it was found, then as it is to be stored. Meaningful if found.
    pub(crate) flow: FlowValue,
    /// [`Reason::Reply`] if found, [`Reason::NoFlow`] or [`Reason::FlowExpired`].
    pub(crate) reason: Reason,
    /// The flags of the cell by which a reply's flow is still allowed, and its rule, where [`crate::untracked`] asks.
    pub(crate) flags: u8,
    pub(crate) reserved: [u8; 2],
    pub(crate) rule: u32,
}

impl Found {
    pub(crate) const NOTHING: Self = Self {
        key: FlowKey {
            initiator: [0; 4],
            responder: [0; 4],
            initiator_port: 0,
            responder_port: 0,
            zone: 0,
            protocol: 0,
            direction: 0,
        },
        flow: FlowValue::NONE,
        reason: Reason::NoFlow,
        flags: 0,
        reserved: [0; 2],
        rule: NO_RULE,
    };

    pub(crate) fn is_some(&self) -> bool {
        self.reason == Reason::Reply
    }

    /// The flow is a completed conversation. Meaningful if found.
    #[inline(always)]
    pub(crate) fn is_established(&self) -> bool {
        self.flow.flags & FLOW_ESTABLISHED != 0
    }
}

/// One packet: what was parsed, and what is decided.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// Its headers, as far as it could be parsed.
    pub headers: Headers,
    /// Of an ICMP error: the headers that it quotes.
    pub quote: Headers,
    /// The flow that was looked up last.
    pub(crate) found: Found,
    /// How its flow begins, where its cell asks that.
    pub(crate) tls: Comparison,
    /// Its ends' classes.
    pub sides: Sides,
    /// The verdict.
    pub outcome: Outcome,
}

impl Metadata {
    /// A packet that nothing is known of. Its outcome is a drop.
    pub const UNKNOWN: Self = Self {
        headers: Headers::UNKNOWN,
        quote: Headers::UNKNOWN,
        found: Found::NOTHING,
        tls: Comparison::NOTHING,
        sides: Sides { local: 0, remote: 0, quarantined: 0, begun: 0 },
        outcome: Outcome::of(Reason::LookupFailed),
    };

    /// The same, but that a flow which has expired is no flow, as in a table where it has made room
    /// for another; what was read of it is forgotten.
    #[cfg(any(test, feature = "std"))]
    #[must_use]
    pub fn forgetting_expired(mut self) -> Self {
        if !self.found.is_some() {
            self.found = Found { key: self.found.key, ..Found::NOTHING };
        }
        self
    }

    /// What makes this drop the same as others for the audit trail.
    #[inline(always)]
    #[must_use]
    pub fn drop_key(&self, direction: Direction, interface: u32, generation: u32) -> AggregateKey {
        AggregateKey {
            source: self.headers.source,
            destination: self.headers.destination,
            interface,
            rule: self.outcome.rule,
            generation,
            port: self.headers.destination_port,
            protocol: self.headers.protocol,
            reason: self.outcome.reason as u8 | (direction.index() as u8) << 7,
            other_rule: NO_RULE,
            other_generation: 0,
            other_reason: 0,
            kind: KIND_DROP,
            reserved: [0; 2],
        }
    }
}
