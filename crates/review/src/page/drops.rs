//! Section 3: drops over time.

use maud::{Markup, html};

use super::chart;
use super::words::{grouped, times};
use crate::pack::{DayOfDrops, Drops};

pub(super) fn drops(drops: &Drops) -> Markup {
    let unattested = drops.days.iter().filter(|day| day.attested == 0).count() as u64;
    let partly = drops.days.iter().filter(|day| is_partly(day)).count() as u64;
    html! {
        @if drops.source.records.is_none() { p.unknown { "Not known: the log has no records of this time." } }
        @else {
            (chart::chart(drops))
            @if unattested + partly != 0 {
                p.unknown { "Not known: drops of " (times(unattested, "day")) " that no agent has attested, and of the rest of " (times(partly, "day")) " attested in part." }
            }
            @if drops.reasons.is_empty() { p { "No record tells of a drop." } }
            @else {
                table.small {
                    thead { tr { th { "Reason" } th.right { "Packets dropped" } th.right { "Let pass by audit mode" } } }
                    tbody {
                        @for (at, of) in drops.reasons.iter().enumerate() {
                            tr { td { span class={ "key " (chart::class(at)) } {} code { (of.reason) } } td.right { (grouped(of.dropped)) } td.right { (grouped(of.audited)) } }
                        }
                    }
                }
            }
            @if drops.untold != 0 { p.bad { (times(drops.untold, "packet")) " more were dropped and no record tells of them: see " a href="#losses" { "losses" } "." } }
        }
    }
}

/// Whether less of a day is attested than is asked about: more than a minute less, which is how often it is done.
pub(super) const fn is_partly(day: &DayOfDrops) -> bool {
    day.attested != 0 && day.asked.saturating_sub(day.attested) > 60_000_000_000
}
