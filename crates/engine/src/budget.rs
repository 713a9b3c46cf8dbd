//! Which drops are reported: so many in each period, a little more than a second, on each CPU. Half of
//! them are whoever's come first; the other half is shared out in advance, so that no flood uses up what
//! another sender's drops need. See docs/decisions/0031.

use bulkhead_abi::{Address, Direction};

use crate::{Reason, opaque};

/// Senders are told apart by so many bits of a hash.
const SENDER_BITS: u32 = 7;
/// Shares: of each direction, whether the rules know both ends or not, and sender.
const SHARES: usize = 4 << SENDER_BITS;

/// What pays for a report, and so how much it may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fund {
    /// The sender's own share: the first of its kind is told of at once, by an event.
    Share,
    /// What is anybody's: it is told of by a summary.
    Common,
}

/// A period is 2^30 ns, 1.07 s: the clock shifted, since a division costs what the rest of a drop does.
const PERIOD_BITS: u32 = 30;

/// What one CPU has reported in a period.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// The period that the next three count in.
    period: u32,
    /// Reports that nobody's share paid for.
    common: u32,
    /// Kinds of drops that the first of those told of.
    kinds: u32,
    /// Flows that were told of as they began.
    flows: u32,
    shares: [Share; SHARES],
}
const _: () = assert!(size_of::<Budget>() == 16 + 8 * SHARES);

/// What was reported of the senders that have a share together in this period.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Share {
    period: u32,
    reports: u32,
}

/// The senders that have a share together, in one period and on one CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sharer {
    period: u32,
    /// Below [`SHARES`].
    share: u32,
}

impl Sharer {
    /// Who a drop is told of together with at `now`, ns of the clock for flows; `is_known`:
    /// [`is_of_known_sender`]. At egress the source
    /// is mostly this host, so that there both ends together count as the sender. Who shares with whom
    /// changes with every period.
    #[inline(always)]
    #[must_use]
    pub fn new(direction: Direction, is_known: bool, [source, destination]: [Address; 2], now: u64) -> Self {
        /// 2^64 divided by the golden ratio, and another odd number without a pattern.
        const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
        const TURN: u64 = 0xd1b5_4a32_d192_ed03;
        let period = (now >> PERIOD_BITS) as u32;
        let sender = match direction {
            Direction::Ingress => fold(source),
            Direction::Egress => fold(source).rotate_left(29) ^ fold(destination),
        };
        let spread = SPREAD.wrapping_add(u64::from(period).wrapping_mul(TURN << 1));
        let sender = (sender ^ sender >> 32).wrapping_mul(spread) >> (u64::BITS - SENDER_BITS);
        let group = direction.index() << 1 | u32::from(is_known);
        Self { period, share: group << SENDER_BITS | sender as u32 }
    }
}

impl Sharer {
    /// The place of its share. Verifiers before 6.6 do not follow the hash that bounds it, so that the
    /// compiler must not know it either.
    #[inline(always)]
    fn index(self) -> usize {
        opaque(self.share as usize) & (SHARES - 1)
    }
}

#[inline(always)]
const fn fold([a, b, c, d]: Address) -> u64 {
    ((a as u64) << 32 | b as u64).wrapping_mul(0x2127_599b_f432_5c37) ^ ((c as u64) << 32 | d as u64)
}

/// Whether a packet is dropped for this reason only between ends that the rules know, which nobody is who
/// makes sources up at random: the other end is of the class `remote`, which is none of the wide ones, from
/// number `wide` on. These hold so many addresses in one piece that to be one of them says nothing.
#[inline(always)]
#[must_use]
pub const fn is_of_known_sender(reason: Reason, remote: u32, wide: u32) -> bool {
    // Who is cut off is so by his address.
    matches!(reason, Reason::Quarantined) || (reason.knows_both_ends() && remote < wide)
}

impl Budget {
    /// Nothing was reported yet.
    pub const UNUSED: Self =
        Self { period: 0, common: 0, kinds: 0, flows: 0, shares: [Share { period: 0, reports: 0 }; SHARES] };

    /// What would pay for one more report of so many in a period; 0: there are none.
    #[inline(always)]
    pub fn fund(&mut self, reports: u32, sharer: Sharer) -> Option<Fund> {
        if reports == 0 {
            return None;
        }
        let period = sharer.period;
        let share = &mut self.shares[sharer.index()];
        if share.period != period {
            *share = Share { period, reports: 0 };
        }
        // Each has one at least, however many that may become.
        if share.reports < (reports / 2 / SHARES as u32).max(1) {
            return Some(Fund::Share);
        }
        self.begin(period);
        (self.common < reports / 2).then_some(Fund::Common)
    }

    #[inline(always)]
    fn begin(&mut self, period: u32) {
        if self.period != period {
            (self.period, self.common, self.kinds, self.flows) = (period, 0, 0, 0);
        }
    }

    /// Whether one more flow may be told of as it begins, of so many in the period of `now`, ns of the clock for flows.
    /// It takes nothing of what drops have.
    #[inline(always)]
    pub fn pay_for_flow(&mut self, flows: u32, now: u64) -> bool {
        self.begin((now >> PERIOD_BITS) as u32);
        if self.flows >= flows {
            return false;
        }
        self.flows += 1;
        true
    }

    /// Pays for one more report, if there is one.
    #[inline(always)]
    pub fn pay(&mut self, reports: u32, sharer: Sharer) -> Option<Fund> {
        let fund = self.fund(reports, sharer)?;
        match fund {
            Fund::Share => self.shares[sharer.index()].reports += 1,
            Fund::Common => self.common += 1,
        }
        Some(fund)
    }

