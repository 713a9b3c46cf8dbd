//! `bulkhead diff`: exactly which flows a change adds and removes.

mod settings;
mod side;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use bulkhead_policy::diff::Difference;
use bulkhead_policy::resolve::Ruleset;

use self::settings::Changed;
use self::side::{Node, differences};
use crate::config::{Config, Role};
use crate::difference::{conditions, ends, lines, parts, remarks};
use crate::exit::{Answer, Usage};
use crate::global::Global;

/// Show exactly which flows a change adds and removes.
///
/// A change of policy, of inventory, of an agent's configuration, or of all; flows that are admitted on other terms
/// (rates, replies) are shown, too. All by identity and port.
///
/// A flow is there if every host that enforces lets it pass. A node does not talk to itself:
/// where a node is on both sides of a line, what is meant is the others. With configurations, the flows
/// are those that their node lets pass.
#[derive(Debug, clap::Args)]
pub struct Diff {
    /// The policy as it is.
    ///
    /// With --old-config, by default the one that it names.
    #[arg(value_name = "OLD", required_unless_present = "old_config", requires = "new")]
    old: Option<PathBuf>,
    /// The policy as it would be.
    ///
    /// With --config, by default the one that it names.
    #[arg(value_name = "NEW", required_unless_present = "config")]
    new: Option<PathBuf>,
    /// The inventory.
    ///
    /// With configurations, by default those that they name. Without one, placeholders stand for tags and users of a
    /// policy, members, holders of roles and exits.
    #[arg(long, value_name = "FILE")]
    inventory: Option<PathBuf>,
    /// The inventory as it would be, if it changes too.
    #[arg(long, value_name = "FILE", requires = "inventory")]
    inventory_new: Option<PathBuf>,
    /// An agent's configuration as it would be (agent.toml).
    #[arg(long, value_name = "FILE", requires = "old_config")]
    config: Option<PathBuf>,
    /// The agent's configuration as it is.
    #[arg(long, value_name = "FILE", requires = "config")]
    old_config: Option<PathBuf>,
    /// Print Markdown, for a pull request.
    #[arg(long, conflicts_with = "json")]
    markdown: bool,
    /// Exit with 1 if anything is admitted that was not before.
    ///
    /// By a higher rate, too, or by a setting. Anything at all, or between the named venue and anybody, or across the
    /// named boundary.
    #[arg(long, value_name = "VENUE|BOUNDARY", num_args = 0..=1, require_equals = true)]
    fail_on_widening: Option<Option<String>>,
}

/// All that two sides have differently.
struct Found {
    /// By the role of the interfaces that it is on: overlay always and first.
    flows: Vec<(Role, Difference)>,
    settings: Vec<Changed>,
}

impl Found {
    fn widens(&self) -> bool {
        self.flows.iter().any(|(_, difference)| difference.widens())
            || self.settings.iter().any(|setting| setting.widened)
    }
}

impl Diff {
    pub fn run(&self, global: &Global) -> anyhow::Result<Answer> {
        let read = |path: &Option<PathBuf>| match path {
            Some(path) => Config::find(Some(path), false),
            None => Ok(None),
        };
        let (old_config, new_config) = (read(&self.old_config)?, read(&self.config)?);
        #[cfg(not(feature = "agent"))]
        if new_config.is_some() {
            eprintln!("note: this build does not compare [[source]] and [trust]");
        }
        let given = self.inventory.as_deref();
        let old_policy = self.old.as_deref().or(old_config.as_ref().map(|config| &*config.policy));
        let new_policy = self.new.as_deref().or(new_config.as_ref().map(|config| &*config.policy));
        let (Some(old_policy), Some(new_policy)) = (old_policy, new_policy) else {
            return Err(
                Usage("two policies are compared: name both, or --old-config and --config".into()).into()
            );
        };
        let named = |config: &Option<Config>| config.as_ref().map(|config| config.inventory.clone());
        let (old_named, new_named) = (named(&old_config), named(&new_config));
        let old_inventory = given.or(old_named.as_deref());
        let new_inventory = self.inventory_new.as_deref().or(given).or(new_named.as_deref());
        let old = Node::load((old_policy, old_inventory), old_config.as_ref(), global, false)?;
        let new = Node::load((new_policy, new_inventory), new_config.as_ref(), global, true)?;
        let (Some(old), Some(new)) = (old, new) else {
            return Ok(Answer::No);
        };
        let flows = differences(&old, &new).map_err(|error| Usage(error.to_string()))?;
        let configs = old_config.as_ref().zip(new_config.as_ref());
        let settings = configs.map_or(Vec::new(), |(old, new)| settings::changed(old, new));
        let found = Found { flows, settings };
        let fails = match &self.fail_on_widening {
            None => false,
            Some(None) => found.widens(),
            Some(Some(name)) => {
                known(name, [old.ruleset(), new.ruleset()])?;
                let about = |(_, difference): &(Role, Difference)| {
                    difference.widened_venues.contains(name) || difference.widened_boundaries.contains(name)
                };
                found.flows.iter().any(about)
            }
        };
        if global.json {
            println!("{}", json(&found, old_inventory));
        } else if self.markdown {
            print!("{}", markdown(&found));
        } else {
            print!("{}", text(&found));
        }
        Ok(if fails { Answer::No } else { Answer::Yes })
    }
}

