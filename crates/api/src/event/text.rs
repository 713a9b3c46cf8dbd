//! Events for people, one line each.

use std::fmt;

use super::{
    Actor, Alarm, AlarmState, Altered, Balance, Binding, BindingState, Control, Coverage, Drop, Effect, End,
    Event, Granted, Kind, LostEvents, Missed, Outcome, Rule, Unenforced, WorkloadChange, WouldDiffer,
};

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.time.milliseconds())?;
        match &self.kind {
            Kind::Drop(drop) => {
                packets(f, if drop.audit { "would drop" } else { "drop" }, drop)?;
                times(f, drop)
            }
            Kind::WouldDiffer(differs) => would_differ(f, differs),
            Kind::Allowed(allowed) => {
                packets(f, "allow", &allowed.first)?;
                if allowed.one_in > 1 { write!(f, ", one of {}", allowed.one_in) } else { Ok(()) }
            }
            Kind::Unenforced(time) => unenforced(f, time),
            Kind::Control(control) => self::control(f, control),
            Kind::Altered(altered) => self::altered(f, altered),
            Kind::Binding(binding) => self::binding(f, binding),
            Kind::Workload(change) => workload(f, change),
            Kind::Alarm(alarm) => self::alarm(f, alarm),
            Kind::Coverage(coverage) => self::coverage(f, coverage),
            Kind::Balance(balance) => self::balance(f, balance),
            Kind::Lost(lost) => self::lost(f, lost),
            Kind::Missed(Missed { missed }) => {
                write!(
                    f,
                    "missed {missed} events, which this watcher was too slow for; the event log has them"
                )
            }
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, name, route, .. } = self;
        match (name, route) {
            (Some(name), Some(route)) => write!(f, "{name} (route {route}) ({address})"),
            (Some(name), None) => write!(f, "{name} ({address})"),
            (None, _) => write!(f, "unknown ({address})"),
        }
    }
}

fn end(end: Option<&End>) -> String {
    end.map_or_else(|| "unparsed".to_owned(), End::to_string)
}

fn packets(f: &mut fmt::Formatter<'_>, verb: &str, drop: &Drop) -> fmt::Result {
    write!(f, "{verb} {} ", drop.direction.name())?;
    if let Some(kind) = drop.ethertype {
        write!(f, "frame {kind}")?;
        kind.name().map_or(Ok(()), |name| write!(f, " ({name})"))?;
    } else if drop.many {
        let source = drop.source.as_ref().map_or_else(|| "many".to_owned(), |source| end(Some(source)));
        write!(f, "{source} → many")?;
    } else {
        write!(f, "{} → {}", end(drop.source.as_ref()), end(drop.destination.as_ref()))?;
        match (drop.destination_port, drop.protocol) {
            (Some(port), Some(protocol)) => write!(f, " {port}/{protocol}")?,
            (None, Some(protocol)) => write!(f, " {protocol}")?,
            _ => {}
        }
    }
    write!(f, " {} on {}", drop.reason, drop.interface.as_deref().unwrap_or("any"))?;
    rule(f, drop.rule.as_ref())
}

fn rule(f: &mut fmt::Formatter<'_>, rule: Option<&Rule>) -> fmt::Result {
    let Some(Rule { number, name, position: Some(position), grant }) = rule else { return Ok(()) };
    if let Some(Granted { id, ticket, requester, approvers, break_glass }) = grant.as_deref() {
        let glass = if *break_glass { ", break-glass" } else { "" };
        let approvers = approvers.join(", ");
        return write!(
            f,
            " by grant {id} ({ticket}, requested by {requester}, approved by {approvers}{glass})"
        );
    }
    match name {
        Some(name) => write!(f, " by {name} at {position}"),
        None => write!(f, " by rule {number} at {position}"),
    }
}

fn times(f: &mut fmt::Formatter<'_>, drop: &Drop) -> fmt::Result {
    if drop.count > 1 { write!(f, " ×{}", drop.count) } else { Ok(()) }
}

fn would_differ(f: &mut fmt::Formatter<'_>, differs: &WouldDiffer) -> fmt::Result {
    let WouldDiffer { staged, enforced } = differs;
    packets(f, if enforced.passed { "staged would drop" } else { "staged would pass" }, staged)?;
    write!(f, "; {} now, {}", if enforced.passed { "passed" } else { "dropped" }, enforced.reason)?;
    rule(f, enforced.rule.as_ref())?;
    times(f, staged)
}

fn unenforced(f: &mut fmt::Formatter<'_>, time: &Unenforced) -> fmt::Result {
    let Unenforced { interface, since, milliseconds, cause, .. } = time;
    let effect = match time.effect {
        Effect::Open => "packets may have passed",
        Effect::Closed => "the guard dropped what came",
        Effect::None => "the programs went on",
    };
    let without = if time.agent { "" } else { ", without an agent" };
    let since = since.milliseconds();
    write!(f, "unenforced {interface} since {since} for {milliseconds} ms{without}: {cause}; {effect}")
}

fn altered(f: &mut fmt::Formatter<'_>, altered: &Altered) -> fmt::Result {
    let Altered { generation, table, entry, source, destination, port, direction, expected, found, .. } =
        altered;
    f.write_str("altered ")?;
    match (source, destination) {
        (Some(source), Some(destination)) => write!(f, "{source} → {destination}")?,
        (one, other) => f.write_str(one.as_ref().or(other.as_ref()).unwrap_or(entry))?,
    }
    for part in [port, direction].into_iter().flatten() {
        write!(f, " {part}")?;
    }
    write!(f, ": {expected} should be; {found} is ({table} {entry}, generation {generation})")?;
    if altered.omitted != 0 { write!(f, "; and {} more", altered.omitted) } else { Ok(()) }
}

