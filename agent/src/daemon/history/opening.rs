//! How often a history that cannot be opened is tried.

use std::time::Instant;

use super::recorder::WRITE;

/// When a file that could not be opened is tried again: opening one reads all of it.
#[derive(Default)]
pub(super) struct Opening {
    /// Times in a row that it was refused.
    refused: u32,
    /// Not before.
    next: Option<Instant>,
}

impl Opening {
    /// The longest wait, in times that it is written.
    const LONGEST: u32 = 60;

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.next.is_none_or(|next| now >= next)
    }

    /// It was refused: twice as long as before until the next try.
    pub(super) fn refused(&mut self, now: Instant) {
        let times = 1_u32.checked_shl(self.refused).map_or(Self::LONGEST, |times| times.min(Self::LONGEST));
        self.refused = self.refused.saturating_add(1);
        // Half a turn less, so that the turn itself is not missed by a moment.
        self.next = now.checked_add(WRITE * times - WRITE / 2);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::{Opening, WRITE};

    #[test]
    fn a_file_that_cannot_be_opened_is_tried_ever_more_rarely_and_at_least_once_an_hour() {
        let mut opening = Opening::default();
        let mut now = Instant::now();
        let mut turns = Vec::new();
        for turn in 0..300 {
            if opening.is_due(now) {
                turns.push(turn);
                opening.refused(now);
            }
            now += WRITE;
        }
        assert_eq!(turns, [0, 1, 3, 7, 15, 31, 63, 123, 183, 243]);
        assert!(Opening::default().is_due(now));
    }
}
