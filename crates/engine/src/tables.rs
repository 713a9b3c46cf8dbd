//! The look-up trait and the walks over the class tables.

use crate::decide::reply;
use crate::exact::{self, Buckets};
use crate::flow::admit;
use crate::forgotten::forgotten;
use crate::parse::Headers;
use crate::rate::take;
use crate::untracked::{End, SocketState, untracked};
use crate::{Case, RateState, Reason};
use bulkhead_abi::{
    Address, CELL_ALLOW, CELL_DENY, CELL_EXEMPT, CELL_GUARD, CELL_ONE_WAY, Cell, Direction, FlowKey,
    FlowValue, FragmentKey, FragmentValue, Leaf, MAX_EXPIRY_CHAIN, NO_RULE, Pair, Rate, RateLimit, Routed,
    TRIE_ROOT_BLOCKS, pair_index, port_index,
};

/// Everything a decision may look at besides the packet. Implemented by the BPF program over
/// its maps and by [`crate::memory`] over vectors. `None` is a miss, and a miss never passes.
pub trait Environment {
    /// Entry `slot` of block `block` of the IPv4 trie.
    fn trie(&self, block: u32, slot: u8) -> Option<Leaf>;
    /// The table of single addresses.
    fn exact(&self) -> &impl Buckets;
    /// The leaf of the longest IPv6 prefix that holds this address.
    fn prefix6(&self, address: &Address) -> Option<Leaf>;
    /// Entry of the pair table, see [`bulkhead_abi::pair_index`].
    fn pair(&self, index: u32) -> Option<Pair>;
    /// Entry of the port-class table, see [`bulkhead_abi::port_index`].
    fn port_class(&self, index: u32) -> Option<u32>;
    /// A cell.
    fn cell(&self, index: u32) -> Option<Cell>;
    /// A deadline in ns of [`Self::boot_time`].
    fn deadline(&self, index: u32) -> Option<u64>;
    /// A rate limit.
    fn limit(&self, index: u32) -> Option<RateLimit>;
    /// The word of a rate limit: of its packets at twice its index, of its new flows at one more.
    fn limit_state(&self, index: u32) -> Option<impl RateState>;
    /// The word of the rate at which one address begins flows, made if it is not there.
    fn initiator_state(&self, address: &Address) -> Option<impl RateState>;

    /// The word of the rate of ICMP errors that quote no flow, below [`crate::MISS_WORDS`].
    fn miss_state(&self, word: u32) -> Option<impl RateState>;
    /// The word of the ends that were answered by a reset last, below [`crate::ANSWER_WORDS`].
    fn answer_state(&self, word: u32) -> Option<impl RateState>;
    /// Behind which routers an address lies.
    fn routed(&self, address: &Address) -> Routed;

    /// Time for flows: monotonic, coarse, ns.
    fn flow_time(&self) -> u64;
    /// Time for expiry: ns since boot, suspended time included.
    fn boot_time(&self) -> u64;

    /// The interface hands over Ethernet frames, not bare IP packets.
    fn ethernet(&self) -> bool;
    /// Audit mode: what would be dropped passes.
    fn audit(&self) -> bool;
    /// A verdict on a plain packet may be final at once: no flow is made of what is dropped, and
    /// nothing else waits for the case.
    fn settles_plain(&self) -> bool {
        !self.audit()
    }
    /// The policy has IPv6 prefixes.
    fn has_prefix6(&self) -> bool;
    /// Some cell has a rate limit.
    fn has_limits(&self) -> bool;
    /// Some cell is a management exemption.
    fn has_exemptions(&self) -> bool;
    /// Some addresses are multicast groups of feeds.
    fn has_groups(&self) -> bool;
    /// Some addresses lie behind routers.
    fn has_routes(&self) -> bool;
    /// Who sends ICMP errors, and how many, has a say.
    fn judges_errors(&self) -> bool {
        true
    }
    /// The link protocols that pass: `LINK_` bits.
    fn link(&self) -> u32;
    /// The rate at which one address may begin flows.
    fn new_flows(&self) -> Rate;
    /// Number of local classes.
    fn locals(&self) -> u32;
    /// Number of remote classes.
    fn remotes(&self) -> u32;
    /// The zone that the interface's flows belong to.
    fn zone(&self) -> u16;
    /// The generation's number.
    fn generation(&self) -> u32;
    /// Seconds of silence after which a flow in this [`bulkhead_abi::FlowState`] is over.
    fn timeout(&self, state: u8) -> u32;

