//! `bulkhead diff`: exactly which flows a change adds and removes.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use bulkhead_policy::diff::{Difference, Side, diff};
use bulkhead_policy::inventory::Inventory;
use bulkhead_policy::resolve::Ruleset;

use crate::difference::{conditions, ends, lines, parts, remarks};
use crate::exit::{Answer, Usage};
use crate::global::Global;
use crate::{diagnostics, input};

/// Show exactly which flows a change adds and removes.
///
/// A change of policy, of inventory, or of both; flows that are admitted on other terms (rates, replies) are
/// shown, too. All by identity and port.
///
/// A flow is there if every host that enforces lets it pass. A node does not talk to itself:
/// where a node is on both sides of a line, what is meant is the others.
#[derive(Debug, clap::Args)]
pub struct Diff {
    /// The policy as it is.
    #[arg(value_name = "OLD")]
    old: PathBuf,
    /// The policy as it would be.
    #[arg(value_name = "NEW")]
    new: PathBuf,
    /// The inventory.
    ///
    /// Without one, placeholders stand for tags and users of a policy, members, holders of roles and exits.
    #[arg(long, value_name = "FILE")]
    inventory: Option<PathBuf>,
    /// The inventory as it would be, if it changes too.
    #[arg(long, value_name = "FILE", requires = "inventory")]
    inventory_new: Option<PathBuf>,
    /// Print Markdown, for a pull request.
    #[arg(long, conflicts_with = "json")]
    markdown: bool,
    /// Exit with 1 if anything is admitted that was not before.
    ///
    /// By a higher rate, too. Anything at all, or between the named venue and anybody, or across the named
    /// boundary.
    #[arg(long, value_name = "VENUE|BOUNDARY", num_args = 0..=1, require_equals = true)]
    fail_on_widening: Option<Option<String>>,
}

impl Diff {
    pub fn run(&self, global: &Global) -> anyhow::Result<Answer> {
        let inventory = self.inventory.as_deref();
        let old = load(&self.old, inventory, global, false)?;
        let new = load(&self.new, self.inventory_new.as_deref().or(inventory), global, true)?;
        let (Some((old, old_inventory)), Some((new, new_inventory))) = (old, new) else {
            return Ok(Answer::No);
        };
        let difference = diff(
            Side { ruleset: &old, inventory: &old_inventory },
            Side { ruleset: &new, inventory: &new_inventory },
            input::now(),
        )
        .map_err(|error| Usage(error.to_string()))?;
        let widened = difference.widens();
        let fails = match &self.fail_on_widening {
            None => false,
            Some(None) => widened,
            Some(Some(name)) => {
                known(name, [&old, &new])?;
                difference.widened_venues.contains(name) || difference.widened_boundaries.contains(name)
            }
        };
        if global.json {
            println!(
                "{}",
                serde_json::json!({
                    "widened": widened, "added": difference.added, "removed": difference.removed,
                    "changed": difference.changed, "limits_apart": difference.apart,
                    "widened_venues": difference.widened_venues,
                    "widened_boundaries": difference.widened_boundaries,
                    "placeholder_inventory": inventory.is_none(),
                })
            );
        } else if self.markdown {
            print!("{}", markdown(&difference));
        } else {
            print!("{}", text(&difference));
        }
        Ok(if fails { Answer::No } else { Answer::Yes })
    }
}

/// A name that is neither side's venue nor boundary would never fail: a mistake.
fn known(name: &str, rulesets: [&Ruleset; 2]) -> Result<(), Usage> {
    let venues = rulesets.iter().flat_map(|ruleset| ruleset.venues.iter().map(|venue| &venue.name));
    let boundaries = rulesets.iter().flat_map(|ruleset| ruleset.boundaries.iter().map(|b| &b.name));
    let mut names: Vec<&str> = venues.chain(boundaries).map(String::as_str).collect();
    names.sort_unstable();
    names.dedup();
    if names.contains(&name) {
        return Ok(());
    }
    let list = if names.is_empty() { "none".into() } else { names.join(", ") };
    let message = format!(
        "--fail-on-widening={name}: neither policy has a venue or a boundary of that name; they have: {list}"
    );
    Err(Usage(message))
}

/// One side; `None` if there is an error in it, which has been printed then. What is to be enforced must
/// hold its tests and proofs; what is fixed by it need not.
fn load(
    policy: &Path,
    inventory: Option<&Path>,
    global: &Global,
    is_new: bool,
) -> Result<Option<(Ruleset, Inventory)>, Usage> {
    let mut loaded = input::load(policy, inventory, global.dialect)?;
    if is_new {
        loaded.check(input::now());
    }
    match (loaded.ruleset, loaded.inventory) {
        (Some(ruleset), Some(inventory)) if !loaded.findings.has_errors() => Ok(Some((ruleset, inventory))),
        _ => {
            diagnostics::print(&loaded.findings, &loaded.sources, global.json);
            Ok(None)
        }
    }
}