fn json(found: &Found, inventory: Option<&Path>) -> serde_json::Value {
    let flows = |difference: &Difference| {
        serde_json::json!({
            "added": difference.added, "removed": difference.removed,
            "changed": difference.changed, "limits_apart": difference.apart,
            "widened_venues": difference.widened_venues,
            "widened_boundaries": difference.widened_boundaries,
        })
    };
    let mut all = serde_json::json!({});
    for (role, difference) in &found.flows {
        match role {
            Role::Overlay => all = flows(difference),
            _ => all[role.name()] = flows(difference),
        }
    }
    all["widened"] = found.widens().into();
    all["placeholder_inventory"] = inventory.is_none().into();
    all["settings"] = serde_json::json!(found.settings);
    all
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

/// What stands before the flows of interfaces of a role; none for an overlay's, which come first.
fn title(role: Role) -> Option<String> {
    (role != Role::Overlay).then(|| format!("on {} interfaces", role.name()))
}

fn text(found: &Found) -> String {
    let mut text = String::new();
    for (role, difference) in &found.flows {
        let lines = lines(difference);
        if let Some(title) = title(*role).filter(|_| !lines.is_empty()) {
            let _ = writeln!(text, "{title}:");
        }
        lines.into_iter().for_each(|line| text.push_str(&(line + "\n")));
    }
    if !found.settings.is_empty() {
        text.push_str("settings:\n");
        found.settings.iter().for_each(|setting| text.push_str(&(settings::line(setting) + "\n")));
    }
    let none = |list: fn(&Difference) -> bool| found.flows.iter().all(|(_, difference)| list(difference));
    let nothing = (none(|flows| flows.added.is_empty()), none(|flows| flows.removed.is_empty()));
    text.push_str(match nothing {
        (true, true) => "nothing is added, nothing is removed\n",
        (true, false) => "nothing is added\n",
        (false, true) => "nothing is removed\n",
        (false, false) => "",
    });
    text
}

fn markdown(found: &Found) -> String {
    let mut text = String::new();
    for (role, difference) in &found.flows {
        if let Some(title) = title(*role) {
            let _ = writeln!(text, "### {}{}\n", title[..1].to_uppercase(), &title[1..]);
        }
        markdown_of(difference, &mut text);
    }
    if !found.settings.is_empty() {
        text.push_str("**Settings**\n\n");
        found.settings.iter().for_each(|setting| {
            let _ = writeln!(text, "- `{}`", settings::line(setting).replace('`', "'"));
        });
        text.push('\n');
    }
    text
}

fn markdown_of(difference: &Difference, text: &mut String) {
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
}

#[cfg(test)]
mod tests {
    use bulkhead_policy::diff::{Apart, Changed, Flows, Terms};

    use super::*;

    fn only(difference: Difference) -> Found {
        Found { flows: vec![(Role::Overlay, difference)], settings: Vec::new() }
    }

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
            text(&only(difference.clone())),
            "+ n0, n1, n2, n3, n4, n5, n6, n7 and 2 more -> web|1  tcp:80 icmp  (IPv4 only, from 1970-01-01T00:00:00Z)\nnothing is removed\n"
        );
        assert_eq!(text(&only(Difference::default())), "nothing is added, nothing is removed\n");
        assert!(
            markdown(&only(difference.clone()))
                .contains("| web\\|1 | tcp:80 icmp | IPv4 only, from 1970-01-01T00:00:00Z |")
        );
        assert!(
            markdown(&only(difference.clone())).ends_with("**Removed:** nothing\n\n**Changed:** nothing\n\n")
        );
    }

    #[test]
    fn selectors_are_named_before_whom_they_mean() {
        let flows = Flows { from_selectors: vec!["*".into()], ..flows(2, None) };
        let difference = Difference { added: vec![flows], ..Difference::default() };
        assert!(text(&only(difference.clone())).starts_with("+ * (n0, n1) -> web|1  tcp:80 icmp"));
        assert!(markdown(&only(difference.clone())).contains("| * (n0, n1) | web\\|1 |"));
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
            text(&only(difference.clone())),
            format!(
                "~ n0 -> web|1  tcp:80 icmp  (wider: at most 2000 packets a second and at most 10 new flows a second, {before})\n\
                 ~ n0 -> web|1  tcp:80 icmp  (wider: no limit, {before})\n\
                 wider: at most 1000 packets a second and at most 10 new flows a second of feed is counted by each of a, b now\n\
                 nothing is added, nothing is removed\n"
            )
        );
        assert!(markdown(&only(difference.clone())).contains("**Changed**"));
    }
}
