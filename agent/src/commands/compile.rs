//! `bulkhead compile`: the effective rules and table sizes of one node.

use bulkhead_policy::check::Scope;
use bulkhead_policy::compile::{self, Program, compile};
use bulkhead_policy::policy::Action;
use bulkhead_policy::resolve::{Rule, Ruleset};

use super::budget::Budget;
use super::network::On;
use crate::exit::{Answer, Usage};
use crate::global::Global;

/// Compile one node's tables: the rules that matter, and sizes.
#[derive(Debug, clap::Args)]
pub struct Compile {
    #[command(flatten)]
    on: On,
    /// The node.
    #[arg(long, value_name = "NAME")]
    node: String,
    #[command(flatten)]
    budget: Budget,
}

impl Compile {
    pub fn run(&self, global: &Global) -> anyhow::Result<Answer> {
        let scope = Scope { dialect: global.dialect, ..Scope::default() };
        let config = || self.budget.config(global);
        let Some((ruleset, inventory)) = self.on.load(&scope, (config, Some(&self.node)), global.json)?
        else {
            return Ok(Answer::No);
        };
        let program = compile(&ruleset, &inventory, &self.node, self.budget.limits(global)?)
            .map_err(|error| Usage(error.to_string()))?;
        let mut rules: Vec<&Rule> = program.rules.iter().map(|index| &ruleset.rules[*index]).collect();
        rules.sort_by_key(|rule| rule.number);
        if global.json {
            let rules: Vec<_> = rules.iter().map(|rule| rule_json(rule, &ruleset)).collect();
            println!(
                "{}",
                serde_json::json!({ "node": self.node, "rules": rules, "tables": sizes(&program) })
            );
            return Ok(Answer::Yes);
        }
        println!("{} of {} rules matter to {}:", rules.len(), ruleset.rules.len(), self.node);
        for rule in rules {
            println!("  {}", rule_text(rule, &ruleset));
        }
        println!("tables:");
        if let serde_json::Value::Object(sizes) = sizes(&program) {
            sizes.iter().for_each(|(name, size)| println!("  {name}: {size}"));
        }
        Ok(Answer::Yes)
    }
}

/// Numbers of entries, and the bytes of all of them.
fn sizes(program: &Program) -> serde_json::Value {
    let tables = &program.tables;
    let bytes: u64 = compile::sizes(tables).iter().map(|(_, bytes)| bytes).sum();
    serde_json::json!({
        "trie_blocks": tables.trie.len(), "host_table": tables.hosts.len(),
        "ipv6_prefixes": tables.prefixes6.len(), "local_classes": tables.locals,
        "remote_classes": tables.remotes, "port_classes": tables.port_classes, "rows": program.rows,
        "cells": tables.cells.len(), "deadlines": tables.deadlines.len() - 1,
        "rate_limits": tables.limits.len() - 1, "bytes": bytes,
    })
}

fn action(rule: &Rule) -> &'static str {
    match rule.action {
        Action::Accept => "accept",
        Action::Deny => "deny",
    }
}

fn sides(rule: &Rule, ruleset: &Ruleset) -> (Vec<String>, Vec<String>) {
    let mut sources: Vec<String> = Vec::new();
    let mut destinations: Vec<String> = Vec::new();
    for block in &rule.blocks {
        sources.extend(block.sources.iter().map(|id| ruleset.selector(*id).label.clone()));
        destinations.extend(
            block.destinations.iter().map(|(id, service)| {
                format!("{} {}", ruleset.selector(*id).label, ruleset.service(*service))
            }),
        );
    }
    (sources, destinations)
}

fn rule_text(rule: &Rule, ruleset: &Ruleset) -> String {
    let (sources, destinations) = sides(rule, ruleset);
    let place = rule.location.as_ref().map(|location| format!("  ({location})")).unwrap_or_default();
    let conditions = conditions(rule);
    let (sources, destinations) = (sources.join(", "), destinations.join(", "));
    format!("{} {}: {sources} -> {destinations}{conditions}{place}", rule.title(), action(rule))
}

/// What limits a rule besides whom it is about.
fn conditions(rule: &Rule) -> String {
    let packets = rule.rates.packets.map(|rate| format!(", {rate} packets a second"));
    let flows = rule.rates.new_flows.map(|rate| format!(", {rate} new flows a second"));
    let one_way = rule.one_way.then(|| ", one-way".to_string());
    let tls = rule.tls.map(|tls| format!(", {}", tls.words()));
    packets.into_iter().chain(flows).chain(one_way).chain(tls).collect()
}

fn rule_json(rule: &Rule, ruleset: &Ruleset) -> serde_json::Value {
    let (sources, destinations) = sides(rule, ruleset);
    serde_json::json!({
        "number": rule.number, "name": rule.name, "action": action(rule), "section": rule.section,
        "sources": sources, "destinations": destinations, "expires": rule.expires, "location": rule.location,
        "rates": rule.rates, "one_way": rule.one_way, "tls": rule.tls, "record": rule.record,
    })
}
