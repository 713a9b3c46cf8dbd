//! `bulkhead status`: what is enforced, and what it has done.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use bulkhead_api::event::{BindingState, Expiring, ExpiryLevel};
use bulkhead_api::link::Link;
use bulkhead_api::route;
use bulkhead_api::status::{
    Anchor, ExchangeInterface, Expires, Expiry, Fleet, FleetBundles, Identities, Identity, InventorySource,
    Quarantined, Sink, State, Status as Answered, TlsCount, UnderlayInterface, Workload,
};
use bulkhead_api::text::plain;
use hyper::Method;

use crate::client::{self, PATIENCE};
use crate::commands::grants;
use crate::commands::repeat::until_interrupted;
use crate::daemon::server::alone;
use crate::exit::Answer;
use crate::global::Global;
use crate::paths::Paths;

/// Show what is enforced where, counters, and the agent.
///
/// Ends with 0 only if every managed interface and the guard are as they should be, in enforce mode; else with 1.
#[derive(Debug, clap::Args)]
pub struct Status {
    /// Show it again and again until Ctrl-C, with a pause of so long.
    ///
    /// Also while the agent is restarted. In a terminal in place of the one before, else below it. Ends as the last
    /// one would have.
    #[arg(
        long,
        value_name = "SECONDS",
        value_parser = clap::value_parser!(u64).range(1..=3600),
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "1"
    )]
    watch: Option<u64>,
}

impl Status {
    pub fn run(&self, global: &Global) -> anyhow::Result<Answer> {
        let (paths, json, instance) = (Paths::of(&global.instance)?, global.json, global.instance.clone());
        let asked = move || {
            let status = ask(&instance, &paths)?;
            let text = if json { serde_json::to_string(&status)? + "\n" } else { text(&status) };
            Ok((text, if status.state == State::Enforced { Answer::Yes } else { Answer::No }))
        };
        if let Some(seconds) = self.watch {
            return until_interrupted(Duration::from_secs(seconds), json, asked);
        }
        let (text, answer) = asked()?;
        print!("{text}");
        Ok(answer)
    }
}

/// The status of an instance: by its agent, or asked of the kernel without it.
///
/// # Errors
/// If the kernel or the state directory cannot be read.
pub fn ask(instance: &str, paths: &Paths) -> anyhow::Result<Answered> {
    let ask = client::ask_within(PATIENCE, &paths.socket, Method::GET, route::STATUS);
    let asked = Instant::now();
    if let Some(status) = client::block_on(ask)? {
        return Ok(status);
    }
    let is_silent = |pid| asked.elapsed() >= PATIENCE || client::is_stopped(pid);
    let process = paths.holder().map(|pid| (pid, is_silent(pid)));
    alone::status(instance, paths, process)
}

/// The status for people.
fn text(status: &Answered) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write(&mut text, status);
    text
}

/// Who is cut off, since when, until when, by whom and why.
pub fn quarantined(quarantined: &Quarantined) -> String {
    let Quarantined { entry, since_time, until_time } = quarantined;
    let until = until_time.as_ref().map(|time| format!(" until {time}")).unwrap_or_default();
    let by = match &entry.fleet {
        Some(order) => {
            let signers = order.signers.join(", ");
            format!(", by the fleet's note {} ({}, signed by {signers})", order.id, order.ticket)
        }
        None if entry.automatic => ", by the agent itself".to_owned(),
        None => String::new(),
    };
    let reason = entry.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    plain(&format!("{} since {since_time}{until}{by}{reason}", entry.title())).into_owned()
}

