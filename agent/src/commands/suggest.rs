//! `bulkhead suggest`: a policy that admits what was observed, and nothing else.

use anyhow::Context as _;
use bulkhead_history::answer::observed::wanted;
use bulkhead_history::answer::{date, times};
use bulkhead_policy::check::{Loaded, Scope};
use bulkhead_policy::least::draft;
use bulkhead_policy::source::Source;

use crate::exit::Answer;
use crate::global::Global;
use crate::usage::Asked;
use crate::{diagnostics, input};

/// Answers without a beginning that are told of.
const LEFT_OUT: usize = 20;

/// Write a policy that admits what was observed, and nothing else.
///
/// From the history that the agent keeps: what rules admitted, and what audit mode let pass though none did.
#[derive(Debug, clap::Args)]
pub struct Suggest {
    #[command(flatten)]
    asked: Asked,
}

impl Suggest {
    pub fn run(self, global: &Global) -> anyhow::Result<Answer> {
        let Some(question) = self.asked.read(global, input::now() / 1_000_000_000)? else {
            return Ok(Answer::No);
        };
        let inventory = question.loaded.inventory.as_ref().context("an inventory")?;
        let wanted = wanted(&question);
        let hosts: Vec<&str> = question.hosts.iter().map(|host| host.node.as_str()).collect();
        let mut head = vec![format!(
            "What was observed on {} from {} to {}: {}, and nothing else.",
            hosts.join(", "),
            date(question.since),
            date(question.now),
            times(wanted.observed.len() as u64, "conversation"),
        )];
        if wanted.unknown > 0 {
            head.push(format!("Not in here: {} whose ends are not known.", times(wanted.unknown, "row")));
        }
        if wanted.beneath > 0 {
            let rows = times(wanted.beneath, "row");
            head.push(format!(
                "Not in here: {rows} of addresses beneath the overlay; lanes of venues admit those."
            ));
        }
        if wanted.granted > 0 {
            let rows = times(wanted.granted, "row");
            head.push(format!("Not in here: {rows} that a grant admitted, which is for a time."));
        }
        if wanted.ending > 0 {
            let what = times(wanted.ending, "conversation");
            head.push(format!("{what} in here only a rule admitted that ends by itself; here nothing ends."));
        }
        for left in wanted.left_out.iter().take(LEFT_OUT) {
            head.push(format!("Not in here, as it looks like an answer: {left}"));
        }
        if wanted.left_out.len() > LEFT_OUT {
            head.push(format!("and {} more of these", wanted.left_out.len() - LEFT_OUT));
        }
        let draft = draft(&wanted.observed, inventory, &head);
        let scope = Scope { dialect: global.dialect, ..Scope::default() };
        let source = Source::new("the suggested policy", &draft.text);
        let mut loaded = Loaded::new(source, Some(inventory.source.clone()), &scope);
        loaded.check(input::now());
        if global.json {
            println!(
                "{}",
                serde_json::json!({
                    "policy": draft.text, "rules": draft.rules, "observed": draft.observed,
                    "left_out": wanted.left_out, "unknown": wanted.unknown, "beneath": wanted.beneath, "ending": wanted.ending, "granted": wanted.granted,
                    "valid": !loaded.findings.has_errors(),
                })
            );
        } else {
            print!("{}", draft.text);
        }
        if loaded.findings.has_errors() {
            diagnostics::print(&loaded.findings, &loaded.sources, false);
            return Ok(Answer::No);
        }
        Ok(Answer::Yes)
    }
}
