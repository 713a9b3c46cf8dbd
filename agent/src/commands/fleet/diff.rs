//! `bulkhead fleet diff`: what a policy or an inventory would change, before anybody signs it.

use std::collections::BTreeSet;
use std::path::PathBuf;

use bulkhead_fleet::{Repository, Tree};
use bulkhead_policy::check::{Loaded, Scope};
use bulkhead_policy::diff::{Side, diff};
use bulkhead_policy::inventory::Inventory;
use bulkhead_policy::source::Source;

use super::memory::Remembered;
use super::wrong;
use crate::exit::{Answer, Usage};
use crate::global::Global;
use crate::{diagnostics, difference, input};

/// Show what files would change, before they are signed.
///
/// Without files: what is drafted and waits for signatures is not looked at; name the files themselves. Which flows come
/// and go, by identity and port, and which nodes are new, gone, or known otherwise.
#[derive(Debug, clap::Args)]
pub struct Diff {
    /// The fleet directory.
    #[arg(value_name = "DIRECTORY")]
    directory: PathBuf,
    /// The policy as it would be.
    #[arg(long, value_name = "FILE", required_unless_present = "inventory")]
    policy: Option<PathBuf>,
    /// The inventory as it would be.
    #[arg(long, value_name = "FILE")]
    inventory: Option<PathBuf>,
    #[command(flatten)]
    remembered: Remembered,
}

impl Diff {
    pub fn run(&self, global: &Global) -> anyhow::Result<Answer> {
        let tree = Tree::new(&self.directory);
        self.remembered.warns(&tree);
        let published = |repository: Repository| -> Result<Source, Usage> {
            let bundle = tree.bundle(repository).map_err(wrong)?;
            let (version, text) = bundle.ok_or_else(|| {
                Usage(format!("no {repository} is published yet: there is nothing to compare with"))
            })?;
            Ok(Source::new(&format!("{repository} version {version}"), &text))
        };
        let before = [published(Repository::Policy)?, published(Repository::Inventory)?];
        let read = |path: &Option<PathBuf>, old: &Source| {
            path.as_deref().map_or_else(|| Ok(old.clone()), input::read)
        };
        let after = [read(&self.policy, &before[0])?, read(&self.inventory, &before[1])?];
        let scope = Scope { dialect: global.dialect, ..Scope::default() };
        let mut sides = Vec::new();
        for [policy, inventory] in [before, after] {
            let loaded = Loaded::new(policy, Some(inventory), &scope);
            let (Some(ruleset), Some(inventory), false) =
                (loaded.ruleset, loaded.inventory, loaded.findings.has_errors())
            else {
                diagnostics::print(&loaded.findings, &loaded.sources, global.json);
                return Ok(Answer::No);
            };
            sides.push((ruleset, inventory));
        }
        let [old, new] = &sides[..] else { return Ok(Answer::No) };
        let found = diff(
            Side { ruleset: &old.0, inventory: &old.1 },
            Side { ruleset: &new.0, inventory: &new.1 },
            input::now(),
        );
        let found = found.map_err(|error| Usage(error.to_string()))?;
        let (lines, nodes) = (difference::lines(&found), nodes(&old.1, &new.1));
        if global.json {
            println!("{}", serde_json::json!({"flows": lines, "nodes": nodes}));
        } else if lines.is_empty() && nodes.is_empty() {
            println!("nothing changes on any host");
        } else {
            lines.iter().chain(&nodes).for_each(|line| println!("{line}"));
        }
        Ok(Answer::Yes)
    }
}

/// Nodes that are new, gone, or known otherwise.
fn nodes(old: &Inventory, new: &Inventory) -> Vec<String> {
    let names: BTreeSet<&str> = old.nodes.iter().chain(&new.nodes).map(|node| &*node.name).collect();
    let line = |name: &str| match (old.node(name), new.node(name)) {
        (None, Some(node)) => Some(format!("+ node {name} ({})", node.tags().join(", "))),
        (Some(_), None) => Some(format!("- node {name}")),
        (Some(old), Some(new)) => {
            let mut what = Vec::new();
            if old.tags() != new.tags() {
                what.push(format!("tags {} -> {}", old.tags().join(", "), new.tags().join(", ")));
            }
            if old.addresses != new.addresses {
                what.push("addresses".to_owned());
            }
            (!what.is_empty()).then(|| format!("~ node {name}: {}", what.join("; ")))
        }
        (None, None) => None,
    };
    names.into_iter().filter_map(line).collect()
}