fn write(out: &mut String, status: &Answered) -> std::fmt::Result {
    match &status.agent {
        Some(agent) => {
            writeln!(
                out,
                "instance {}: {}, node {}, {} mode, generation {}, {} rules from {}",
                status.instance,
                status.state.name(),
                agent.node,
                agent.mode.name(),
                agent.generation,
                agent.rules,
                agent.policy
            )?;
            let applied = agent.applied.as_deref().map(|time| format!(", policy in force since {time}"));
            writeln!(
                out,
                "agent: process {}, version {}{}",
                agent.pid,
                agent.version,
                applied.unwrap_or_default()
            )?;
            if let Some(seconds) = agent.confirm_within {
                writeln!(out, "waits for `bulkhead confirm`: {seconds} s until the previous policy returns")?;
            }
        }
        None if status.state == State::Detached => {
            writeln!(out, "instance {}: nothing is enforced", status.instance)?;
        }
        None => writeln!(
            out,
            "instance {}: {}, {} mode, without an agent; start one with `bulkhead run`",
            status.instance,
            status.state.name(),
            status.mode.map_or("unknown", |mode| mode.name())
        )?,
    }
    for problem in &status.problems {
        writeln!(out, "problem: {problem}")?;
    }
    for link in status.links.iter().filter(|link| link.fault.is_none()) {
        let generation = link.generation.map_or("unknown".to_owned(), |number| number.to_string());
        let why = status.fallback(link).map(|why| format!(" ({why})")).unwrap_or_default();
        writeln!(out, "attached: {} {}, generation {generation}{why}", link.interface, link.hook.name())?;
    }
    if let Some(agent) = &status.agent {
        let names = |link: &[Link]| link.iter().map(|link| link.name()).collect::<Vec<_>>().join(", ");
        for ExchangeInterface { interface, link } in &agent.exchange {
            let link = if link.is_empty() { "none".to_owned() } else { names(link) };
            writeln!(out, "exchange interface: {interface}, venues' lanes alone; link protocols: {link}")?;
        }
        for UnderlayInterface { interface, addresses, link } in &agent.underlay {
            let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
            let addresses = if addresses.is_empty() { "no address".to_owned() } else { addresses.join(", ") };
            let link = if link.is_empty() { "none".to_owned() } else { names(link) };
            writeln!(out, "underlay interface: {interface} ({addresses}); link protocols: {link}")?;
        }
        for ExchangeInterface { interface, link } in &agent.linked {
            writeln!(out, "interface: {interface}; link protocols: {}", names(link))?;
        }
        for alarm in agent.alarms.iter().flat_map(|alarms| &alarms.active) {
            let since = alarm.since.milliseconds();
            writeln!(out, "alarm: {} since {since}: {}", alarm.alarm.name(), plain(&alarm.detail))?;
        }
        expiry(out, &agent.expiry)?;
        for exemption in &agent.exemptions {
            writeln!(out, "exempt: {exemption}")?;
        }
        agent.sources.iter().try_for_each(|found| source(out, found))?;
        agent.fleet.iter().try_for_each(|found| fleet(out, found))?;
        if let Some(found) = &agent.identities {
            identities(out, found)?;
        }
        agent.workloads.iter().try_for_each(|found| workload(out, found))?;
        for warning in &agent.warnings {
            writeln!(out, "warning: {warning}")?;
        }
    }
    for quarantined in &status.quarantined {
        writeln!(out, "quarantined: {}", self::quarantined(quarantined))?;
    }
    for grant in &status.grants {
        writeln!(out, "granted: {}", grants::line(grant))?;
    }
    writeln!(
        out,
        "flows: {} established, {} unreplied, {} evicted",
        status.established_flows, status.unreplied_flows, status.evicted_flows
    )?;
    if let Some(agent) = &status.agent {
        let events = agent.events;
        writeln!(
            out,
            "drop reports: {} single, {} aggregated, {} lost ({} over budget); event log: {} written, {} lost",
            events.events,
            events.aggregated,
            status.lost.ring + status.lost.budget,
            status.lost.budget,
            events.written,
            events.unwritten
        )?;
        if events.overflowed != 0 {
            writeln!(out, "event log too slow: {} events lost, its queue was full", events.overflowed)?;
        }
        if events.missed_by_watchers != 0 {
            writeln!(
                out,
                "watchers too slow: {} events missed; the event log has them",
                events.missed_by_watchers
            )?;
        }
        if events.unwritten_drops != 0 {
            writeln!(out, "not in the event log: {} drops", events.unwritten_drops)?;
        }
        for sink in &agent.sinks {
            let Sink { name, kind, position, behind, refused, .. } = sink;
            let refused = if *refused == 0 { String::new() } else { format!(", {refused} refused") };
            writeln!(out, "sink {name} ({kind}): has records up to {position}, {behind} behind{refused}")?;
        }
        for anchor in &agent.anchors {
            let Anchor { name, kind, records, age_seconds, .. } = anchor;
            let ago = age_seconds.map(|age| format!(", taken {age} s ago")).unwrap_or_default();
            match records {
                0 => writeln!(out, "anchor {name} ({kind}): has no checkpoint yet")?,
                _ => writeln!(out, "anchor {name} ({kind}): has a checkpoint of {records} records{ago}")?,
            }
        }
        if !status.guard.is_empty() {
            writeln!(
                out,
                "guard drop reports: {} single, {} aggregated",
                events.guard_logged, events.guard_counted
            )?;
        }
        let unread = status.counted.unread;
        if unread != 0 {
            writeln!(
                out,
                "lost besides: {unread} drops, whose reports an agent of another map ABI had left"
            )?;
        }
        if status.lost.flows != 0 {
            writeln!(out, "not told of: {} flows that rules let begin", status.lost.flows)?;
        }
        if let Some(staged) = &agent.staged {
            writeln!(
                out,
                "staged: {} (generation {}) would drop {} packets that passed, and pass {} that were dropped; \
                 {} differences not told of",
                staged.policy, staged.generation, staged.would_drop, staged.would_pass, status.lost.staged
            )?;
        }
        for count in &agent.rule_counters {
            let title = count.rule.title();
            let place = count.rule.position.as_deref().unwrap_or("");
            writeln!(out, "  {title:<31} {:>12} packets {:>15} bytes  {place}", count.packets, count.bytes)?;
            if let Some(TlsCount { mode, began, plaintext, unverified, .. }) = &count.tls {
                writeln!(
                    out,
                    "    tls {mode:<8} {began:>12} flows began as TLS, {plaintext} in plaintext, {unverified} unverified"
                )?;
            }
        }
    }
    let counted = &status.counted;
    if let (Some(since), false) = (&counted.since_time, counted.anew.is_empty()) {
        let anew = counted.anew.join(", ");
        writeln!(
            out,
            "counted since {since}, when another map ABI was taken over whose {anew} are not known:"
        )?;
    }
    for count in status.reasons.iter().chain(&status.guard) {
        writeln!(
            out,
            "  {:<8} {:<25} {:>12} packets {:>15} bytes",
            count.direction, count.reason, count.packets, count.bytes
        )?;
    }
    Ok(())
}

