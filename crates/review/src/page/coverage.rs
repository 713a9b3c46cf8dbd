//! Section 1: whether enforcement was on.

use maud::{Markup, html};

use super::summary::mode;
use super::words::{grouped, moment, percent, short, span, text};
use crate::pack::{HoleKind, Pack, Positions, Ruled};

/// Rows of a table that are shown.
const SHOWN: usize = 40;

pub(super) fn coverage(pack: &Pack) -> Markup {
    let shares = pack.coverage.shares;
    let all = shares.enforced + shares.audit + shares.unenforced + shares.unknown;
    let rows = [
        (
            "enforced",
            "Enforced",
            shares.enforced,
            "every interface had its programs, as the kernel said at each look",
        ),
        ("audit", "Audit", shares.audit, "packets were judged, and let pass"),
        (
            "unenforced",
            "Unenforced",
            shares.unenforced,
            "an interface or the guard was not as the policy needs it",
        ),
        ("unknown", "Unknown", shares.unknown, "nobody has attested what was enforced"),
    ];
    html! {
        (bar(&rows.map(|(class, _, time, _)| (class, time)), all))
        table {
            thead { tr { th { "State" } th.right { "Share" } th.right { "Time" } th { "Meaning" } } }
            tbody {
                @for (class, name, time, meaning) in rows {
                    tr { td { span class={ "key " (class) } {} (name) } td.right { (percent(time, all)) } td.right { (span(time)) } td { (meaning) } }
                }
            }
        }
        h3 { "What was in force" }
        @if pack.coverage.ruled.is_empty() { p.unknown { "Not known: the log has no coverage of this time." } }
        @else {
            @let ruled = &pack.coverage.ruled;
            table {
                thead { tr { th { "From" } th { "Until" } th.right { "Generation" } th { "Mode" } th { "Policy" } th { "Inventory" } th.right { "Records" } } }
                tbody {
                    @for Ruled { from, until, records, of } in ruled.iter().skip(ruled.len().saturating_sub(SHOWN)) {
                        tr { td { (moment(*from)) } td { (moment(*until)) } td.right { (of.generation) } td { (mode(of.mode)) } td { (short(of.policy.as_deref())) } td { (short(of.inventory.as_deref())) } td.right { (positions(Some(*records))) } }
                    }
                }
            }
            (more(ruled.len(), "earlier ones"))
        }
        h3 { "Times that are not covered" }
        @if pack.coverage.holes.is_empty() { p { "None." } }
        @else {
            table {
                thead { tr { th { "From" } th { "Until" } th { "State" } th.right { "Time" } th { "Why" } th.right { "Records" } } }
                tbody {
                    @for hole in pack.coverage.holes.iter().take(SHOWN) {
                        tr { td { (moment(hole.from)) } td { (moment(hole.until)) } td { (kind(hole.kind)) } td.right { (span(hole.nanoseconds)) } td { (text(&hole.why)) } td.right { (positions(hole.records)) } }
                    }
                }
            }
            (more(pack.coverage.holes.len(), "later ones"))
        }
    }
}

/// That a table goes on.
pub(super) fn more(all: usize, what: &str) -> Markup {
    html! { @if all > SHOWN { p.more { "and " (grouped((all - SHOWN) as u64)) " " (what) "; the JSON has all" } } }
}

fn bar(shares: &[(&str, u64)], all: u64) -> Markup {
    const WIDTH: u64 = 1000;
    let mut at = 0;
    let parts: Vec<_> = shares
        .iter()
        .map(|(class, time)| {
            let width = u128::from(*time) * u128::from(WIDTH) / u128::from(all.max(1));
            // What was for moments is seen all the same.
            let width = u64::try_from(width).unwrap_or(WIDTH).max(u64::from(*time != 0) * 3);
            let from = at;
            at += width;
            (*class, from, width)
        })
        .collect();
    html! {
        svg.bar viewBox={ "0 0 " (at.max(1)) " 22" } preserveAspectRatio="none" role="img" aria-label="shares of the time" {
            @for (class, from, width) in parts { rect class=(class) x=(from) y="0" width=(width) height="22" {} }
        }
    }
}

fn kind(kind: HoleKind) -> Markup {
    let (class, name) = match kind {
        HoleKind::Audit => ("audit", "audit"),
        HoleKind::Unenforced => ("unenforced", "unenforced"),
        HoleKind::Unknown => ("unknown", "unknown"),
    };
    html! { span class={ "key " (class) } {} (name) }
}

/// Records, in digits.
pub(super) fn positions(at: Option<Positions>) -> Markup {
    html! {
        @match at {
            Some(Positions { first, last }) if first == last => span.digits { (grouped(first)) },
            Some(Positions { first, last }) => span.digits { (grouped(first)) "–" (grouped(last)) },
            None => "none",
        }
    }
}