fn binding(f: &mut fmt::Formatter<'_>, binding: &Binding) -> fmt::Result {
    let Binding { identity, address, state, expected, found, holder, interface, .. } = binding;
    write!(f, "{} {identity} ({address}): ", state.name())?;
    match found {
        Some(found) => write!(f, "routed by key {found}")?,
        None => f.write_str("routed by nobody")?,
    }
    holder.as_ref().map_or(Ok(()), |holder| write!(f, " of {holder}"))?;
    interface.as_ref().map_or(Ok(()), |interface| write!(f, " on {interface}"))?;
    if *state != BindingState::Bound {
        write!(f, "; its own: {}", expected.join(", "))?;
        f.write_str(if binding.enforced {
            "; nobody's until it is bound"
        } else {
            "; enforced all the same"
        })?;
    }
    if binding.omitted != 0 { write!(f, "; and {} more addresses", binding.omitted) } else { Ok(()) }
}

fn workload(f: &mut fmt::Formatter<'_>, change: &WorkloadChange) -> fmt::Result {
    let WorkloadChange { workload, state, cgroup, problem, .. } = change;
    write!(f, "workload {workload}: {}", state.name().replace('_', " "))?;
    cgroup.as_ref().map_or(Ok(()), |cgroup| write!(f, ", {cgroup}"))?;
    problem.as_ref().map_or(Ok(()), |problem| write!(f, ": {problem}"))
}

fn alarm(f: &mut fmt::Formatter<'_>, alarm: &Alarm) -> fmt::Result {
    let Alarm { alarm: kind, state, since, detail, .. } = alarm;
    let kind = kind.name();
    match state {
        AlarmState::Raised => write!(f, "ALARM {kind}: {detail}"),
        AlarmState::Ended => write!(f, "alarm ended, {kind} since {}: {detail}", since.milliseconds()),
    }
}

fn control(f: &mut fmt::Formatter<'_>, control: &Control) -> fmt::Result {
    let Control { action, outcome, generation_before: before, generation, .. } = control;
    write!(f, "control {}", action.name())?;
    control.subject.as_ref().map_or(Ok(()), |subject| write!(f, " {subject}"))?;
    if *outcome != Outcome::Done {
        write!(f, " {}", outcome.name())?;
    }
    match &control.by {
        Actor::Agent => f.write_str(" by the agent")?,
        Actor::File => f.write_str(" by a change of its files")?,
        Actor::Source { name } => write!(f, " by what {name} lists")?,
        Actor::Fleet { name } => write!(f, " by the fleet's {name}")?,
        Actor::Command { uid, pid } => write!(f, " by uid {uid}, process {pid}, without an agent")?,
        Actor::Signal { signal } => write!(f, " by {signal}")?,
        Actor::Socket { uid, pid, comm, .. } => {
            write!(f, " by uid {uid}")?;
            pid.map_or(Ok(()), |pid| write!(f, ", process {pid}"))?;
            comm.as_ref().map_or(Ok(()), |comm| write!(f, " ({comm})"))?;
        }
    }
    match (before, generation) {
        (before, after) if before == after => write!(f, ", generation {after}")?,
        (before, after) => write!(f, ", generation {before} → {after}")?,
    }
    if !control.signers.is_empty() {
        write!(f, ", signed by {}", control.signers.join(", "))?;
    }
    control
        .detail
        .as_ref()
        .map_or(Ok(()), |detail| write!(f, ": {}", detail.lines().next().unwrap_or_default()))
}

fn coverage(f: &mut fmt::Formatter<'_>, coverage: &Coverage) -> fmt::Result {
    let Coverage { since, whole, at_start, at_end, unenforced, looks, .. } = coverage;
    let end = at_end.as_ref().unwrap_or(at_start);
    let state = if *whole { "whole" } else { "not whole" };
    write!(f, "coverage {state} since {}", since.milliseconds())?;
    match (at_start.generation, end.generation) {
        (before, after) if before == after => write!(f, ", generation {after}")?,
        (before, after) => write!(f, ", generation {before} → {after}")?,
    }
    write!(f, ", {} on {} hooks, {looks} looks", end.mode.name(), end.hooks.len())?;
    for (what, time) in unenforced {
        write!(f, ", {what} not enforced for {} ms", time.div_ceil(1_000_000))?;
    }
    Ok(())
}

fn balance(f: &mut fmt::Formatter<'_>, balance: &Balance) -> fmt::Result {
    let state = if balance.is_balanced() { "balance" } else { "NO BALANCE" };
    let unreported = balance.unreported;
    let [told, unwritten] = [balance.sum(|account| account.told), balance.sum(|account| account.unwritten)];
    let (dropped, lost) = (balance.dropped(), balance.lost());
    write!(f, "{state}: {dropped} dropped = {told} told + {unwritten} not written + {lost} lost")?;
    if unreported == 0 { Ok(()) } else { write!(f, "; {unreported} more over the budget of reports") }
}

fn lost(f: &mut fmt::Formatter<'_>, lost: &LostEvents) -> fmt::Result {
    let number =
        |number: Option<u64>| number.map_or_else(|| "an unknown number of".to_owned(), |n| n.to_string());
    let LostEvents { events, drops, cause, detail } = lost;
    let (events, drops) = (number(*events), number(*drops));
    write!(f, "lost {events} events, of {drops} drops: {}", cause.name())?;
    detail.as_ref().map_or(Ok(()), |detail| write!(f, ", {detail}"))
}
