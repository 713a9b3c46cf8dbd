//! `bulkhead status`: what is enforced, and what it has done.

use hyper::Method;

use crate::cli::Global;
use crate::client;
use crate::daemon::status::Status as Answered;
use crate::exit::Answer;
use crate::paths::Paths;

/// Shows what is enforced where, counters by reason, and whether the agent runs.
#[derive(Debug, clap::Args)]
pub struct Status {}

impl Status {
    pub fn run(&self, global: &Global) -> anyhow::Result<Answer> {
        let paths = Paths::of(&global.instance)?;
        let answered = client::block_on(async {
            match client::ask(&paths.socket, Method::GET, "/status").await? {
                Some(response) => Ok(Some(client::read::<Answered>(response).await?)),
                None => Ok(None),
            }
        })?;
        let status = match answered {
            Some(status) => status,
            None => Answered::read(&global.instance, &paths.pins, None)?,
        };
        if global.json {
            println!("{}", serde_json::to_string(&status)?);
        } else {
            print(&status);
        }
        Ok(Answer::Yes)
    }
}

fn print(status: &Answered) {
    match &status.agent {
        Some(agent) => {
            println!(
                "instance {}: node {}, {} mode, generation {}, {} rules from {}",
                status.instance, agent.node, agent.mode, agent.generation, agent.rules, agent.policy
            );
            println!("agent: process {}", agent.pid);
        }
        None if status.links.is_empty() => println!("instance {}: nothing is enforced", status.instance),
        None => {
            println!("instance {}: enforced without an agent; start one with `bulkhead run`", status.instance);
        }
    }
    status.links.iter().for_each(|(interface, hook)| println!("attached: {interface} {hook}"));
    println!("flows: {} established, {} unreplied", status.established_flows, status.unreplied_flows);
    if let Some(agent) = &status.agent {
        let events = agent.events;
        println!(
            "drops told of: {} by events, {} by summaries, {} not at all; {} reports on disk, {} not written",
            events.events, events.aggregated, status.lost_events, events.written, events.unwritten
        );
    }
    for count in &status.reasons {
        println!(
            "  {:<8} {:<22} {:>12} packets {:>15} bytes",
            count.direction, count.reason, count.packets, count.bytes
        );
    }
}
