//! What is tried, and what the policy says of it: the reference evaluator, rule by rule.

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::time::SystemTime;

use anyhow::{Context as _, Result, ensure};
use bulkhead_abi::Direction;
use bulkhead_policy::Dialect;
use bulkhead_policy::diagnostic::Findings;
use bulkhead_policy::inventory::{self, Inventory, Network, Node};
use bulkhead_policy::policy;
use bulkhead_policy::reference::{self, Verdict};
use bulkhead_policy::resolve::{self, Ruleset};
use bulkhead_policy::source::Source;
use bulkhead_testkit::lab::Protocol;

/// The ports served and tried on every host: order management, market data, metrics, and one that only a dev
/// server opens to anybody.
pub const PORTS: [u16; 4] = [22, 8080, 9090, 9100];

/// Which agents run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// All: what is denied is dropped where it starts.
    Everywhere,
    /// All but the source's: what is denied is dropped where it arrives.
    SourceDetached,
}

/// One attempt, and what the policy says of it.
#[derive(Clone, Debug)]
pub struct Attempt {
    pub from: String,
    pub to: String,
    pub address: IpAddr,
    pub port: u16,
    pub protocol: Protocol,
    /// Why: the rule and its place, or that there is none.
    pub because: String,
    /// Where it must be dropped; none if the policy allows it.
    pub drop: Option<Drop>,
}

/// Where a denied packet ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drop {
    /// The host whose agent drops it.
    pub host: String,
    /// On its way out or in.
    pub direction: Direction,
}

/// The firm: its inventory and its rules.
pub struct Firm {
    inventory: Inventory,
    rules: Ruleset,
}

impl Firm {
    /// Reads both files.
    pub fn load(policy_file: &Path, inventory_file: &Path) -> Result<Firm> {
        let mut findings = Findings::default();
        let inventory = inventory::parse(&source(inventory_file)?, &mut findings);
        let policy = policy::parse(&source(policy_file)?, Dialect::Bulkhead, &mut findings);
        let (Some(inventory), Some(policy)) = (inventory, policy) else { return Err(findings.into()) };
        let rules = resolve::resolve(&policy, &inventory, Dialect::Bulkhead, Network::Overlay, &mut findings);
        if findings.has_errors() {
            return Err(findings.into());
        }
        Ok(Firm { inventory, rules })
    }

    /// Everything one host can try: every port of every other, by TCP and by UDP.
    pub fn attempts(&self, from: &str, phase: Phase) -> Result<Vec<Attempt>> {
        let source = self.inventory.node(from).with_context(|| format!("the inventory has no {from}"))?;
        let now = u64::try_from(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_nanos())?;
        let mut attempts = Vec::new();
        for target in self.inventory.nodes.iter().filter(|target| target.name != from) {
            for port in PORTS {
                for protocol in [Protocol::Tcp, Protocol::Udp] {
                    attempts.push(self.attempt(source, target, port, protocol, phase, now)?);
                }
            }
        }
        Ok(attempts)
    }

    fn attempt(
        &self,
        source: &Node,
        target: &Node,
        port: u16,
        protocol: Protocol,
        phase: Phase,
        now: u64,
    ) -> Result<Attempt> {
        let address = first_address(target)?;
        let probe = reference::Probe {
            source: first_address(source)?,
            destination: address,
            protocol: number(protocol),
            port,
        };
        let judge =
            |node, direction| reference::judge(&self.rules, &self.inventory, node, direction, &probe, now);
        let mut verdict = judge(target, Direction::Ingress);
        let mut host = (target, Direction::Ingress);
        if phase == Phase::Everywhere {
            let leaving = judge(source, Direction::Egress);
            if !leaving.allows() {
                (verdict, host) = (leaving, (source, Direction::Egress));
            }
        }
        Ok(Attempt {
            from: source.name.clone(),
            to: target.name.clone(),
            address,
            port,
            protocol,
            because: self.because(verdict),
            drop: (!verdict.allows()).then(|| Drop { host: host.0.name.clone(), direction: host.1 }),
        })
    }

    fn because(&self, verdict: Verdict) -> String {
        match (verdict, verdict.rule().and_then(|index| self.rules.rules.get(index))) {
            (_, Some(rule)) => match &rule.location {
                Some(location) => format!("{} (line {})", rule.title(), location.position.line),
                None => rule.title(),
            },
            (Verdict::NotLocal, None) => "not between these hosts".into(),
            (_, None) => "no rule".into(),
        }
    }
}

/// The inventory's hosts and their overlay addresses, in its order.
pub fn hosts(inventory_file: &Path) -> Result<Vec<(String, Vec<IpAddr>)>> {
    let mut findings = Findings::default();
    let inventory = inventory::parse(&source(inventory_file)?, &mut findings);
    let (Some(inventory), false) = (inventory, findings.has_errors()) else { return Err(findings.into()) };
    ensure!(inventory.nodes.len() > 1, "{} has no two nodes", inventory_file.display());
    Ok(inventory.nodes.into_iter().map(|node| (node.name, node.addresses)).collect())
}

/// JSON, or JSON with comments and trailing commas.
pub fn json(text: &str) -> Result<serde_json::Value> {
    let value: Option<serde_json::Value> = jsonc_parser::parse_to_serde_value(text, &Default::default())?;
    value.context("is empty")
}

fn first_address(node: &Node) -> Result<IpAddr> {
    node.addresses.first().copied().with_context(|| format!("{} has no overlay address", node.name))
}

/// IANA's protocol numbers.
pub fn number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
    }
}

fn source(file: &Path) -> Result<Source> {
    let shown = file.display().to_string();
    let text = fs::read_to_string(file).with_context(|| format!("read {shown}"))?;
    Ok(Source::new(&shown, &text))
}
