//! `bulkhead explain`: the verdict on a conversation, the rule and its place, on both hosts.

use std::net::IpAddr;
use std::path::PathBuf;

use bulkhead_api::text::plain;
use bulkhead_policy::check::Scope;
use bulkhead_policy::explain::{Deciding, Earlier, End, Explanation, Why, explain};
use bulkhead_policy::policy::Action;
use bulkhead_policy::reference::Probe;
use bulkhead_policy::resolve::Exemptions;
use bulkhead_policy::service;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::network::On;
use super::who::addresses;
use crate::config::Config;
use crate::exit::{Answer, Usage};
use crate::global::{Global, is_default};
use crate::input;

/// Explain what happens to a conversation, and which rule decides.
///
/// On both hosts, with the rule's line in the policy and the rules before it that did not match. Exits with
/// 1 if the conversation is denied.
#[derive(Debug, clap::Args)]
pub struct Explain {
    #[command(flatten)]
    on: On,
    /// Who starts.
    ///
    /// A node, a user's login, a name from hosts, a selector of a rule, or an address.
    #[arg(long, value_name = "WHO")]
    from: String,
    /// To whom, at which port.
    ///
    /// WHO:PORT, where an IPv6 address is `[IPv6]`, with /PROTOCOL if it is not TCP. For protocols without
    /// ports, WHO/PROTOCOL.
    #[arg(long, value_name = "WHO:PORT[/PROTO]")]
    to: String,
    /// The agent's configuration, for `overlay` and underlay interfaces.
    ///
    /// What those overlays serve on its node passes, and with --network underlay what such interfaces let through. By
    /// default /etc/bulkhead/agent.toml if it is there.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Splits `NODE:PORT/PROTO`.
fn target(text: &str) -> Result<(&str, u16, u8), Usage> {
    let wrong = |why: &str| Usage(format!("--to {text}: {why}; write NODE:PORT or NODE:PORT/PROTOCOL"));
    // A workload's name has a slash before its port, and so has a SPIFFE ID.
    let named = text.rsplit_once('/').filter(|(_, name)| !name.contains(':'));
    let (place, protocol) = match named {
        Some((place, name)) => {
            let number = service::by_name(name, true).or_else(|| name.parse().ok());
            (place, number.ok_or_else(|| wrong(&format!("unknown protocol \"{name}\"")))?)
        }
        None => (text, service::TCP),
    };
    if !service::has_ports(protocol) {
        // As tests write it, with port 0; an address may end so by itself.
        let is_address = place.parse::<IpAddr>().is_ok();
        let bare = place.strip_suffix(":*").or_else(|| place.strip_suffix(":0").filter(|_| !is_address));
        return Ok((bare.unwrap_or(place), 0, protocol));
    }
    let (who, port) = place.rsplit_once(':').ok_or_else(|| wrong("it has no port"))?;
    let port = port.parse().map_err(|_| wrong(&format!("\"{port}\" is no port")))?;
    Ok((who, port, protocol))
}

impl Explain {
    fn config(&self, global: &Global) -> Result<Option<Config>, Usage> {
        Config::find(self.config.as_deref(), is_default(&global.instance)?)
    }

    /// Of what an agent exempts that which is between its node and itself: the rest is about other hosts, too,
    /// on which it does not hold.
    fn scope(&self, global: &Global) -> Result<Scope, Usage> {
        let config = self.config(global)?.unwrap_or_default();
        let Exemptions { node, overlays, .. } = config.exemptions(config.node.as_deref().unwrap_or_default());
        let exemptions = Exemptions { node, overlays, ..Exemptions::default() };
        Ok(Scope { dialect: global.dialect, exemptions, ..Scope::default() })
    }

