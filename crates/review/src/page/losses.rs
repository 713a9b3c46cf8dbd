//! Section 10: what the log has not got.

use maud::{Markup, html};

use super::words::{grouped, known, moment, text, times};
use crate::pack::Pack;

pub(super) fn losses(pack: &Pack) -> Markup {
    let losses = &pack.losses;
    html! {
        h3 { "The account of drops" }
        @if losses.balances == 0 { p.unknown { "Not known: the log has no balance of this time." } }
        @else {
            p.equation {
                b { (grouped(losses.dropped)) } " dropped, as the kernel counted = " b { (grouped(losses.told)) } " told of + "
                b { (grouped(losses.unwritten)) } " told of and not written + " b { (grouped(losses.lost_packets)) } " lost"
            }
            p { (times(losses.balances, "balance")) @if let Some(time) = losses.closed_until { ", the last at " (moment(time)) "; drops after it are in no closed account yet" } "." }
            @if losses.unreported != 0 { p { (times(losses.unreported, "packet")) " beside these were counted by reason alone: the budget of reports was used up." } }
        }
        h3 { "Open balances" }
        @if losses.open.is_empty() { p { @if losses.balances == 0 { "None is there." } @else { "None." } } }
        @else {
            table {
                thead { tr { th.right { "Record" } th { "When" } th { "What" } } }
                tbody { @for open in losses.open.iter().take(100) { tr { td.right { span.digits { (grouped(open.record)) } } td { (moment(open.time)) } td { (text(&open.what)) } } } }
            }
        }
        h3 { "Events that the log has not got" }
        @if losses.lost.is_empty() { p { "No record tells of any." } }
        @else {
            table {
                thead { tr { th.right { "Record" } th { "When" } th.right { "Events" } th.right { "Drops they told of" } th { "Cause" } th { "Found" } } }
                tbody {
                    @for lost in losses.lost.iter().take(100) {
                        tr {
                            td.right { span.digits { (grouped(lost.record)) } } td { (moment(lost.time)) } td.right { (known(lost.events)) } td.right { (known(lost.drops)) }
                            td { code { (lost.cause.name()) } } td { @if let Some(detail) = &lost.detail { (text(detail)) } }
                        }
                    }
                }
            }
        }
    }
}
