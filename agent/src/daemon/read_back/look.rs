//! One look at what the kernel holds.

use std::collections::BTreeSet;
use std::net::IpAddr;

use bulkhead_abi::{FEATURE_STAGED, INTERFACE_ETHERNET, Settings};
use bulkhead_api::hook::{Attached, Kind};
use bulkhead_dataplane::{Inside, Pins, held_programs, held_tables};
use bulkhead_engine::memory::Tables;
use bulkhead_policy::held::{Comparison, Difference, compare};

use super::sets::{Set, Sets};
use crate::config::Role;
use crate::daemon::clock::BootClock;
use crate::daemon::quarantine::list::List;

/// What was read of one set of tables.
pub struct Held<'a> {
    set: &'a Set,
    of_staged: bool,
    expected: Tables,
    held: Tables,
}

/// What there is besides the files, at the moment of the look.
pub struct Moment<'a> {
    /// The instance's pins.
    pub pins: &'a Pins,
    /// Who is cut off.
    pub quarantined: &'a List,
    /// Which addresses are not bound to their keys.
    pub unbound: &'a BTreeSet<IpAddr>,
    /// What was put on which interface.
    pub attached: &'a [Attached],
}

/// Reads the tables and works out what they should be. Nothing may be changed meanwhile, else a change that was just
/// made is a difference.
///
/// # Errors
/// If a map cannot be read.
pub fn read<'a>(sets: &'a Sets, moment: &Moment) -> anyhow::Result<Vec<Held<'a>>> {
    let clock = BootClock::now();
    let mut all = Vec::new();
    for (of_staged, set) in
        sets.enforced.iter().map(|set| (false, set)).chain(sets.staged.iter().map(|set| (true, set)))
    {
        let pins = set.pins(moment.pins);
        if !pins.generation(sets.number).join("TRIE4").exists() && !is_used(sets, set, moment.attached) {
            continue;
        }
        let expected = sets.expected(set, &clock, (moment.quarantined, moment.unbound))?;
        let held = held_tables(&pins, sets.number, &expected, of_staged)?;
        all.push(Held { set, of_staged, expected, held });
    }
    Ok(all)
}

/// Whether an interface that is there reads a set.
fn is_used(sets: &Sets, set: &Set, attached: &[Attached]) -> bool {
    let is_there = |name: &str| attached.iter().any(|found| found.interface == name && found.index != 0);
    sets.built.interfaces.iter().any(|built| built.role == set.role && is_there(&built.name))
}

/// Compares what was read with what it should be; at most `most` differences are named.
///
/// # Errors
/// If the inventory does not have the node.
pub fn differences(sets: &Sets, all: &[Held], most: usize) -> anyhow::Result<Comparison> {
    let mut found = Comparison::default();
    for Held { set, of_staged, expected, held } in all {
        let title = |rule| set.title(rule);
        let room = most.saturating_sub(found.differences.len());
        let mut compared = compare(expected, held, &sets.whose(set, &title)?, room);
        for difference in &mut compared.differences {
            if *of_staged {
                difference.table.insert_str(0, "STAGED_");
            }
            match set.role {
                Role::Overlay => {}
                Role::Exchange => difference.table.insert_str(0, "exchange/"),
                Role::Underlay => difference.table.insert_str(0, "underlay/"),
                Role::Local => difference.table.insert_str(0, "local/"),
            }
        }
        found.add(compared);
    }
    Ok(found)
}

/// What differs in the programs on the hooks.
///
/// # Errors
/// If the kernel cannot be asked what runs.
pub fn programs(sets: &Sets, all: &[Held], moment: &Moment) -> anyhow::Result<Comparison> {
    let mut found = Comparison::default();
    for held in all.iter().filter(|held| !held.of_staged) {
        found.add(of_set(sets, held.set, &held.expected, moment)?);
    }
    Ok(found)
}

