//! How all hosts of a fleet stand, by what a collector has.

use std::fmt::{self, Write as _};
use std::path::Path;

use bulkhead_api::text::plain;
use bulkhead_collect::{Fleet, Limits, read};

use crate::daemon::clock::wall_time;
use crate::exit::{Answer, Usage};

/// Shows them. Negative if anything is wrong with one.
///
/// # Errors
/// [`Usage`] if there is no store.
pub(super) fn run(collected: &Path, silent_seconds: u64, json: bool) -> anyhow::Result<Answer> {
    let standings = read(collected)
        .map_err(|error| Usage(format!("{}: {error}; name a collector's store", collected.display())))?;
    let fleet = Fleet::judge(standings, wall_time(), Limits { silent_seconds });
    if json {
        println!("{}", serde_json::to_string(&fleet)?);
    } else {
        let mut out = String::new();
        show(&mut out, &fleet)?;
        print!("{out}");
    }
    Ok(if fleet.is_well() { Answer::Yes } else { Answer::No })
}

/// Nothing that hosts say is believed to be fit for a terminal.
fn show(out: &mut String, fleet: &Fleet) -> fmt::Result {
    let nodes = fleet.nodes.iter().filter(|node| !node.standing.node.is_empty());
    let width =
        nodes.clone().map(|node| plain(&node.standing.node).chars().count()).max().unwrap_or(4).max(4);
    writeln!(
        out,
        "{:width$}  {:9}  {:>10}  {:12}  {:12}  {:>9}  {:>8}",
        "NODE", "STATE", "GENERATION", "POLICY", "INVENTORY", "RECORDS", "HEARD"
    )?;
    for node in nodes {
        let report = node.standing.heard.as_ref().map(|heard| &heard.report);
        let state = report.map_or("unknown", |report| report.state.name());
        let generation = report.map_or(0, |report| report.generation);
        let [policy, inventory] =
            [report.map(|report| &report.policy), report.map(|report| &report.inventory)]
                .map(|bundle| bundle.map_or_else(|| "?".to_owned(), file));
        let heard = node.heard_seconds.map_or_else(|| "never".to_owned(), |seconds| format!("{seconds} s"));
        let (name, records) = (plain(&node.standing.node), node.standing.records);
        writeln!(
            out,
            "{name:width$}  {state:9}  {generation:>10}  {policy:12}  {inventory:12}  {records:>9}  {heard:>8}"
        )?;
    }
    let mut wrong = fleet.nodes.iter().filter(|node| !node.troubles.is_empty()).peekable();
    if wrong.peek().is_none() {
        return writeln!(out, "\nnothing is wrong with any of {} nodes", fleet.nodes.len());
    }
    writeln!(out)?;
    for node in wrong {
        let name =
            if node.standing.node.is_empty() { "(not known)".into() } else { plain(&node.standing.node) };
        for (trouble, words) in &node.troubles {
            writeln!(out, "{name}: {}: {}", trouble.name(), plain(words))?;
        }
    }
    Ok(())
}

/// A version, and the first digits of a digest: enough to tell files apart.
fn file(bundle: &bulkhead_collect::Bundle) -> String {
    let digits: String = bundle.sha256.as_deref().map_or("?", |digest| digest).chars().take(8).collect();
    let digits = plain(&digits).into_owned();
    bundle.version.map_or_else(|| digits.clone(), |version| format!("{version}:{digits}"))
}
