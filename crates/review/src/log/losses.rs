//! What the log has lost, and accounts that are open.

use bulkhead_api::event::{Account, Balance, LostEvents, Timestamp};

use crate::pack::{Loss, Losses, OpenBalance, Source};

/// Follows balances.
#[derive(Default)]
pub(super) struct Losing {
    losses: Losses,
    last: Option<Balance>,
}

impl Losing {
    pub(super) fn lost(&mut self, record: u64, time: Timestamp, lost: &LostEvents) {
        let LostEvents { events, drops, cause, detail } = lost.clone();
        self.losses.lost.push(Loss { record, time, events, drops, cause, detail });
    }

    /// Takes a balance. One from before the time that is asked about is what the first one is compared with.
    pub(super) fn balance(&mut self, record: u64, time: Timestamp, balance: &Balance, is_asked: bool) {
        let last = self.last.replace(balance.clone());
        if !is_asked {
            return;
        }
        let losses = &mut self.losses;
        losses.balances += 1;
        losses.closed_until = Some(time);
        if !balance.is_balanced() {
            let what = if balance.accounts().iter().all(|account| account.settled) {
                let (dropped, accounted) = (balance.dropped(), balance.accounted());
                format!("the kernel has counted {dropped} drops, and {accounted} are accounted for")
            } else {
                "what was dropped could not be waited for".to_owned()
            };
            losses.open.push(OpenBalance { record, time, what });
        }
        let Some(last) = last else { return };
        if last.counted_since != balance.counted_since {
            let what =
                "the kernel's counters began anew: what they counted last before is in no account".to_owned();
            losses.open.push(OpenBalance { record, time, what });
            return;
        }
        let more = |number: fn(&Account) -> u64| {
            // No honest agent's is larger.
            u64::try_from(balance.sum(number).saturating_sub(last.sum(number))).unwrap_or(u64::MAX)
        };
        let unread = balance.unread.saturating_sub(last.unread);
        let unreported = balance.unreported.saturating_sub(last.unreported);
        for (sum, more) in [
            (&mut losses.dropped, more(|account| account.dropped)),
            (&mut losses.told, more(|account| account.told)),
            (&mut losses.unwritten, more(|account| account.unwritten)),
            (&mut losses.lost_packets, more(|account| account.lost).saturating_add(unread)),
            (&mut losses.unreported, unreported),
        ] {
            *sum = sum.saturating_add(more);
        }
    }

    pub(super) fn end(self, source: Source) -> Losses {
        Losses { source, ..self.losses }
    }
}

impl Losses {
    /// Packets that were dropped and of which the log has no record, as far as it is known.
    pub(super) fn untold(&self) -> u64 {
        self.unwritten.saturating_add(self.lost_packets).saturating_add(self.unreported)
    }
}
