//! What the policy says, apart from flows.

use bulkhead_abi::{
    CELL_ALLOW, CELL_CLOSED, CELL_DEFAULT_DENY, CELL_DENY, CELL_EXEMPT, CELL_ONE_WAY, CELL_REJECT, Cell,
};

use crate::Reason;

/// What the policy says of one direction between two classes for one (protocol, port).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// [`Reason::Rule`], [`Reason::NoRule`], [`Reason::DenyRule`] or [`Reason::VenueDefaultDeny`]; or
    /// why the tables could not say.
    pub reason: Reason,
    /// The deciding cell's flags.
    pub flags: u8,
    /// The rule's rate limit; 0: none.
    pub limit: u16,
    /// The rule that decided, or [`bulkhead_abi::NO_RULE`].
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
            CELL_DEFAULT_DENY => Reason::VenueDefaultDeny,
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
        const VENUE_DEFAULT_DENY: u8 = Reason::VenueDefaultDeny as u8;
        const EXPIRY_CHAIN: u8 = Reason::ExpiryChain as u8;
        let reason = match (word >> 56) as u8 {
            RULE if word & PACKED != 0 => Reason::Rule,
            NO_RULE => Reason::NoRule,
            DENY_RULE => Reason::DenyRule,
            VENUE_DEFAULT_DENY => Reason::VenueDefaultDeny,
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

    /// It is denied, as link protocols are.
    #[inline(always)]
    #[must_use]
    pub const fn closed(self) -> bool {
        matches!(self.reason, Reason::DenyRule) && self.flags & CELL_CLOSED != 0
    }

    /// A management exemption admits.
    #[inline(always)]
    #[must_use]
    pub const fn exempt(self) -> bool {
        matches!(self.reason, Reason::Rule) && self.flags & CELL_EXEMPT != 0
    }

    /// It is not admitted, and whoever asks is told so.
    #[inline(always)]
    #[must_use]
    pub const fn rejects(self) -> bool {
        matches!(self.reason, Reason::NoRule | Reason::DenyRule) && self.flags & CELL_REJECT != 0
    }
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
            Reason::VenueDefaultDeny,
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
