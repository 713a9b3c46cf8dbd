//! Drops by day as bars.

use std::collections::HashMap;

use maud::{Markup, html};

use super::drops::is_partly;
use super::words::grouped;
use crate::pack::{DayOfDrops, Drops};

const WIDTH: f64 = 1120.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 70.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 26.0;

/// Reasons with a colour of their own; the rest share the last.
const COLOURS: usize = 7;

/// Days that have a label below.
const LABELS: usize = 8;

/// The colour of a reason, by its place among them.
pub(super) fn class(at: usize) -> String {
    format!("reason{}", at.min(COLOURS))
}

pub(super) fn chart(drops: &Drops) -> Markup {
    let days = &drops.days;
    let most = days.iter().map(sum).max().unwrap_or(0);
    let top = ceiling(most);
    let place: HashMap<&str, usize> =
        (0..).zip(&drops.reasons).map(|(at, of)| (of.reason.as_str(), at)).collect();
    let slot = ((WIDTH - LEFT) / days.len().max(1) as f64).min(56.0);
    let plot = HEIGHT - TOP - BOTTOM;
    let height = |packets: u64| packets as f64 / top as f64 * plot;
    let every = days.len().div_ceil(LABELS).max(1);
    html! {
        svg.chart viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img" aria-label="packets dropped by day and reason" {
            defs { pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)" { rect.hatch width="2" height="6" {} } }
            @for line in 0..=4_u64 {
                @let y = TOP + plot - plot * line as f64 / 4.0;
                line.grid x1=(LEFT) x2=(WIDTH) y1=(round(y)) y2=(round(y)) {}
                @if (top * line).is_multiple_of(4) { text x=(LEFT - 8.0) y=(round(y + 4.0)) text-anchor="end" { (grouped(top * line / 4)) } }
            }
            @for (at, day) in days.iter().enumerate() {
                @let x = LEFT + slot * at as f64;
                @if day.attested == 0 || is_partly(day) {
                    rect.gap x=(round(x)) y=(TOP) width=(round(slot)) height=(plot) fill="url(#hatch)" {}
                }
                @for (reason, y, tall) in stack(day, &place, height) {
                    rect class=(class(reason)) x=(round(x + slot * 0.1)) y=(round(TOP + plot - y - tall)) width=(round(slot * 0.8)) height=(round(tall)) {}
                }
                @if at % every == 0 { text x=(round(x)) y=(HEIGHT - 8.0) { (day.day) } }
            }
            line.axis x1=(LEFT) x2=(WIDTH) y1=(TOP + plot) y2=(TOP + plot) {}
        }
        p.legend {
            @for (at, of) in drops.reasons.iter().take(COLOURS).enumerate() { span class={ "key " (class(at)) } {} (of.reason) " " }
            @if drops.reasons.len() > COLOURS { span class={ "key " (class(COLOURS)) } {} "other reasons " }
            span.key.gap {} "not, or not all, attested; packets by UTC day"
        }
    }
}

/// The bars of a day from below: the reason's place, where it begins, and how tall it is.
fn stack(
    day: &DayOfDrops,
    place: &HashMap<&str, usize>,
    height: impl Fn(u64) -> f64,
) -> Vec<(usize, f64, f64)> {
    let mut reasons: Vec<(usize, u64)> = day
        .reasons
        .iter()
        .map(|(reason, packets)| (place.get(reason.as_str()).copied().unwrap_or(COLOURS), *packets))
        .collect();
    reasons.sort_unstable();
    let mut below = 0.0;
    let bars = reasons.into_iter().map(|(at, packets)| {
        // One packet is seen beside millions.
        let (from, tall) = (below, height(packets).max(1.5));
        below += tall;
        (at, from, tall)
    });
    bars.collect()
}

fn sum(day: &DayOfDrops) -> u64 {
    day.reasons.values().fold(0, |sum, packets| sum.saturating_add(*packets))
}

/// A round number that is no less: 1, 2 or 5 times a power of ten, and at least 4.
fn ceiling(most: u64) -> u64 {
    let most = most.max(4);
    let power = 10_u64.pow(most.ilog10());
    let rounded =
        [1, 2, 4, 5, 8].into_iter().filter_map(|times| power.checked_mul(times)).find(|round| *round >= most);
    rounded.or_else(|| power.checked_mul(10)).unwrap_or(u64::MAX)
}

fn round(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::ceiling;

    #[test]
    fn an_axis_ends_at_a_round_number() {
        assert_eq!([0, 4, 7, 13, 99, 4_000_001].map(ceiling), [4, 4, 8, 20, 100, 5_000_000]);
        assert_eq!(ceiling(u64::MAX), u64::MAX);
    }
}
