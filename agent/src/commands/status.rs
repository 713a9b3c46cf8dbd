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
        });
        let status = match answered {
            Ok(Some(status)) => status,
            Ok(None) => Answered::read(&global.instance, &paths, None)?,
            Err(error) if client::broke_off(&error) => Answered::read(&global.instance, &paths, None)?,
            Err(error) => return Err(error),
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
                "instance {}: {}, node {}, {} mode, generation {}, {} rules from {}",
                status.instance,
                status.state,
                agent.node,
                agent.mode.name(),
                agent.generation,
                agent.rules,
                agent.policy
            );
            println!("agent: process {}", agent.pid);
            if let Some(seconds) = agent.confirm_within {
                println!("waits for `bulkhead confirm`: {seconds} s until the previous policy returns");
            }
        }
        None if status.links.is_empty() => println!("instance {}: nothing is enforced", status.instance),
        None => println!(
            "instance {}: {}, {} mode, without an agent; start one with `bulkhead run`",
            status.instance,
            status.state,
            status.mode.map_or("unknown", |mode| mode.name())
        ),
    }
    status.problems.iter().for_each(|problem| println!("problem: {problem}"));
    for link in status.links.iter().filter(|link| link.index != 0) {
        let generation = link.generation.map_or("unknown".to_owned(), |number| number.to_string());
        println!("attached: {} {}, generation {generation}", link.interface, link.hook.name());
    }
    if let Some(agent) = &status.agent {
        for exchange in &agent.exchange {
            let link: Vec<_> = exchange.link.iter().map(|link| link.name()).collect();
            let link = if link.is_empty() { "none".to_owned() } else { link.join(", ") };
            println!(
                "exchange interface: {}, venues' lanes alone; link protocols: {link}",
                exchange.interface
            );
        }
        agent.exemptions.iter().for_each(|exemption| println!("exempt: {exemption}"));
    }
    for quarantined in &status.quarantined {
        let entry = &quarantined.entry;
        let until = quarantined.until_time.as_ref().map(|time| format!(" until {time}")).unwrap_or_default();
        let reason = entry.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        println!("quarantined: {} since {}{until}{reason}", entry.title(), quarantined.since_time);
    }
    println!(
        "flows: {} established, {} unreplied, {} evicted",
        status.established_flows, status.unreplied_flows, status.evicted_flows
    );
    if let Some(agent) = &status.agent {
        let events = agent.events;
        println!(
            "drops told of: {} by events, {} by summaries, {} not at all ({} beyond the event budget); \
             {} reports on disk, {} not written",
            events.events,
            events.aggregated,
            status.lost.ring + status.lost.budget,
            status.lost.budget,
            events.written,
            events.unwritten
        );
        if let Some(shadow) = &agent.shadow {
            println!(
                "staged: {} (generation {}) would drop {} packets that passed, and pass {} that were dropped; \
                 {} differences not told of",
                shadow.policy, shadow.generation, shadow.would_drop, shadow.would_pass, status.lost.shadow
            );
        }
        for count in &agent.rule_counters {
            let title = count.rule.name.clone().unwrap_or_else(|| format!("rule {}", count.rule.number));
            let place = count.rule.position.as_deref().unwrap_or("");
            println!("  {title:<31} {:>12} packets {:>15} bytes  {place}", count.packets, count.bytes);
        }
    }
    for count in &status.reasons {
        println!(
            "  {:<8} {:<22} {:>12} packets {:>15} bytes",
            count.direction, count.reason, count.packets, count.bytes
        );
    }
}
