//! What of an agent's configuration decides on what is enforced, besides the flows that it lets through.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::config::{Binding, Config, Control, Managed, Mode};

/// A setting that two configurations have differently.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Changed {
    /// Its name.
    pub setting: String,
    /// What it was; none: it was not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// What it is; none: it is not there any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Whether more may pass than before. What cannot be told from the files may.
    pub widened: bool,
}

/// Which other values of a setting let more pass.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Order {
    /// Smaller ones.
    Strictness(u64),
    /// Those with an item that is not among these.
    List(BTreeSet<String>),
    /// Any other, and its absence, but not its presence.
    Closed,
    /// Any other may, its presence and its absence, too.
    Unknown,
}

/// A setting in words, and what is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Setting {
    words: String,
    order: Order,
}

impl Setting {
    fn new(words: impl Into<String>, order: Order) -> Self {
        Self { words: words.into(), order }
    }

    fn list(items: BTreeSet<String>) -> Self {
        let words: Vec<&str> = items.iter().map(String::as_str).collect();
        let words = if words.is_empty() { "none".to_owned() } else { words.join(", ") };
        Self { words, order: Order::List(items) }
    }
}

/// What two configurations have differently, by name.
pub fn changed(old: &Config, new: &Config) -> Vec<Changed> {
    let (old, new) = (settings(old), settings(new));
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let sides = names.into_iter().map(|name| (name, old.get(name), new.get(name)));
    let changed = sides.filter(|(_, before, after)| before != after).filter(|(_, before, after)| {
        // An interface's list comes and goes with the interface, of which there is a line.
        !matches!((before, after), (Some(Setting { order: Order::List(items), .. }), None)
            | (None, Some(Setting { order: Order::List(items), .. })) if items.is_empty())
    });
    let words = |setting: Option<&Setting>| setting.map(|setting| setting.words.clone());
    changed
        .map(|(name, before, after)| Changed {
            setting: name.clone(),
            before: words(before),
            after: words(after),
            widened: widened(before.map(|setting| &setting.order), after.map(|setting| &setting.order)),
        })
        .collect()
}

fn widened(before: Option<&Order>, after: Option<&Order>) -> bool {
    match (before, after) {
        (Some(Order::Strictness(before)), Some(Order::Strictness(after))) => after < before,
        (Some(Order::List(before)), Some(Order::List(after))) => !after.is_subset(before),
        // The interface was not there: anything passed.
        (None, Some(Order::List(_) | Order::Closed)) | (Some(Order::List(_)), None) => false,
        _ => true,
    }
}

fn settings(config: &Config) -> BTreeMap<String, Setting> {
    let mut all = BTreeMap::new();
    let mut add = |name: String, setting| all.insert(name, setting);
    add("node".to_owned(), Setting::new(config.node.as_deref().unwrap_or("none"), Order::Unknown));
    let strictness = |strict: bool| Order::Strictness(u64::from(strict));
    add("mode".to_owned(), Setting::new(config.mode.name(), strictness(config.mode == Mode::Enforce)));
    let guard = if config.guard { "true" } else { "false" };
    add("guard".to_owned(), Setting::new(guard, strictness(config.guard)));
    let (binding, level) = match config.binding {
        Binding::Enforce => ("enforce", 2),
        Binding::Report => ("report", 1),
        Binding::Off => ("off", 0),
    };
    add("identity.binding".to_owned(), Setting::new(binding, Order::Strictness(level)));
    let refused = if config.refuse_bypass_to_all { "all" } else { "workloads" };
    let refuses = strictness(config.refuse_bypass_to_all);
    add("workloads.refuse_bypass".to_owned(), Setting::new(refused, refuses));
    add("watch".to_owned(), Setting::new(config.watch.to_string(), Order::Strictness(0)));
    let flows = match config.new_flows.interval {
        0 => "any number a second".to_owned(),
        interval => format!("{} a second", 1_000_000_000 / interval),
    };
    // The longer from one flow to the next, the stricter; 0 is no limit.
    add("limits.new_flows".to_owned(), Setting::new(flows, Order::Strictness(config.new_flows.interval)));
    let Control { read, change } = &config.control;
    let read = read.as_deref().unwrap_or("none");
    add("control.read".to_owned(), Setting::new(read, Order::Strictness(0)));
    // Whoever may change what is enforced may open it.
    add("control.change".to_owned(), Setting::list(change.iter().cloned().collect()));
    if let Some(response) = config.alarms.as_ref().and_then(|alarms| alarms.quarantine.as_ref()) {
        let words = format!(
            "after {} denials in {} s on {}, for {} s, {} nodes at once",
            response.denials,
            response.seconds,
            response.interfaces.join(", "),
            response.hold,
            response.at_once
        );
        add("alarms.quarantine".to_owned(), Setting::new(words, Order::Closed));
    }
    // Quarantine does not touch them, so that they are more than the flows that they admit.
    let management = config.management.iter().flat_map(|management| {
        let sources = management.sources.iter();
        sources.flat_map(|source| management.ports.iter().map(move |port| format!("{source} tcp:{port}")))
    });
    add("management".to_owned(), Setting::list(management.collect()));
    for Managed { name, role, zone, link, .. } in &config.interfaces {
        let zone = zone.map(|zone| format!(", zone {zone}")).unwrap_or_default();
        add(format!("interface {name}"), Setting::new(format!("{}{zone}", role.name()), Order::Closed));
        let link = link.iter().map(|link| link.name().to_owned()).collect();
        add(format!("interface {name} link"), Setting::list(link));
    }
    #[cfg(feature = "agent")]
    of_agents(config, &mut add);
    all
}

