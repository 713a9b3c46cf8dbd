//! Section 2: who talks to whom.

use maud::{Markup, html};

use super::coverage::more;
use super::words::{grouped, text, times};
use crate::pack::{Cell, Grouping, Matrix};

/// Columns up to which cells have room for ports, and names for their letters.
const WIDE: usize = 8;

pub(super) fn matrix(matrix: &Matrix) -> Markup {
    let is_wide = matrix.destinations.len() <= WIDE;
    let most = matrix.cells.iter().map(|cell| cell.admitted.saturating_add(cell.audited)).max().unwrap_or(0);
    let at = |source, destination| {
        matrix.cells.iter().find(|cell| (cell.source, cell.destination) == (source, destination))
    };
    let mut busiest: Vec<&Cell> = matrix.cells.iter().collect();
    busiest.sort_by_key(|cell| std::cmp::Reverse(cell.admitted.saturating_add(cell.audited)));
    html! {
        (known(matrix))
        @if matrix.cells.is_empty() { p { "Nothing was seen." } }
        @else {
            table class=(if is_wide { "matrix" } else { "matrix narrow" }) {
                thead { tr { th.corner { "began ↓ with →" } @for name in &matrix.destinations { th { span { (text(name)) } } } } }
                tbody {
                    @for (source, name) in matrix.sources.iter().enumerate() {
                        tr {
                            th { (text(name)) }
                            @for destination in 0..matrix.destinations.len() { (cell(at(source, destination), most, is_wide)) }
                        }
                    }
                }
            }
            p.legend {
                b { "12" } " looks in which a rule admitted a conversation; " b.warn { "~12" } " looks in which audit mode let one pass; "
                b.bad { "✕12" } " packets dropped; " b.warn { "(✕12)" } " packets that would have been. A look is taken each minute: its count is how long and often, not how many bytes."
            }
            h3 { "Ports" }
            table {
                thead { tr { th { "From" } th { "To" } th { "Ports" } th.right { "Looks admitted" } th.right { "Looks by audit mode" } th.right { "Packets dropped" } } }
                tbody {
                    @for cell in busiest.iter().take(40) {
                        tr {
                            td { (text(&matrix.sources[cell.source])) } td { (text(&matrix.destinations[cell.destination])) }
                            td { (text(&cell.ports.join(", "))) @if cell.more_ports != 0 { " and " (cell.more_ports) " more" } }
                            td.right { (grouped(cell.admitted)) } td.right { (grouped(cell.audited)) }
                            td.right { (grouped(cell.dropped)) @if cell.would_drop != 0 { " (" (grouped(cell.would_drop)) " would be)" } }
                        }
                    }
                }
            }
            (more(matrix.cells.len(), "pairs"))
        }
    }
}

fn known(matrix: &Matrix) -> Markup {
    html! {
        p {
            @match matrix.by {
                Grouping::Node => "By node: ",
                Grouping::Tag => "Nodes are too many for a table: summed up by tag or user: ",
            }
            @match &matrix.known_since {
                Some(day) => { "recorded since " (day) },
                None => span.unknown { "nothing is recorded yet" },
            }
            @if matrix.missing_days != 0 { span.unknown { ", " (times(matrix.missing_days, "day")) " without a look" } }
            "."
        }
    }
}

fn cell(cell: Option<&Cell>, most: u64, is_wide: bool) -> Markup {
    let Some(cell) = cell else { return html! { td {} } };
    let seen = cell.admitted.saturating_add(cell.audited);
    html! {
        td class={ "heat" (heat(seen, most)) } {
            @if cell.admitted != 0 { b { (grouped(cell.admitted)) } " " }
            @if cell.audited != 0 { b.warn { "~" (grouped(cell.audited)) } " " }
            @if cell.dropped != 0 { b.bad { "✕" (grouped(cell.dropped)) } " " }
            @if cell.would_drop != 0 { b.warn { "(✕" (grouped(cell.would_drop)) ")" } }
            @if is_wide && !cell.ports.is_empty() { div.ports { (text(&cell.ports.join(" "))) @if cell.more_ports != 0 { " +" (cell.more_ports) } } }
        }
    }
}

/// How dark a cell is, 0 to 4: by the order of magnitude.
fn heat(seen: u64, most: u64) -> u32 {
    match (seen, most) {
        (0, _) => 0,
        (_, 0..=1) => 4,
        _ => 1 + 3 * seen.ilog2() / most.ilog2().max(1),
    }
    .min(4)
}