    /// The state of this host's TCP socket that has a connection between these ends, in the network
    /// namespace of the packet's interface; else of one that listens there. `version` is IP's.
    fn socket(&self, version: u8, local: End, remote: End) -> SocketState;
    /// Asks for a reset in answer to a TCP segment that comes in, as of a host that has no such connection.
    /// It may be lost: the segment is sent again.
    fn reset(&self, headers: &Headers);
    /// First and last of the ports that the kernel gives to connections outwards, host byte order.
    fn outward_ports(&self) -> [u16; 2];
    /// Until when, in seconds of [`Self::flow_time`], TCP connections are taken up that this host
    /// forwards; 0: never.
    fn forwarded_until(&self) -> u32;

    /// Copies a flow; false if there is none. If `seen` says so of the copy, the flow was last
    /// seen now: the time is written where the flow lies.
    fn flow(&self, key: &FlowKey, flow: &mut FlowValue, seen: impl FnOnce(&FlowValue) -> Option<u64>)
    -> bool;
    /// Inserts or replaces a flow.
    ///
    /// # Errors
    /// [`Reason::FlowTableFull`] where the table could not take it.
    fn put_flow(&self, key: &FlowKey, value: &FlowValue) -> Result<(), Reason>;
    /// Removes a flow.
    fn remove_flow(&self, key: &FlowKey);

    /// [`crate::flow::admit`], which a program may keep out of the verifier's way.
    #[inline(never)]
    fn admit(&self, case: &mut Case, direction: Direction, rule: u32, limit: u16)
    where
        Self: Sized,
    {
        admit(self, case, direction, (rule, limit));
    }
    /// [`crate::untracked`], likewise.
    #[inline(never)]
    fn untracked(&self, case: &mut Case, direction: Direction)
    where
        Self: Sized,
    {
        untracked(self, case, direction);
    }
    /// [`crate::forgotten`], likewise.
    #[inline(never)]
    fn forgotten(&self, headers: &Headers)
    where
        Self: Sized,
    {
        forgotten(self, headers);
    }
    /// [`crate::reply`], likewise.
    #[inline(never)]
    fn reply(&self, case: &mut Case, direction: Direction)
    where
        Self: Sized,
    {
        reply(self, case, direction);
    }

    /// [`leaf_of`], likewise.
    ///
    /// # Errors
    /// The same.
    #[inline(never)]
    fn leaf(&self, version: u8, address: &Address) -> Result<Leaf, Reason>
    where
        Self: Sized,
    {
        leaf_of(self, version, address)
    }
    /// [`judge`], likewise.
    #[inline(never)]
    fn judge(&self, direction: Direction, classes: [u32; 2], protocol: u8, port: u16) -> Judgement
    where
        Self: Sized,
    {
        judge(self, direction, classes, protocol, port)
    }

    /// Copies what is remembered of a fragmented datagram; false if nothing is.
    fn fragment(&self, key: &FragmentKey, value: &mut FragmentValue) -> bool;
    /// Remembers a fragmented datagram.
    ///
    /// # Errors
    /// [`Reason::FragmentTableFull`] where the table could not take it.
    fn put_fragment(&self, key: &FragmentKey, value: &FragmentValue) -> Result<(), Reason>;
    /// Forgets a fragmented datagram.
    fn remove_fragment(&self, key: &FragmentKey);
}

/// The leaf of an address: local class, remote class, own, quarantined. An address that no
/// table holds has the zero leaf: neither local nor known.
///
/// # Errors
/// [`Reason::LookupFailed`] if the trie names a block that it does not have, or the exact table a
/// bucket.
#[inline(always)]
pub fn leaf_of(env: &impl Environment, version: u8, address: &Address) -> Result<Leaf, Reason> {
    let mut other = Leaf::default();
    if version == 4 {
        let entry = trie_entry(env, u32::from_be(address[3]));
        if entry.is_leaf() {
            return Ok(entry);
        }
        other = entry.as_exact().ok_or(Reason::LookupFailed)?;
    }
    match exact::find(env.exact(), address)? {
        Some(leaf) => Ok(leaf),
        None if version != 4 && env.has_prefix6() => Ok(env.prefix6(address).unwrap_or_default()),
        None => Ok(other),
    }
}