/// What the policy tools alone do not read.
#[cfg(feature = "agent")]
fn of_agents(config: &Config, add: &mut impl FnMut(String, Setting) -> Option<Setting>) {
    use bulkhead_grants::PublicKey;
    use bulkhead_sources::{Kind, Settings};

    for Settings { name, every, most_lost, kind } in &config.sources {
        let place = match kind {
            Kind::Tailscale(api) | Kind::Headscale(api) | Kind::NetBird(api) => {
                let path = |path: &std::path::Path| path.display().to_string();
                let ca = api.tls.ca.as_deref().map(|ca| format!(", ca {}", path(ca)));
                let identity = api.tls.identity.as_ref().map(|(certificate, key)| {
                    format!(", certificate {}, key {}", path(certificate), path(key))
                });
                let attributes = if api.attributes { ", attributes" } else { "" };
                format!(
                    "{}, tailnet {}, token {}{attributes}{}{}",
                    api.url,
                    api.tailnet,
                    path(&api.token),
                    ca.unwrap_or_default(),
                    identity.unwrap_or_default()
                )
            }
            Kind::LocalApi { socket } => socket.display().to_string(),
            Kind::WireGuard { interface, names } => format!("{interface}, names {}", names.display()),
            Kind::Directory { path } => path.display().to_string(),
            Kind::Command { command, patience } => {
                format!("{}, {} s at most", command.join(" "), patience.as_secs())
            }
        };
        let kind = kind.name();
        let words = format!("{kind} {place}, every {} s, at most {most_lost}% lost", every.as_secs());
        // Who exists is not in the files.
        add(format!("source {name}"), Setting::new(words, Order::Unknown));
    }
    if let Some(trust) = &config.trust {
        let people: Vec<String> = trust
            .people
            .all()
            .iter()
            .map(|person| {
                let keys: Vec<String> = person.keys.iter().map(PublicKey::fingerprint).collect();
                format!("{} ({})", person.name, keys.join(", "))
            })
            .collect();
        let words = format!("{} of {}", trust.threshold, people.join(", "));
        add("trust".to_owned(), Setting::new(words, Order::Closed));
    }
}

/// A change in words, as a line.
pub fn line(Changed { setting, before, after, widened }: &Changed) -> String {
    let wider = if *widened { "  (wider)" } else { "" };
    match (before, after) {
        (None, Some(after)) => format!("+ {setting}: {after}{wider}"),
        (Some(before), None) => format!("- {setting}: {before}{wider}"),
        (before, after) => {
            let words = |words: &Option<String>| words.clone().unwrap_or_default();
            format!("~ {setting}: {}, before {}{wider}", words(after), words(before))
        }
    }
}

#[cfg(all(test, feature = "agent"))]
mod tests {
    use std::path::Path;

    use super::*;

