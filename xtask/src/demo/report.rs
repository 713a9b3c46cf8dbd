//! The table: what the policy says, what the sockets saw, what was reported.

use anyhow::Result;
use bulkhead_abi::Direction;
use bulkhead_testkit::lab::Outcome;
use serde_json::json;

use super::plan::{Attempt, Phase};

/// One attempt and what came of it.
pub struct Row {
    pub attempt: Attempt,
    pub outcome: Outcome,
    /// Whether the drop was reported with both names; none if nothing had to be dropped.
    pub reported: Option<bool>,
    pub phase: Phase,
}

impl Row {
    /// Whether the kernel and the report did as the policy says: allowed is answered by the server, denied is
    /// silence and an event with both names.
    pub fn agrees(&self) -> bool {
        match self.attempt.drop {
            None => self.outcome == Outcome::Replied,
            Some(_) => self.outcome == Outcome::TimedOut && self.reported == Some(true),
        }
    }

    fn place(&self) -> String {
        match &self.attempt.drop {
            None => String::new(),
            Some(drop) => format!("{} {}", drop.host, direction(drop.direction)),
        }
    }
}

fn direction(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "ingress",
        Direction::Egress => "egress",
    }
}

/// For people, on standard output.
pub fn print_table(rows: &[Row]) {
    for phase in [Phase::Everywhere, Phase::SourceDetached] {
        let title = match phase {
            Phase::Everywhere => "every host with its agent",
            Phase::SourceDetached => "the source without its agent",
        };
        println!(
            "\n{title}\n{:<14} {:<14} {:>5} {:<5} {:<7} {:<28} {:<10} {:<24} reported",
            "from", "to", "port", "proto", "policy", "because", "socket", "dropped"
        );
        for row in rows.iter().filter(|row| row.phase == phase) {
            let attempt = &row.attempt;
            println!(
                "{:<14} {:<14} {:>5} {:<5} {:<7} {:<28} {:<10} {:<24} {:<8}{}",
                attempt.from,
                attempt.to,
                attempt.port,
                attempt.protocol,
                if attempt.drop.is_none() { "allow" } else { "deny" },
                attempt.because,
                row.outcome,
                row.place(),
                row.reported.map_or("", |reported| if reported { "yes" } else { "NO" }),
                if row.agrees() { "" } else { " <-- differs" },
            );
        }
    }
    let denied = rows.iter().filter(|row| row.attempt.drop.is_some()).count();
    let wrong = rows.iter().filter(|row| !row.agrees()).count();
    println!(
        "\n{} attempts: {} allowed, {denied} denied, {wrong} differ from the policy",
        rows.len(),
        rows.len() - denied
    );
}

/// For programs, on standard output: one array.
pub fn print_json(rows: &[Row]) -> Result<()> {
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            let attempt = &row.attempt;
            json!({
                "from": attempt.from,
                "to": attempt.to,
                "port": attempt.port,
                "protocol": attempt.protocol.to_string(),
                "policy": if attempt.drop.is_none() { "allow" } else { "deny" },
                "because": attempt.because,
                "socket": row.outcome.to_string(),
                "dropped_on": attempt.drop.as_ref().map(|drop| &drop.host),
                "direction": attempt.drop.as_ref().map(|drop| direction(drop.direction)),
                "reported": row.reported,
                "source_agent": row.phase == Phase::Everywhere,
                "agrees": row.agrees(),
            })
        })
        .collect();
    println!("{}", serde_json::to_string_pretty(&rows)?);
    Ok(())
}