/// What ends next, and how much has ended or is near its end, where there is any.
fn expiry(out: &mut String, expiry: &Expiry) -> std::fmt::Result {
    let is_ahead = |found: &&Expires| found.level != ExpiryLevel::Expired && found.kind != Expiring::Grant;
    if let Some(next) = expiry.nearest.iter().find(is_ahead) {
        let (kind, time) = (next.kind.name().replace('_', " "), next.ends.milliseconds());
        writeln!(out, "expires next: {kind} {} {time}", plain(&next.name))?;
    }
    let is_alarming = |kind: &Expiring| *kind != Expiring::Grant;
    for kind in Expiring::ALL.iter().filter(|kind| is_alarming(kind)) {
        let Some(levels) = expiry.counts.get(kind.name()) else { continue };
        let of = |level: ExpiryLevel| levels.get(level.name()).copied().unwrap_or(0);
        let near = [ExpiryLevel::Expired, ExpiryLevel::Critical, ExpiryLevel::Warning];
        let near: Vec<String> = near
            .into_iter()
            .filter(|level| of(*level) != 0)
            .map(|level| format!("{} {}", of(level), level.name()))
            .collect();
        if !near.is_empty() {
            writeln!(out, "expiry: {}: {}", kind.name().replace('_', " "), near.join(", "))?;
        }
    }
    Ok(())
}