/// 16-8-8: the root by the upper half, then a block for each byte that tells addresses apart. A
/// leaf, an entry that sends to the exact table, or one that names a block where none can be. (Not
/// a `Result`: of a failure the compiler would read the bits of a leaf that was never written, which
/// the verifier refuses.)
#[inline(always)]
fn trie_entry(env: &impl Environment, address: u32) -> Leaf {
    const BROKEN: Leaf = Leaf::block(Leaf::MAX_BLOCK);
    let Some(root) = env.trie((address >> 24) & (TRIE_ROOT_BLOCKS - 1), (address >> 16) as u8) else {
        return BROKEN;
    };
    let Some(block) = root.as_block() else {
        return root;
    };
    let Some(middle) = env.trie(block, (address >> 8) as u8) else {
        return BROKEN;
    };
    let Some(block) = middle.as_block() else {
        return middle;
    };
    env.trie(block, address as u8).filter(|last| last.is_leaf()).unwrap_or(BROKEN)
}

/// What the policy says of one direction between two classes for one (protocol, port).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// [`Reason::Rule`], [`Reason::NoRule`], [`Reason::DenyRule`] or [`Reason::VenueGuard`]; or
    /// why the tables could not say.
    pub reason: Reason,
    /// The deciding cell's flags.
    pub flags: u8,
    /// The rule's rate limit; 0: none.
    pub limit: u16,
    /// The rule that decided, or [`NO_RULE`].
    pub rule: u32,
    /// The other direction admits something, so a packet that is not allowed may be a reply.
    pub opposite: bool,
}

/// Of a packed judgement: the other direction admits something. Cells have no such flag.
const OPPOSITE: u64 = 1 << 55;
/// Of a packed judgement: it is one. Nothing that is left at zero passes.
const PACKED: u64 = 1 << 54;
/// What is beside a cell's flags.
const NO_FLAGS: u8 = ((OPPOSITE | PACKED) >> 48) as u8;

impl Judgement {
    /// What a cell says that has not expired.
    #[inline(always)]
    pub(crate) const fn of(cell: Cell, opposite: bool) -> Self {
        let reason = match cell.action {
            CELL_ALLOW => Reason::Rule,
            CELL_DENY => Reason::DenyRule,
            CELL_GUARD => Reason::VenueGuard,
            _ => Reason::NoRule,
        };
        Self { reason, flags: cell.flags, limit: cell.limit, rule: cell.rule, opposite }
    }

    /// In one word, as a program's function returns it.
    #[inline(always)]
    #[must_use]
    pub const fn pack(self) -> u64 {
        let opposite = if self.opposite { OPPOSITE } else { 0 };
        self.rule as u64
            | (self.limit as u64) << 32
            | (self.flags as u64) << 48
            | opposite
            | PACKED
            | (self.reason as u64) << 56
    }

    /// What [`Self::pack`] has packed.
    #[inline(always)]
    #[must_use]
    pub const fn unpack(word: u64) -> Self {
        const RULE: u8 = Reason::Rule as u8;
        const NO_RULE: u8 = Reason::NoRule as u8;
        const DENY_RULE: u8 = Reason::DenyRule as u8;
        const VENUE_GUARD: u8 = Reason::VenueGuard as u8;
        const EXPIRY_CHAIN: u8 = Reason::ExpiryChain as u8;
        let reason = match (word >> 56) as u8 {
            RULE if word & PACKED != 0 => Reason::Rule,
            NO_RULE => Reason::NoRule,
            DENY_RULE => Reason::DenyRule,
            VENUE_GUARD => Reason::VenueGuard,
            EXPIRY_CHAIN => Reason::ExpiryChain,
            _ => Reason::LookupFailed,
        };
        let flags = (word >> 48) as u8 & !NO_FLAGS;
        Self { reason, flags, limit: (word >> 32) as u16, rule: word as u32, opposite: word & OPPOSITE != 0 }
    }

    /// What passes starts no flow.
    #[inline(always)]
    #[must_use]
    pub const fn one_way(self) -> bool {
        self.flags & CELL_ONE_WAY != 0
    }

