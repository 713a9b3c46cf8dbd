//! Cuts a node off that is denied again and again, never who manages this host.

use std::collections::HashSet;
use std::net::IpAddr;

use bulkhead_api::event::{Action, Outcome};
use bulkhead_api::quarantine::Request;
use bulkhead_dataplane::Kind;
use bulkhead_policy::inventory::Node;
use ipnet::IpNet;

use super::denials::Denied;
use super::{Alarms, Cause, Found};
use crate::config::{Config, Response};
use crate::daemon::events::control::{self, Change};
use crate::daemon::quarantine;
use crate::daemon::state::Enforcer;
use crate::session;

/// SSH's port: who is connected there is an operator.
const SSH: u16 = 22;

/// The interfaces on which an overlay has proven whose address a source is: those that agent.toml names and that carry
/// bare IP.
pub fn proven(enforcer: &Enforcer, settings: &Response) -> HashSet<String> {
    let mut live = enforcer.live();
    let interfaces = live.built.interfaces();
    let named = interfaces.filter(|interface| settings.interfaces.contains(&interface.name));
    named.filter(|interface| interface.kind == Kind::BareIp).map(|interface| interface.name.clone()).collect()
}

/// Quarantines a node, unless it may not be.
pub fn respond(enforcer: &Enforcer, alarms: &Alarms, settings: &Response, denied: &Denied) {
    let Denied { node, count } = denied;
    let (known, is_out, automatic) = {
        let live = enforcer.live();
        let quarantined = &live.quarantined.0;
        let is_out = quarantined.iter().any(|entry| entry.node.as_ref() == Some(node));
        let automatic = quarantined.iter().filter(|entry| entry.automatic).count();
        (live.built.inventory.node(node).cloned(), is_out, automatic)
    };
    let Some(known) = known.filter(|_| !is_out) else { return };
    let seconds = settings.seconds;
    let why = format!("denied {count} times within {seconds} s");
    let withheld = if known.name == enforcer.setup.options.node {
        Some("it is this host".to_owned())
    } else if let Some(who) = protected(&known, &enforcer.setup.config) {
        Some(who)
    } else if automatic >= settings.at_once {
        Some(format!("{automatic} are cut off already, and at_once is {}", settings.at_once))
    } else {
        None
    };
    if let Some(withheld) = withheld {
        let words = format!("{node} was {why} and is not quarantined: {withheld}");
        alarms.raise(&Found::plain(Cause::QuarantineWithheld { node: node.clone() }, words));
        return;
    }
    let before = control::generation(enforcer);
    let request = Request { subject: node.clone(), seconds: Some(settings.hold), reason: Some(why.clone()) };
    let done = quarantine::quarantine_automatically(enforcer, &request);
    let (outcome, detail) = match &done {
        Ok(answer) if answer.done => (Outcome::Done, why),
        Ok(answer) => (Outcome::Refused, answer.notes.join("; ")),
        Err(error) => (Outcome::Failed, format!("{why}: {error:#}")),
    };
    let change = Change::by_agent(Action::Quarantine, before, Some(&detail));
    Change { outcome, subject: Some(node.clone()), ..change }.tell(enforcer);
}

/// Why a node must not be cut off: this host is managed from an address of it, or through it.
fn protected(node: &Node, config: &Config) -> Option<String> {
    let addresses = node.addresses.iter().chain(&node.underlay).map(|address| IpNet::from(*address));
    let reached: Vec<IpNet> = addresses.chain(node.routes.iter().copied()).collect();
    let exempt = || config.management.iter().flat_map(|exempt| &exempt.sources);
    let is_either = |net: &&IpNet| exempt().any(|exempt| exempt.contains(*net) || net.contains(exempt));
    if let Some(net) = reached.iter().find(is_either) {
        return Some(format!("[[management]] has {net}"));
    }
    let operators = operators(config);
    let operator = operators.iter().find(|operator| reached.iter().any(|net| net.contains(*operator)));
    operator.map(|operator| format!("an operator of this host is connected from {operator}"))
}

/// From where somebody is connected to SSH or to what management is exempt for. Where the kernel does not tell, the
/// sessions' own words count alone.
fn operators(config: &Config) -> HashSet<IpAddr> {
    let ports: HashSet<u16> =
        config.management.iter().flat_map(|exempt| exempt.ports.iter().copied()).chain([SSH]).collect();
    let open = bulkhead_dataplane::connections().unwrap_or_default();
    let open = open.into_iter().filter(|open| ports.contains(&open.local.port()));
    let connected = open.map(|open| open.remote.ip().to_canonical());
    connected.chain(session::operators()).collect()
}

#[cfg(test)]
mod tests {
    use bulkhead_policy::diagnostic::Findings;
    use bulkhead_policy::inventory;
    use bulkhead_policy::resolve::Management;
    use bulkhead_policy::source::Source;

    use super::{Config, protected};

    #[test]
    fn who_manages_the_host_is_protected() {
        let text = r#"{"nodes": [
            {"name": "ops", "addresses": ["100.64.0.1"], "underlay": ["203.0.113.7"], "tags": ["tag:a"]},
            {"name": "gateway", "addresses": ["100.64.0.2"], "routes": ["10.20.0.0/16"], "tags": ["tag:a"]},
            {"name": "other", "addresses": ["100.64.0.3"], "routes": ["10.30.0.0/16"], "tags": ["tag:a"]}]}"#;
        let inventory = inventory::parse(&Source::new("i", text), &mut Findings::default()).unwrap();
        let is = |name: &str, from: &str| {
            let sources = vec![from.parse().unwrap()];
            let management = vec![Management { sources, ports: vec![2222], location: None }];
            let config = Config { management, ..Config::default() };
            protected(inventory.node(name).unwrap(), &config).is_some()
        };
        assert!(is("ops", "100.64.0.1/32") && is("ops", "100.64.0.0/24") && is("ops", "203.0.113.7/32"));
        assert!(is("gateway", "10.20.3.4/32") && is("gateway", "10.0.0.0/8"));
        for from in ["100.64.0.1/32", "10.20.3.4/32"] {
            assert!(!is("other", from), "{from}");
        }
    }
}