    /// Whether one more kind of drops may be told of that nobody's share pays for. What else there is
    /// is told of by sender alone.
    #[inline(always)]
    pub fn may_tell_kind(&mut self, reports: u32) -> bool {
        let may = self.kinds < reports / 8;
        self.kinds += u32::from(may);
        may
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::net::Ipv4Addr;

    use super::{Budget, Fund, SHARES, Sharer, is_of_known_sender};
    use crate::Reason;
    use bulkhead_abi::{Address, Direction, from_ip};

    const REPORTS: u32 = 10_000;
    const PERIOD: u64 = 1 << super::PERIOD_BITS;
    const EACH: usize = 10_000 / 2 / SHARES;

    fn address(index: u32) -> Address {
        from_ip(Ipv4Addr::from_bits(0x6440_0000 + index).into())
    }

    fn drop_of(
        budget: &mut Budget,
        direction: Direction,
        is_known: bool,
        ends: [u32; 2],
        now: u64,
    ) -> Option<Fund> {
        budget.pay(REPORTS, Sharer::new(direction, is_known, ends.map(address), now))
    }

    #[test]
    fn a_flood_of_one_uses_up_what_is_anybodys_and_its_own_share() {
        let mut budget = Budget::UNUSED;
        let mut flood = |now| {
            let drops = (0..84_000).map(|_| drop_of(&mut budget, Direction::Ingress, true, [7, 1], now));
            let paid: Vec<_> = drops.flatten().collect();
            let own = paid.iter().filter(|fund| **fund == Fund::Share).count();
            (own, paid.len() - own)
        };
        assert_eq!(flood(5 * PERIOD), (EACH, REPORTS as usize / 2));
        assert_eq!(flood(5 * PERIOD + 1), (0, 0));
        assert_eq!(flood(6 * PERIOD), (EACH, REPORTS as usize / 2));
    }

    #[test]
    fn three_probes_of_another_are_told_of_beside_any_flood_but_of_who_shares_with_it() {
        let (near, flooder) = (1, 7);
        let mut blinded = 0;
        for period in 1..200 {
            for (direction, ends) in
                [(Direction::Ingress, [flooder, near]), (Direction::Egress, [near, flooder])]
            {
                let mut budget = Budget::UNUSED;
                let now = period * PERIOD;
                (0..6_000).for_each(|_| {
                    drop_of(&mut budget, direction, true, ends, now);
                });
                let probes = [(); 3].map(|()| drop_of(&mut budget, Direction::Ingress, true, [9, near], now));
                blinded += u32::from(probes != [Some(Fund::Share); 3]);
            }
        }
        // One of 128 in each period of a flood at ingress.
        assert!(blinded <= 8, "{blinded} of 398");
    }

    #[test]
    fn sources_that_are_made_up_blind_neither_whom_the_rules_know_nor_the_other_direction() {
        let mut budget = Budget::UNUSED;
        for source in 0..100_000 {
            let _ = drop_of(&mut budget, Direction::Ingress, false, [1_000 + source, 1], PERIOD);
        }
        let spent = |budget: &mut Budget, direction, is_known| {
            let ends = if direction == Direction::Ingress { [9, 1] } else { [1, 9] };
            drop_of(budget, direction, is_known, ends, PERIOD)
        };
        assert_eq!(spent(&mut budget, Direction::Ingress, false), None);
        assert_eq!(spent(&mut budget, Direction::Ingress, true), Some(Fund::Share));
        assert_eq!(spent(&mut budget, Direction::Egress, false), Some(Fund::Share));
        assert_eq!(spent(&mut budget, Direction::Egress, true), Some(Fund::Share));
    }

    #[test]
    fn senders_spread_over_the_shares_and_part_again() {
        let share = |index, period| {
            Sharer::new(Direction::Ingress, true, [address(index), address(1)], period * PERIOD).share
        };
        let used: HashSet<_> = (0..1024).map(|index| share(index, 3)).collect();
        assert!(used.len() > SHARES / 4 * 9 / 10, "{} of {}", used.len(), SHARES / 4);
        for other in 1..512 {
            let together = (0..100).filter(|period| share(0, *period) == share(other, *period)).count();
            assert!(together < 15, "{other}: together in {together} of 100 periods");
        }
    }

    #[test]
    fn kinds_are_bounded_and_nothing_is_paid_for_from_nothing() {
        let mut budget = Budget::UNUSED;
        let kinds = (0..REPORTS).filter(|_| budget.may_tell_kind(REPORTS)).count();
        assert_eq!(kinds, REPORTS as usize / 8);
        let sharer = Sharer::new(Direction::Ingress, true, [address(2), address(1)], 0);
        assert_eq!(budget.pay(0, sharer), None);
        let mut small = Budget::UNUSED;
        assert_eq!((small.pay(1, sharer), small.pay(1, sharer)), (Some(Fund::Share), None));
    }

    #[test]
    fn a_wide_class_is_nobody_and_a_quarantine_is_of_somebody() {
        let wide = 3;
        for reason in Reason::ALL {
            let known = [0, 2, 3].map(|remote| is_of_known_sender(*reason, remote, wide));
            let expected = match reason {
                Reason::Quarantined => [true; 3],
                Reason::UnknownAddress | Reason::NotLocal | Reason::Rule | Reason::Reply => [false; 3],
                Reason::NoRule | Reason::DenyRule | Reason::VenueDefaultDeny | Reason::FlowRevoked => {
                    [true, true, false]
                }
                _ => continue,
            };
            assert_eq!(known, expected, "{reason:?}");
        }
    }
}