/// The programs on the hooks of a set's interfaces: those that were put there, with the pinned maps, specialised as
/// the record has it.
fn of_set(sets: &Sets, set: &Set, expected: &Tables, moment: &Moment) -> anyhow::Result<Comparison> {
    let mut found = Comparison::default();
    let pins = set.pins(moment.pins);
    for built in sets.built.interfaces.iter().filter(|built| built.role == set.role) {
        let attached = moment.attached.iter().find(|attached| attached.interface == built.name);
        let Some(attached) = attached.filter(|attached| attached.index != 0) else { continue };
        let held = held_programs(&pins, sets.number, &built.name)?;
        for (place, (hook, number)) in attached.hooks.iter().zip(&attached.programs).enumerate() {
            let tell = |expected: String, is: String| Difference {
                table: "program".to_owned(),
                entry: hook.name().to_owned(),
                direction: None,
                source: Some(format!("interface {}", built.name)),
                destination: None,
                port: None,
                others: 0,
                expected,
                found: is,
            };
            let Some(program) = held.iter().find(|held| held.hook == *hook) else {
                found.differences.push(tell(format!("program {number}"), "no program".to_owned()));
                continue;
            };
            if program.program != *number {
                let tag = program.inside.as_ref().map(|inside| format!(", tag {:016x}", inside.tag));
                let is = format!("program {}{}", program.program, tag.unwrap_or_default());
                found.differences.push(tell(format!("program {number}"), is));
            }
            let Some(inside) = &program.inside else { continue };
            // What enforces behind an observer is in a map, to which whoever has root can write.
            let behind = attached.enforcing.get(place).filter(|_| program.program == *number);
            if let Some(behind) = behind.filter(|behind| program.enforcing != Some(**behind)) {
                let is = program.enforcing.map_or_else(|| "none".to_owned(), |id| format!("program {id}"));
                let is = format!("{is}, tag {:016x}", inside.tag);
                found.differences.push(tell(format!("program {behind} behind program {number}"), is));
            }
            found.differences.extend(maps(inside).map(|(expected, is)| tell(expected, is)));
            let Some(settings) = &inside.settings else {
                found.differences.push(tell("a program of this agent".to_owned(), "another".to_owned()));
                continue;
            };
            let is_ethernet = settings.interface == INTERFACE_ETHERNET;
            let specialisation =
                built.specialisation(if is_ethernet { Kind::Ethernet } else { Kind::BareIp });
            let mut expected = sets.specification(set, expected)?.settings(specialisation);
            if !sets.staged.is_empty() {
                expected.features |= FEATURE_STAGED;
            }
            found.differences.extend(changed(&expected, settings).map(|(expected, is)| tell(expected, is)));
        }
    }
    Ok(found)
}

fn maps(program: &Inside) -> impl Iterator<Item = (String, String)> {
    program.strangers.iter().map(|stranger| {
        let number = |map: Option<u32>| map.map_or_else(|| "none".to_owned(), |map| format!("map {map}"));
        let name = stranger.name;
        (format!("{name}: {}", number(stranger.pinned)), format!("{name}: {}", number(stranger.used)))
    })
}

/// What a program was specialised by otherwise than it should be. Which ports the host gives to connections outwards,
/// and until when it takes up what it forwards, are of the moment at which it was loaded.
fn changed(expected: &Settings, is: &Settings) -> impl Iterator<Item = (String, String)> {
    let of = |settings: &Settings| {
        let Settings { generation, features, locals, remotes, wide, zone, link, .. } = *settings;
        let Settings {
            new_flows,
            event_budget,
            allowed_budget,
            allowed_mask,
            flow_mask,
            fixed_clock,
            timeouts,
            ..
        } = *settings;
        let numbers: [(&'static str, u64); 14] = [
            ("generation", generation.into()),
            ("features", features.into()),
            ("local classes", locals.into()),
            ("remote classes", remotes.into()),
            ("first wide class", wide.into()),
            ("zone", zone.into()),
            ("link protocols", link.into()),
            ("ns between new flows", new_flows.interval),
            ("burst of new flows", new_flows.tolerance),
            ("event budget", event_budget.into()),
            ("budget of flows that begin", allowed_budget.into()),
            ("mask of flows that begin", allowed_mask.into()),
            ("highest bucket of flows", flow_mask.into()),
            ("fixed clock", fixed_clock),
        ];
        let timeouts = timeouts.0.into_iter().map(|seconds| ("seconds of silence", seconds.into()));
        numbers.into_iter().chain(timeouts).collect::<Vec<_>>()
    };
    let pairs = of(expected).into_iter().zip(of(is)).filter(|(expected, is)| expected != is);
    pairs.map(|((name, expected), (_, is))| (format!("{name} {expected}"), format!("{name} {is}")))
}