    pub fn run(&self, global: &Global) -> anyhow::Result<Answer> {
        let (to, port, protocol) = target(&self.to)?;
        let Some((ruleset, inventory)) =
            self.on.load(&self.scope(global)?, (|| self.config(global), None), global.json)?
        else {
            return Ok(Answer::No);
        };
        let (from, to) = (addresses(&ruleset, &inventory, &self.from)?, addresses(&ruleset, &inventory, to)?);
        let config = self.config(global)?;
        let is_underlay = self.on.is_underlay(config.as_ref());
        let node = config.and_then(|config| config.node);
        let now = input::now();
        let pairs = from.iter().flat_map(|source| to.iter().map(move |destination| (*source, *destination)));
        let holder = |address: &IpAddr| inventory.holder(*address).map(|node| &node.name);
        let is_itself = |source: &IpAddr, destination: &IpAddr| {
            source == destination || holder(source).is_some_and(|name| holder(destination) == Some(name))
        };
        let explanations: Vec<Explanation> = pairs
            .filter(|(source, destination)| {
                source.is_ipv4() == destination.is_ipv4() && !is_itself(source, destination)
            })
            .take(MOST + 1)
            .map(|(source, destination)| {
                let probe = Probe { source, destination, protocol, port };
                let mut explained = explain(&ruleset, &inventory, &probe, now);
                if is_underlay {
                    // What passes at the other end is that node's own list.
                    explained.hosts.retain(|host| node.as_ref() == Some(&host.node));
                }
                explained
            })
            .collect();
        if from.iter().all(|source| to.iter().all(|destination| is_itself(source, destination))) {
            let message =
                format!("{} and {} are one node, which does not talk to itself over", self.from, self.to);
            return Err(Usage(message + " the overlay; name another one").into());
        }
        if explanations.is_empty() {
            return Err(Usage(format!("{} and {} share no address family", self.from, self.to)).into());
        }
        if explanations.len() > MOST {
            let message = format!("{} and {} are more than {MOST} pairs of addresses", self.from, self.to);
            return Err(Usage(message + "; name a node or a user of them").into());
        }
        let allowed = explanations.iter().all(|explanation| explanation.allowed);
        if global.json {
            println!("{}", serde_json::json!({ "allowed": allowed, "pairs": explanations }));
        } else {
            explanations.iter().for_each(show);
        }
        Ok(if allowed { Answer::Yes } else { Answer::No })
    }
}

/// Pairs of addresses that are explained at most.
const MOST: usize = 64;

/// How many rules before the deciding one are shown: those that came nearest.
const NEAREST: usize = 8;

fn show(explanation: &Explanation) {
    println!("{} -> {}: {}", explanation.source, explanation.destination, verdict(explanation));
    println!("  from {}", who(&explanation.from));
    println!("  to {}", who(&explanation.to));
    match &explanation.rule {
        Some(rule) => show_rule(rule),
        None => println!("  no rule is about it: the default is deny"),
    }
    show_earlier(explanation);
    for host in &explanation.hosts {
        let verdict = if host.allowed { "allow" } else { "deny" };
        let told = if host.rejects { "; who asks is told (onDeny)" } else { "" };
        println!("  on {} ({}): {verdict}, {}{told}", host.node, host.direction, host.reason);
    }
    if explanation.hosts.is_empty() {
        println!("  neither end is a node of the inventory: nobody enforces here");
    }
}

fn show_rule(rule: &Deciding) {
    let action = if rule.action == Action::Accept { "accept" } else { "deny" };
    let name = rule.name.as_ref().map(|name| format!(" \"{name}\"")).unwrap_or_default();
    println!(
        "  rule {}{name}: {action} {} -> {} {}",
        rule.number, rule.source, rule.destination, rule.service
    );
    for (name, value) in rule.record.fields() {
        println!("    {name}: {}", plain(&value));
    }
    if let Some(grant) = &rule.grant {
        let glass = if grant.break_glass { ", break-glass" } else { "" };
        println!("    requested by {}, approved by {}{glass}", grant.requester, grant.approvers.join(", "));
    }
    if let Some(location) = &rule.location {
        println!("    at {location}");
    }
    if let Some(rate) = rule.rates.packets {
        println!("    at most {rate} packets a second");
    }
    if let Some(rate) = rule.rates.new_flows {
        println!("    at most {rate} new flows a second");
    }
    if rule.one_way {
        println!("    one-way: no reply passes");
    }
    if let Some(tls) = rule.tls {
        println!("    {}", tls.words());
    }
    if let Some((end, next)) = rule.until {
        let next = next.map_or("no rule is about it".into(), |number| format!("rule {number} decides"));
        println!("    until {}; then {next}", time(end));
    }
}

/// The answer; where only some of several routers let it pass, which.
fn verdict(explanation: &Explanation) -> String {
    if !explanation.allowed {
        return "deny".into();
    }
    let open: Vec<&str> =
        explanation.hosts.iter().filter(|host| host.allowed).map(|host| &*host.node).collect();
    match open.len() == explanation.hosts.len() {
        true => "allow".into(),
        false => format!("allow, by {} only", open.join(" and ")),
    }
}

fn show_earlier(explanation: &Explanation) {
    let (earlier, decided) = (&explanation.earlier, explanation.rule.is_some());
    let reports_nothing = explanation.from.held && explanation.from.posture.is_empty();
    let mut nearest: Vec<&Earlier> = earlier.iter().collect();
    if nearest.len() > NEAREST {
        nearest.sort_by_key(|rule| distance(&rule.why));
        nearest.truncate(NEAREST);
        nearest.sort_by_key(|rule| earlier.iter().position(|other| other.number == rule.number));
    }
    if !nearest.is_empty() {
        println!("  {}", if decided { "tried before it:" } else { "tried:" });
    }
    for rule in &nearest {
        let place = rule.location.as_ref().map(|location| format!(" at {location}")).unwrap_or_default();
        println!("    {}{place}: {}", rule.title, because(&rule.why, reports_nothing));
    }
    if earlier.len() > nearest.len() {
        println!("    and {} more, which are about other ends", earlier.len() - nearest.len());
    }
}

/// How far a rule is from matching, for which ones to show.
fn distance(why: &Why) -> u8 {
    match why {
        Why::Expired(_) => 0,
        Why::Posture(_) => 1,
        Why::Service(_) => 2,
        Why::Destination => 3,
        Why::Source => 4,
        Why::Ends => 5,
    }
}

fn because(why: &Why, reports_nothing: bool) -> String {
    match why {
        Why::Expired(end) => format!("ended at {}", time(*end)),
        Why::Service(services) => format!("is about {services} there"),
        Why::Posture(postures) if reports_nothing => {
            format!("the source does not meet {postures}: it reports no attribute")
        }
        Why::Posture(postures) => format!("the source does not meet {postures}"),
        Why::Destination => "no match: dst".into(),
        Why::Source => "no match: src".into(),
        Why::Ends => "no match: src, dst".into(),
    }
}

/// Who an end is, as rules see it.
fn who(end: &End) -> String {
    let name = match (end.held, &end.nodes[..]) {
        (true, [name, ..]) => name.clone(),
        (_, []) => match &end.venue {
            Some(venue) => return format!("an address of {venue}"),
            None => "no node of the inventory".into(),
        },
        (false, nodes) => format!("behind {}", nodes.join(", ")),
    };
    let mut parts = vec![name];
    parts.extend(end.venue.iter().map(|venue| format!("an address of {venue}")));
    parts.extend(end.host.iter().map(|host| format!("a workload that {host} vouches for")));
    parts.extend(end.spiffe.clone());
    parts.extend(end.user.clone());
    parts.extend(end.tags.iter().cloned());
    parts.extend(end.jailed.then(|| "jailed: it answers and starts nothing".to_owned()));
    parts.extend(end.posture.iter().map(|(name, value)| format!("{name} {value}")));
    if let Some(at) = end.expires {
        parts.push(format!("{} {}", if end.expired { "expired at" } else { "until" }, time(at)));
    }
    parts.join(", ")
}

fn time(nanoseconds: u64) -> String {
    let at = OffsetDateTime::from_unix_timestamp_nanos(nanoseconds.into()).ok();
    at.and_then(|at| at.format(&Rfc3339).ok()).unwrap_or_else(|| nanoseconds.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_split_into_node_port_and_protocol() {
        assert_eq!(target("oms-1:8080").unwrap(), ("oms-1", 8080, 6));
        assert_eq!(target("oms-1:53/udp").unwrap(), ("oms-1", 53, 17));
        assert_eq!(target("h/engine:8080").unwrap(), ("h/engine", 8080, 6));
        assert_eq!(target("h/engine:53/udp").unwrap(), ("h/engine", 53, 17));
        assert_eq!(target("spiffe://a/b:80").unwrap(), ("spiffe://a/b", 80, 6));
        assert_eq!(target("[fd7a::1]:53/17").unwrap(), ("[fd7a::1]", 53, 17));
        for text in ["oms-1/icmp", "oms-1:*/icmp", "oms-1:0/icmp"] {
            assert_eq!(target(text).unwrap(), ("oms-1", 0, 1), "{text}");
        }
        assert_eq!(target("fd7a::1:0/icmpv6").unwrap(), ("fd7a::1:0", 0, 58));
        assert_eq!(target("[fd7a::1]:0/icmpv6").unwrap(), ("[fd7a::1]", 0, 58));
        assert!(target("oms-1").is_err() && target("oms-1:http").is_err() && target("a:1/x").is_err());
    }
}
