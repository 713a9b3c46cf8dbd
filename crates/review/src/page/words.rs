//! Numbers, times and texts as people read them.

use bulkhead_api::event::Timestamp;
pub(super) use bulkhead_api::text::grouped;
// What would not be shown as it is is written out; HTML's own signs the templates escape.
pub(super) use bulkhead_api::text::plain as text;
use maud::{Markup, html};

/// `1 rule`, `2,000 rules`.
pub(super) fn times(count: u64, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{} {what}s", grouped(count)) }
}

/// A share of a whole in percent, never rounded up to all of it nor down to nothing.
pub(super) fn percent(part: u64, all: u64) -> String {
    if part == 0 || all == 0 {
        return "0 %".to_owned();
    }
    if part >= all {
        return "100 %".to_owned();
    }
    match u128::from(part) * 10_000 / u128::from(all) {
        0 => "< 0.01 %".to_owned(),
        parts => format!("{}.{:02} %", parts / 100, parts % 100),
    }
}

/// A time span in its two largest units.
pub(super) fn span(nanoseconds: u64) -> String {
    let milliseconds = nanoseconds.div_ceil(1_000_000);
    let seconds = milliseconds / 1000;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes, seconds) {
        (0, 0, 0, 0) => format!("{milliseconds} ms"),
        (0, 0, 0, _) => format!("{seconds}.{} s", milliseconds % 1000 / 100),
        (0, 0, ..) => format!("{minutes} min {} s", seconds % 60),
        (0, ..) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

/// A time to the second, UTC.
pub(super) fn moment(time: Timestamp) -> Markup {
    let words = time.to_string();
    let (day, clock) = (words.get(..10).unwrap_or_default(), words.get(11..19).unwrap_or_default());
    html! { span.nowrap { (day) } " " span.nowrap { (clock) "Z" } }
}

/// The first digits of a digest, enough to tell files apart.
pub(super) fn short(digest: Option<&str>) -> Markup {
    html! {
        @match digest {
            Some(digest) => code title=(text(digest)) { (text(digest.get(..12).unwrap_or(digest))) },
            None => span.unknown { "not known" },
        }
    }
}

/// A number, or that it is not known.
pub(super) fn known(number: Option<u64>) -> Markup {
    html! {
        @match number {
            Some(number) => (grouped(number)),
            None => span.unknown { "not known" },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{grouped, percent, span};

    #[test]
    fn shares_are_not_rounded_to_all_or_nothing() {
        let shares = [(0, 9), (1, 1_000_000), (999_999, 1_000_000), (9, 9), (1, 3)]
            .map(|(part, all)| percent(part, all));
        assert_eq!(shares, ["0 %", "< 0.01 %", "99.99 %", "100 %", "33.33 %"]);
        assert_eq!(percent(u64::MAX - 1, u64::MAX), "99.99 %");
    }

    #[test]
    fn numbers_and_times_are_read_at_a_glance() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        let second = 1_000_000_000;
        let spans = [1, 1_500_000_000, 61 * second, 7260 * second, 90_000 * second].map(span);
        assert_eq!(spans, ["1 ms", "1.5 s", "1 min 1 s", "2 h 1 min", "1 d 1 h"]);
    }
}
