//! docs/internals/performance.md.

use std::fmt::Write as _;

use crate::figure::{Figure, Report};
use crate::fleet;
use crate::groups::Group;
use crate::requirements::{Outcome, outcomes};

use super::text::{bound, measured};
use super::{number, quantity, ratios, spread};

/// The page of one run.
#[must_use]
pub fn page(report: &Report) -> String {
    let mut text = String::from("# Performance\n\n");
    let command = if report.quick { "cargo xtask bench --quick" } else { "cargo xtask bench" };
    let _ = writeln!(
        text,
        "One run of `{command} --markdown docs/internals/performance.md`, begun {}. Do not edit: run it again.\n\n\
         Every figure is the median of rounds in which all that are compared took turns; ± is half of what the middle \
         half of the rounds spans. A ratio is the median of the rounds' own ratios, with the interval that holds it with \
         95 % confidence (bootstrap). Packets that did not come where they were measured, or rounds that spread over a \
         quarter of their median, make a figure *unreliable*, and it is called so.\n",
        report.started
    );
    if report.quick {
        text.push_str("**This was a quick run: few and short rounds. Its figures are for a look, not for a claim.**\n\n");
    }
    machine(report, &mut text);
    table(&outcomes(report), &mut text);
    for group in <Group as clap::ValueEnum>::value_variants() {
        let figures: Vec<&Figure> =
            report.figures.iter().filter(|figure| figure.group() == group.name()).collect();
        if !figures.is_empty() {
            section(*group, &figures, &mut text);
        }
    }
    if let Some(fleet) = fleet::page(report) {
        text.push_str(&fleet);
    }
    if !report.missing.is_empty() {
        text.push_str("## Not measured\n\n");
        for (id, why) in &report.missing {
            let _ = writeln!(text, "- `{id}`: {why}");
        }
        text.push('\n');
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

fn machine(report: &Report, text: &mut String) {
    let machine = &report.machine;
    text.push_str("## Machine\n\n| | |\n|---|---|\n");
    let kind = if machine.virtual_machine { "virtual machine" } else { "bare metal" };
    let rows = [
        ("processor", format!("{}, {} CPUs, {kind}", machine.processor, machine.cpus)),
        ("caches", machine.caches.join(", ")),
        ("memory", format!("{} MiB", number(machine.memory as f64))),
        ("kernel", machine.kernel.clone()),
        ("system", machine.system.clone()),
        ("mitigations", machine.mitigations.join("; ")),
        ("time", each(&report.seconds, |seconds| format!("{seconds:.0} s"))),
        ("stolen by the hypervisor", each(&report.stolen, |part| format!("{:.0} %", 100.0 * part))),
    ];
    for (name, value) in rows {
        let _ = writeln!(text, "| {name} | {value} |");
    }
    text.push('\n');
}

fn each(groups: &[(String, f64)], show: impl Fn(f64) -> String) -> String {
    groups.iter().map(|(group, value)| format!("{group} {}", show(*value))).collect::<Vec<_>>().join(", ")
}

fn table(outcomes: &[Outcome], text: &mut String) {
    text.push_str("## What it must show\n\n| figure | measured | bound | |\n|---|---|---|---|\n");
    for outcome in outcomes {
        let doubt = if outcome.unreliable.is_some() { ", *unreliable*" } else { "" };
        let _ = writeln!(
            text,
            "| {} | {} | {} | {}{doubt} |",
            outcome.what,
            measured(outcome),
            bound(outcome),
            outcome.verdict()
        );
    }
    text.push('\n');
}

fn section(group: Group, figures: &[&Figure], text: &mut String) {
    let _ = writeln!(text, "## {}\n\n{}\n", capitalised(&group.name()), group.about());
    text.push_str("| figure | what | median | | ratios |\n|---|---|---|---|---|\n");
    for figure in figures {
        let id = figure.id.strip_prefix(group.name().as_str()).unwrap_or(&figure.id).trim_start_matches('/');
        let mut what = figure.title.clone();
        if let Some(note) = &figure.note {
            let _ = write!(what, " ({note})");
        }
        if let Some(why) = &figure.unreliable {
            let _ = write!(what, " *unreliable: {why}*");
        }
        let _ = writeln!(
            text,
            "| {id} | {what} | {} | {} | {} |",
            quantity(figure.summary.median, figure.unit),
            spread(figure),
            ratios(figure).join("<br>")
        );
    }
    text.push('\n');
    let proofs: Vec<_> =
        figures.iter().filter_map(|figure| Some((&figure.id, figure.proof.as_ref()?))).collect();
    if let Some((_, least)) = proofs.iter().min_by(|(_, left), (_, right)| {
        let part = |proof: &crate::figure::Proof| proof.counted as f64 / proof.sent as f64;
        part(left).total_cmp(&part(right))
    }) {
        let _ = writeln!(
            text,
            "Of {} figures the packets were counted where they were measured; the least of them: {} of {} ({}).\n",
            proofs.len(),
            number(least.counted as f64),
            number(least.sent as f64),
            least.counter
        );
    }
}

fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