    /// A management exemption admits.
    #[inline(always)]
    #[must_use]
    pub const fn exempt(self) -> bool {
        matches!(self.reason, Reason::Rule) && self.flags & CELL_EXEMPT != 0
    }
}

/// Looks up row, port class and cell of a local and a remote class. `port` is the destination's, in host byte order.
#[inline(always)]
pub fn judge(
    env: &impl Environment,
    direction: Direction,
    classes: [u32; 2],
    protocol: u8,
    port: u16,
) -> Judgement {
    let found = cell_of(env, direction, classes, protocol, port);
    let cell = match found {
        Some((_, cell)) if cell.deadline != 0 => unexpired(env, cell),
        Some((_, cell)) => Ok(cell),
        None => Err(Reason::LookupFailed),
    };
    let opposite = found.is_some_and(|(pair, _)| pair.opposite());
    match cell {
        Ok(cell) => Judgement::of(cell, opposite),
        Err(reason) => Judgement { reason, flags: 0, limit: 0, rule: NO_RULE, opposite },
    }
}

/// The cell of a packet between a local and a remote class, which may have expired, and its row.
#[inline(always)]
pub(crate) fn cell_of(
    env: &impl Environment,
    direction: Direction,
    [local, remote]: [u32; 2],
    protocol: u8,
    port: u16,
) -> Option<(Pair, Cell)> {
    let pair = env.pair(pair_index(direction, local, remote, env.locals(), env.remotes()))?;
    let class = env.port_class(port_index(protocol, port))?;
    Some((pair, env.cell(pair.row() + class)?))
}

/// The first cell of the chain that has not expired: an expired rule is absent.
#[inline(always)]
fn unexpired(env: &impl Environment, mut cell: Cell) -> Result<Cell, Reason> {
    let now = env.boot_time();
    for _ in 0..MAX_EXPIRY_CHAIN {
        if cell.deadline == 0 {
            return Ok(cell);
        }
        let deadline = env.deadline(u32::from(cell.deadline)).ok_or(Reason::LookupFailed)?;
        if now < deadline {
            return Ok(cell);
        }
        cell = env.cell(cell.next).ok_or(Reason::LookupFailed)?;
    }
    if cell.deadline == 0 { Ok(cell) } else { Err(Reason::ExpiryChain) }
}

/// What a rate limit counts.
#[derive(Clone, Copy)]
pub(crate) enum Counted {
    /// Packets that the rule admits.
    Packets,
    /// Flows that it lets begin.
    NewFlows,
}

/// Takes units of a rule's rate; true where it has none.
#[inline(always)]
pub(crate) fn take_limit(env: &impl Environment, limit: u16, counted: Counted, units: u32) -> bool {
    if limit == 0 {
        return true;
    }
    let index = u32::from(limit);
    let (Some(limit), Some(state)) = (env.limit(index), env.limit_state(index * 2 + counted as u32)) else {
        return false;
    };
    let rate = match counted {
        Counted::Packets => limit.packets,
        Counted::NewFlows => limit.new_flows,
    };
    take(&state, rate, env.boot_time(), u64::from(units))
}

#[cfg(test)]
mod tests {
    use super::Judgement;
    use crate::Reason;
    use bulkhead_abi::NO_RULE;

    #[test]
    fn a_judgement_comes_out_of_its_word_as_it_went_in() {
        let reasons = [
            Reason::Rule,
            Reason::NoRule,
            Reason::DenyRule,
            Reason::VenueGuard,
            Reason::LookupFailed,
            Reason::ExpiryChain,
        ];
        for reason in reasons {
            for flags in 0..0x40 {
                for (rule, limit) in [(0, 0), (NO_RULE, u16::MAX), (77, 1)] {
                    for opposite in [false, true] {
                        let judgement = Judgement { reason, flags, limit, rule, opposite };
                        assert_eq!(Judgement::unpack(judgement.pack()), judgement);
                    }
                }
            }
        }
    }

    #[test]
    fn a_word_that_nothing_packed_does_not_pass() {
        for number in 0..=u8::MAX {
            assert_ne!(Judgement::unpack(u64::from(number) << 56).reason, Reason::Rule);
        }
    }
}
