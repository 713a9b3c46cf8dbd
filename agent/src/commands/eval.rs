//! `bulkhead eval`: probes in, verdicts out, from the compiled tables of one node.

use std::io::{BufRead as _, Write as _};
use std::net::IpAddr;

use bulkhead_abi::Direction;
use bulkhead_engine::memory::Memory;
use bulkhead_engine::{Action, Reason};
use bulkhead_policy::check::Scope;
use bulkhead_policy::compile::{Program, compile};
use bulkhead_policy::evaluate::{Evaluation, environment, evaluate};
use bulkhead_policy::reference::Probe;
use bulkhead_policy::resolve::Ruleset;
use bulkhead_policy::service::{ICMP, ICMPV6};
use serde::Deserialize;

use super::budget::Budget;
use super::network::On;
use crate::exit::{Answer, Usage};
use crate::global::Global;
use crate::input;

/// Evaluate probes from standard input by one node's tables.
///
/// Reads one JSON probe a line, writes one verdict a line. Exits with 1 if a line is no probe.
///
/// A probe is {"direction": "ingress", "src": …, "dst": …, "proto": 6, "port": 80}; direction
/// is ingress unless given, and a probe of ICMP is an echo request unless icmpType is given.
#[derive(Debug, clap::Args)]
pub struct Eval {
    #[command(flatten)]
    on: On,
    /// The node whose tables decide.
    #[arg(long, value_name = "NAME")]
    node: String,
    #[command(flatten)]
    budget: Budget,
}

/// One line of input.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    #[serde(default)]
    direction: Way,
    src: IpAddr,
    dst: IpAddr,
    proto: u8,
    #[serde(default)]
    port: u16,
    #[serde(rename = "icmpType")]
    icmp_type: Option<u8>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Way {
    #[default]
    Ingress,
    Egress,
}

impl Line {
    fn parse(text: &str) -> Result<Self, String> {
        let line: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if line.src.is_ipv4() != line.dst.is_ipv4() {
            return Err("src and dst are of different families".into());
        }
        if line.icmp_type.is_some() && !matches!(line.proto, ICMP | ICMPV6) {
            return Err("icmpType is for proto 1 and 58".into());
        }
        Ok(line)
    }

    /// What the parser makes of it before any table is asked: rules are about echo requests,
    /// and each family has its own ICMP.
    fn refused(&self) -> Option<Reason> {
        let (own, request) = if self.src.is_ipv4() { (ICMP, 8) } else { (ICMPV6, 128) };
        match self.proto {
            ICMP | ICMPV6 if self.proto != own => Some(Reason::IcmpFamily),
            ICMP | ICMPV6 if self.icmp_type.is_some_and(|kind| kind != request) => Some(Reason::IcmpType),
            _ => None,
        }
    }

    fn decide(&self, environment: &Memory<'_>) -> Evaluation {
        if let Some(reason) = self.refused() {
            return Evaluation { reason, rule: None, rejects: false };
        }
        let direction = match self.direction {
            Way::Ingress => Direction::Ingress,
            Way::Egress => Direction::Egress,
        };
        let (source, destination) = (self.src.to_canonical(), self.dst.to_canonical());
        let probe = Probe { source, destination, protocol: self.proto, port: self.port };
        evaluate(environment, direction, &probe)
    }
}

fn answer(evaluation: Evaluation, program: &Program, ruleset: &Ruleset) -> serde_json::Value {
    let rule = evaluation.rule.map(|rule| &ruleset.rules[program.rules[rule as usize]]);
    let verdict = match evaluation.reason.action() {
        Action::Pass => "allow",
        Action::Drop => "deny",
    };
    let mut answer = serde_json::json!({
        "verdict": verdict,
        "rule": rule.map(|rule| rule.number),
        "reason": evaluation.reason.name(),
    });
    if evaluation.rejects {
        answer["onDeny"] = "reject".into();
    }
    if let Some(rule) = rule {
        if let Some(name) = &rule.name {
            answer["name"] = name.as_str().into();
        }
        if let Some(location) = &rule.location {
            answer["position"] = location.to_string().into();
        }
        if let Some(tls) = rule.tls {
            answer["tls"] = tls.mode.name().into();
        }
        if let Some(starttls) = rule.tls.and_then(|tls| tls.starttls) {
            answer["starttls"] = starttls.name().into();
        }
    }
    answer
}

impl Eval {
    pub fn run(&self, global: &Global) -> anyhow::Result<Answer> {
        let scope = Scope { dialect: global.dialect, ..Scope::default() };
        let config = (|| self.budget.config(global), Some(self.node.as_str()));
        let Some((ruleset, inventory)) = self.on.load(&scope, config, global.json)? else {
            return Ok(Answer::No);
        };
        let program = compile(&ruleset, &inventory, &self.node, self.budget.limits(global)?)
            .map_err(|error| Usage(error.to_string()))?;
        let environment = environment(&program.tables, input::now());
        let mut output = std::io::BufWriter::new(std::io::stdout().lock());
        let mut result = Answer::Yes;
        for (number, line) in (1..).zip(std::io::stdin().lock().split(b'\n')) {
            let line = line?;
            let text = String::from_utf8_lossy(&line);
            // A byte order mark, as PowerShell writes one.
            let text = if number == 1 { text.trim_start_matches('\u{feff}') } else { &text };
            if text.trim().is_empty() {
                continue;
            }
            let value = match Line::parse(text) {
                Ok(line) => answer(line.decide(&environment), &program, &ruleset),
                Err(error) => {
                    result = Answer::No;
                    serde_json::json!({ "error": error, "line": number })
                }
            };
            writeln!(output, "{value}")?;
        }
        output.flush()?;
        Ok(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Line {
        Line::parse(text).unwrap()
    }

    #[test]
    fn what_is_no_probe_is_refused() {
        for text in [
            "",
            "{}",
            "[]",
            r#"{"src": "10.0.0.1", "dst": "fd7a::1", "proto": 6}"#,
            r#"{"src": "10.0.0.1", "dst": "10.0.0.2", "proto": "tcp"}"#,
            r#"{"src": "10.0.0.1", "dst": "10.0.0.2", "proto": 256}"#,
            r#"{"src": "10.0.0.1", "dst": "10.0.0.2", "proto": 6, "port": 65536}"#,
            r#"{"src": "10.0.0.1", "dst": "10.0.0.2", "proto": 6, "prot": 1}"#,
            r#"{"src": "10.0.0.1", "dst": "10.0.0.2", "proto": 6, "icmpType": 8}"#,
            r#"{"src": "10.0.0.1", "dst": "10.0.0.2", "proto": 6, "direction": "in"}"#,
        ] {
            assert!(Line::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn icmp_probes_are_echo_requests_of_their_family() {
        let reason = |text| line(text).refused();
        assert_eq!(reason(r#"{"src": "10.0.0.1", "dst": "10.0.0.2", "proto": 1}"#), None);
        assert_eq!(reason(r#"{"src": "10.0.0.1", "dst": "10.0.0.2", "proto": 1, "icmpType": 8}"#), None);
        let reply = r#"{"src": "10.0.0.1", "dst": "10.0.0.2", "proto": 1, "icmpType": 0}"#;
        assert_eq!(reason(reply), Some(Reason::IcmpType));
        assert_eq!(reason(r#"{"src": "::1", "dst": "::2", "proto": 1}"#), Some(Reason::IcmpFamily));
        assert_eq!(reason(r#"{"src": "::1", "dst": "::2", "proto": 58, "icmpType": 128}"#), None);
    }
}
