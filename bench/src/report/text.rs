//! For a terminal.

use crate::figure::Report;
use crate::requirements::{Outcome, Side};

use super::{number, quantity, ratios, spread};

/// Prints every figure, and what could not be measured.
pub fn print(report: &Report) {
    let mut group = "";
    for figure in &report.figures {
        if figure.group() != group {
            group = figure.group();
            println!("\n{group}");
        }
        let id = figure.id.strip_prefix(group).unwrap_or(&figure.id).trim_start_matches('/');
        println!(
            "  {id:42} {:>18} {:7} {}",
            quantity(figure.summary.median, figure.unit),
            spread(figure),
            ratios(figure).join(", ")
        );
        if let Some(note) = &figure.note {
            println!("  {:42} {note}", "");
        }
        if let Some(why) = &figure.unreliable {
            println!("  {:42} unreliable: {why}", "");
        }
    }
    for (id, why) in &report.missing {
        println!("\nnot measured: {id}: {why}");
    }
}

/// The bound as one reads it.
#[must_use]
pub fn bound(outcome: &Outcome) -> String {
    let sign = match outcome.side {
        Side::AtMost => "≤",
        Side::AtLeast => "≥",
    };
    format!("{sign} {}", number(outcome.bound))
}

/// The measured value as one reads it, with its interval.
#[must_use]
pub fn measured(outcome: &Outcome) -> String {
    match (outcome.measured, outcome.interval) {
        (None, _) => "–".to_owned(),
        (Some(value), None) => number(value),
        (Some(value), Some([low, high])) => format!("{} [{}–{}]", number(value), number(low), number(high)),
    }
}

/// Prints the table of ratios.
pub fn print_outcomes(outcomes: &[Outcome]) {
    println!("\n{:90} {:>24} {:>8}  verdict", "requirement", "measured", "bound");
    for outcome in outcomes {
        let doubt = if outcome.unreliable.is_some() { ", unreliable" } else { "" };
        println!(
            "{:90} {:>24} {:>8}  {}{doubt}",
            outcome.what,
            measured(outcome),
            bound(outcome),
            outcome.verdict()
        );
    }
}