fn text(difference: &Difference) -> String {
    let mut text: String = lines(difference).into_iter().map(|line| line + "\n").collect();
    text.push_str(match (difference.added.is_empty(), difference.removed.is_empty()) {
        (true, true) => "nothing is added, nothing is removed\n",
        (true, false) => "nothing is added\n",
        (false, true) => "nothing is removed\n",
        (false, false) => "",
    });
    text
}

fn markdown(difference: &Difference) -> String {
    let mut text = String::new();
    for (title, sign) in [("Added", '+'), ("Removed", '-'), ("Changed", '~')] {
        let list: Vec<_> = parts(difference).filter(|(of, ..)| *of == sign).collect();
        if list.is_empty() {
            let _ = writeln!(text, "**{title}:** nothing\n");
            continue;
        }
        let _ =
            writeln!(text, "**{title}**\n\n| from | to | services | when and how much |\n|---|---|---|---|");
        for (_, flows, before) in list {
            let cell = |text: String| text.replace('|', "\\|");
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} |",
                cell(ends(&flows.from_selectors, &flows.sources)),
                cell(ends(&flows.to_selectors, &flows.destinations)),
                flows.services.join(" "),
                conditions(flows, before).join(", ")
            );
        }
        text.push('\n');
    }
    for line in remarks(difference) {
        let _ = writeln!(text, "**{line}**\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use bulkhead_policy::diff::{Apart, Changed, Flows, Terms};

    use super::*;

    fn flows(sources: usize, from: Option<u64>) -> Flows {
        Flows {
            sources: (0..sources).map(|number| format!("n{number}")).collect(),
            destinations: vec!["web|1".into()],
            from_selectors: Vec::new(),
            to_selectors: Vec::new(),
            services: vec!["tcp:80".into(), "icmp".into()],
            family: Some("ipv4"),
            from,
            until: None,
            terms: Terms::default(),
        }
    }

    #[test]
    fn a_difference_in_words() {
        let difference = Difference { added: vec![flows(10, Some(0))], ..Difference::default() };
        assert_eq!(
            text(&difference),
            "+ n0, n1, n2, n3, n4, n5, n6, n7 and 2 more -> web|1  tcp:80 icmp  (IPv4 only, from 1970-01-01T00:00:00Z)\nnothing is removed\n"
        );
        assert_eq!(text(&Difference::default()), "nothing is added, nothing is removed\n");
        assert!(
            markdown(&difference)
                .contains("| web\\|1 | tcp:80 icmp | IPv4 only, from 1970-01-01T00:00:00Z |")
        );
        assert!(markdown(&difference).ends_with("**Removed:** nothing\n\n**Changed:** nothing\n\n"));
    }

    #[test]
    fn selectors_are_named_before_whom_they_mean() {
        let flows = Flows { from_selectors: vec!["*".into()], ..flows(2, None) };
        let difference = Difference { added: vec![flows], ..Difference::default() };
        assert!(text(&difference).starts_with("+ * (n0, n1) -> web|1  tcp:80 icmp"));
        assert!(markdown(&difference).contains("| * (n0, n1) | web\\|1 |"));
    }

    #[test]
    fn changed_terms_in_words() {
        let limited = Terms { packets: Some(1000), new_flows: Some(10), one_way: false, tls: None };
        let raised =
            Flows { family: None, terms: Terms { packets: Some(2000), ..limited }, ..flows(1, None) };
        let ended = Flows { family: None, ..flows(1, None) };
        let changed = |flows: &Flows| Changed { flows: flows.clone(), before: limited, widened: true };
        let apart = vec![Apart { rule: "feed".into(), terms: limited, now: vec!["a".into(), "b".into()] }];
        let difference =
            Difference { changed: vec![changed(&raised), changed(&ended)], apart, ..Difference::default() };
        let before = "before at most 1000 packets a second and at most 10 new flows a second";
        assert_eq!(
            text(&difference),
            format!(
                "~ n0 -> web|1  tcp:80 icmp  (wider: at most 2000 packets a second and at most 10 new flows a second, {before})\n\
                 ~ n0 -> web|1  tcp:80 icmp  (wider: no limit, {before})\n\
                 wider: at most 1000 packets a second and at most 10 new flows a second of feed is counted by each of a, b now\n\
                 nothing is added, nothing is removed\n"
            )
        );
        assert!(markdown(&difference).contains("**Changed**"));
    }
}