    fn config(text: &str) -> Config {
        Config::parse(Path::new("agent.toml"), text).unwrap_or_else(|error| panic!("{error}"))
    }

    fn lines(old: &str, new: &str) -> Vec<String> {
        changed(&config(old), &config(new)).iter().map(line).collect()
    }

    #[test]
    fn what_is_not_the_same_has_a_line_and_what_opens_says_so() {
        let old = "node = \"a\"\n[workloads]\nrefuse_bypass = \"all\"\n\
            [[management]]\nfrom = [\"192.0.2.9\"]\nports = [22]\n\
            [[interface]]\nname = \"eth0\"\nrole = \"underlay\"\nlink = [\"dhcp\"]\n\
            [[interface]]\nname = \"wg0\"\n";
        assert_eq!(lines(old, old), [""; 0]);
        let new = "node = \"a\"\nmode = \"audit\"\nguard = false\n[identity]\nbinding = \"report\"\n\
            [[management]]\nfrom = [\"192.0.2.9\"]\nports = [22, 443]\n\
            [[interface]]\nname = \"eth0\"\nrole = \"exchange\"\nlink = [\"dhcp\", \"ra\"]\n\
            [[interface]]\nname = \"eth1\"\nlink = [\"lldp\"]\n";
        assert_eq!(
            lines(old, new),
            [
                "~ guard: false, before true  (wider)",
                "~ identity.binding: report, before enforce  (wider)",
                "~ interface eth0: exchange, before underlay  (wider)",
                "~ interface eth0 link: dhcp, ra, before dhcp  (wider)",
                "+ interface eth1: overlay",
                "+ interface eth1 link: lldp",
                "- interface wg0: overlay  (wider)",
                "~ management: 192.0.2.9/32 tcp:22, 192.0.2.9/32 tcp:443, before 192.0.2.9/32 tcp:22  (wider)",
                "~ mode: audit, before enforce  (wider)",
                "~ workloads.refuse_bypass: workloads, before all  (wider)",
            ]
        );
        let back = changed(&config(new), &config(old));
        let wider: Vec<_> = back.iter().filter(|change| change.widened).map(|c| &*c.setting).collect();
        assert_eq!(wider, ["interface eth0", "interface eth1"], "what closes is no widening");
    }

    #[test]
    fn who_may_change_and_who_is_cut_off_is_compared_too() {
        let old = "[control]\nread = \"ops\"\n[limits]\nnew_flows_per_second = 100\n\
            [[interface]]\nname = \"wg0\"\n\
            [alarms.quarantine]\nenabled = true\ninterfaces = [\"wg0\"]\n";
        let new = "watch = true\n[control]\nread = \"sec\"\nchange = \"sec\"\n\
            [limits]\nnew_flows_per_second = 0\n[[interface]]\nname = \"wg0\"\n";
        let found = lines(old, new);
        assert!(
            found[0].starts_with("- alarms.quarantine: after ") && found[0].ends_with("  (wider)"),
            "{found:?}"
        );
        assert_eq!(
            found[1..],
            [
                "~ control.change: sec, before none  (wider)",
                "~ control.read: sec, before ops",
                "~ limits.new_flows: any number a second, before 100 a second  (wider)",
                "~ watch: true, before false",
            ]
        );
        assert!(changed(&config(new), &config(old)).iter().all(|change| !change.widened));
    }

    #[test]
    fn sources_and_who_signs_are_compared_too() {
        let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGPKSUxyA4Jxw2cnKbQ8y2TxXkEHkbYnoZ6LoKz1fG8Y";
        let source =
            |path: &str| format!("[[source]]\nname = \"d\"\nkind = \"directory\"\npath = \"{path}\"\n");
        let trust = format!("[trust]\nthreshold = 1\n[trust.keys]\nada = [\"{key}\"]\n");
        let changed = changed(&config(&(trust.clone() + &source("/a"))), &config(&source("/b")));
        assert!(changed.iter().all(|change| change.widened), "{changed:?}");
        let names: Vec<_> = changed.iter().map(|change| &*change.setting).collect();
        assert_eq!(names, ["source d", "trust"]);
        assert!(line(&changed[0]).contains("directory /b, every"), "{}", line(&changed[0]));
    }
}