/// A source of the inventory.
fn fleet(out: &mut String, fleet: &Fleet) -> std::fmt::Result {
    let name = |bundles: &FleetBundles| {
        format!("policy {}, inventory {}", bundles.policy.version, bundles.inventory.version)
    };
    let enforced = fleet.enforced.as_ref().map_or_else(|| "nothing of it".to_owned(), name);
    let seconds = fleet.checked_seconds;
    let checked =
        seconds.map_or_else(|| "not verified yet".to_owned(), |age| format!("verified {age} s ago"));
    writeln!(out, "fleet: {enforced} is enforced; {checked} from {}", plain(&fleet.origin))?;
    if let Some(verified) =
        fleet.verified.as_ref().filter(|verified| fleet.enforced.as_ref() != Some(verified))
    {
        writeln!(out, "fleet: {} is verified and not enforced", name(verified))?;
    }
    if let Some(waiting) = &fleet.waiting {
        writeln!(out, "fleet: {waiting}")?;
    }
    for refused in fleet.refused.iter().take(3) {
        let what = if refused.gone_back { "gone back from" } else { "refused" };
        writeln!(out, "fleet: {what} {}: {}", refused.what, plain(refused.why.trim_end()))?;
    }
    Ok(())
}

pub fn source(out: &mut String, source: &InventorySource) -> std::fmt::Result {
    let InventorySource { name, kind, nodes, answered_seconds, problem, left_out_count, left_out } = source;
    let nodes = nodes.map_or_else(|| "no answer yet".to_owned(), |nodes| format!("{nodes} nodes"));
    let age = answered_seconds.map(|seconds| format!(", answered {seconds} s ago")).unwrap_or_default();
    writeln!(out, "source {name} ({kind}): {nodes}{age}")?;
    if let Some(problem) = problem {
        writeln!(out, "  not believed or silent: {problem}")?;
    }
    for left in left_out {
        writeln!(out, "  left out: {}", plain(left))?;
    }
    match left_out_count - left_out.len() as u64 {
        0 => Ok(()),
        more => writeln!(out, "  left out: {more} more"),
    }
}

/// A workload of this host.
fn workload(out: &mut String, workload: &Workload) -> std::fmt::Result {
    let Workload { name, addresses, state, cgroup, .. } = workload;
    let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    let cgroup = cgroup.as_ref().map(|cgroup| format!(", cgroup {}", plain(cgroup))).unwrap_or_default();
    let state = state.name().replace('_', " ");
    writeln!(out, "workload: {} ({}): {state}{cgroup}", plain(name), addresses.join(", "))
}

/// Identities that are not bound each in a line, the others by number.
fn identities(out: &mut String, found: &Identities) -> std::fmt::Result {
    let of = |state: BindingState| found.count.get(state.name()).copied().unwrap_or(0);
    writeln!(
        out,
        "identities: {} addresses bound ({} without a handshake for 180 s), {} conflicting, {} unbound, {} unproven{}",
        of(BindingState::Bound),
        found.stale,
        of(BindingState::Conflicting),
        of(BindingState::Unbound),
        of(BindingState::Unproven),
        if found.enforced { "" } else { "; reported, not enforced" }
    )?;
    let wrong =
        |identity: &&Identity| matches!(identity.state, BindingState::Conflicting | BindingState::Unbound);
    for identity in found.addresses.iter().filter(wrong) {
        let Identity { node, address, state, key, holder, interface, .. } = identity;
        let by = key.as_ref().map_or_else(|| "nobody".to_owned(), |key| format!("key {key}"));
        let whose = holder.as_ref().map(|holder| format!(" of {holder}")).unwrap_or_default();
        let place = interface.as_ref().map(|interface| format!(" on {interface}")).unwrap_or_default();
        writeln!(out, "{}: {} ({address}), routed by {by}{whose}{place}", state.name(), plain(node))?;
    }
    Ok(())
}
