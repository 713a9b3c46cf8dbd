//! `bulkhead drift`: rules that nobody used, and rules wider than their use.

use std::path::PathBuf;

use anyhow::Context as _;
use bulkhead_api::text::{first_of, plain};
use bulkhead_history::answer::drift::{Named, Report};
use bulkhead_history::answer::{narrower, times};
use bulkhead_policy::check::{Loaded, Scope};
use bulkhead_policy::source::Source;

use crate::exit::{Answer, Usage};
use crate::global::Global;
use crate::usage::Asked;
use crate::{diagnostics, input};

/// What the staged policy would have stopped that is listed.
const STAGED: usize = 50;

/// Show rules that nobody used, and rules wider than their use.
///
/// From the history that the agent keeps. Each rule that is wider is written out more narrowly.
#[derive(Debug, clap::Args)]
pub struct Drift {
    #[command(flatten)]
    asked: Asked,
    /// Write the policy with these rules narrowed, unused ones removed.
    ///
    /// Rules that deny stay. `bulkhead diff` shows what it would no longer admit.
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
}

impl Drift {
    pub fn run(self, global: &Global) -> anyhow::Result<Answer> {
        let Some(question) = self.asked.read(global, input::now() / 1_000_000_000)? else {
            return Ok(Answer::No);
        };
        let report = Report::new(&question);
        if global.json {
            println!("{}", serde_json::to_string(&report)?);
        } else {
            print(&report);
        }
        let (Some(path), Some(policy)) = (self.write, &question.loaded.policy) else {
            return Ok(Answer::Yes);
        };
        if path.exists() {
            let message = format!("{} is there already; name a new file", path.display());
            return Err(Usage(message).into());
        }
        let text = narrower(policy, &report);
        let scope = Scope { dialect: global.dialect, ..Scope::default() };
        let inventory = question.loaded.inventory.as_ref().map(|inventory| inventory.source.clone());
        let mut new = Loaded::new(Source::new(&path.display().to_string(), &text), inventory, &scope);
        new.check(input::now());
        std::fs::write(&path, &text).with_context(|| format!("writing {}", path.display()))?;
        if new.findings.has_errors() {
            diagnostics::print(&new.findings, &new.sources, false);
            return Ok(Answer::No);
        }
        Ok(Answer::Yes)
    }
}

fn print(report: &Report) {
    let hosts: Vec<&str> = report.hosts.iter().map(|host| host.node.as_str()).collect();
    let hosts = hosts.join(", ");
    println!("since {} ({}), as seen on {}", report.since, times(report.days, "day"), plain(&hosts));
    for host in &report.hosts {
        let node = plain(&host.node);
        match &host.first_day {
            None => println!("{node}: nothing is recorded yet"),
            Some(first) if *first > report.since => println!("{node}: recorded since {first}"),
            Some(_) => {}
        }
        if host.missing_days > 0 {
            println!("{node}: {} without a look", times(host.missing_days, "day"));
        }
    }
    for rule in &report.unused {
        println!("{}: never used", title(rule));
        tell_record(rule);
    }
    for wider in &report.wider {
        println!("{}: wider than its use, last used on {}", title(&wider.rule), wider.last_used);
        tell_record(&wider.rule);
        for axis in &wider.wider {
            println!("  {}: {} of {} used: {}", axis.what, axis.used.len(), axis.has, some(&axis.used));
        }
        wider.narrower.lines().for_each(|line| println!("    {}", plain(line.trim_start())));
    }
    for kept in &report.kept {
        println!("{}: stays: {}", title(&kept.rule), kept.why);
        tell_record(&kept.rule);
    }
    for rule in &report.not_known {
        let used = if rule.used { "used" } else { "not used so far" };
        println!("{}: not known long enough ({}): {used}", title(&rule.rule), times(rule.days, "day"));
    }
    for rule in &report.elsewhere {
        let used = if rule.used { "used" } else { "not used" };
        println!("{}: {used} as seen here; other hosts' history is not named", title(&rule.rule));
    }
    for staged in report.staged.iter().take(STAGED) {
        let port = staged.port.map(|port| format!("{port}/")).unwrap_or_default();
        let (from, to) = (plain(&staged.source), plain(&staged.destination));
        let (packets, last) = (times(staged.packets, "packet"), &staged.last);
        println!(
            "{from} → {to} {port}{}: {packets} passed that the staged policy would drop, last on {last}",
            staged.protocol
        );
    }
    if report.staged.len() > STAGED {
        println!(
            "and {} more that the staged policy would drop; --json lists all",
            report.staged.len() - STAGED
        );
    }
    println!(
        "{}: {} as used, {} never used, {} wider than their use, {} that stay, {} not known long enough, {} also used elsewhere",
        times(report.rules as u64, "rule"),
        report.as_used,
        report.unused.len(),
        report.wider.len(),
        report.kept.len(),
        report.not_known.len(),
        report.elsewhere.len(),
    );
}

fn title(rule: &Named) -> String {
    let name = rule.name.as_ref().map_or(format!("rule {}", rule.number), |name| plain(name).to_string());
    rule.position.as_ref().map_or(name.clone(), |position| format!("{name} at {}", plain(position)))
}

/// Whom to ask about it.
fn tell_record(rule: &Named) {
    let fields = rule.record.fields();
    let fields: Vec<String> =
        fields.iter().map(|(name, value)| format!("{name}: {}", plain(value))).collect();
    if !fields.is_empty() {
        println!("  {}", fields.join("; "));
    }
}

/// The first of a list.
fn some(words: &[String]) -> String {
    if words.is_empty() { "none".to_owned() } else { first_of(words) }
}
