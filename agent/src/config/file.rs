//! The file's text → [`Config`], with the line of whatever is wrong.

use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use bulkhead_compiler::source::Source;
use serde::Deserialize;
use toml::Spanned;

use super::{Config, HookChoice, Managed, Mode, timeouts};
use crate::exit::Usage;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    node: Option<String>,
    policy: Option<PathBuf>,
    inventory: Option<PathBuf>,
    mode: Option<Mode>,
    guard: Option<bool>,
    interface: Vec<Interface>,
    flows: Flows,
    timeouts: timeouts::Section,
    events: Events,
    limits: Limits,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Interface {
    name: Spanned<String>,
    zone: Option<Spanned<i64>>,
    hook: Option<HookChoice>,
    #[serde(default)]
    optional: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Flows {
    unreplied: Option<Spanned<i64>>,
    established: Option<Spanned<i64>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Events {
    ring_bytes: Option<Spanned<i64>>,
    aggregates: Option<Spanned<i64>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Limits {
    table_memory_mib: Option<Spanned<i64>>,
    spare_addresses: Option<Spanned<i64>>,
}

/// Flow tables: an LRU map hands out its elements in batches, so tiny ones evict what they just took.
const FLOWS: RangeInclusive<i64> = 1024..=16_777_216;
const AGGREGATES: RangeInclusive<i64> = 64..=1_048_576;
const RING_BYTES: RangeInclusive<i64> = 4096..=1_073_741_824;
const TIMEOUT: RangeInclusive<i64> = 1..=65_535;
const ZONE: RangeInclusive<i64> = 1..=65_535;
const TABLE_MIB: RangeInclusive<i64> = 1..=65_536;
const SPARES: RangeInclusive<i64> = 0..=65_536;

/// Parses and checks a file. Relative paths in it start at its directory.
pub(super) fn parse(path: &Path, text: &str) -> Result<Config, Usage> {
    let source = Source::new(&path.display().to_string(), text);
    let file: File = toml::from_str(source.text()).map_err(|error| {
        at(&source, error.span().map_or(0, |span| span.start), &error.message().replace('\n', " "))
    })?;
    let number =
        |name: &str, value: &Spanned<i64>, bounds: RangeInclusive<i64>| bounded(&source, name, value, bounds);
    let mut config = Config {
        node: file.node,
        mode: file.mode.unwrap_or_default(),
        guard: file.guard.unwrap_or(true),
        ..Config::default()
    };
    let beside = |file: PathBuf| path.parent().unwrap_or(Path::new("")).join(file);
    if let Some(policy) = file.policy {
        config.policy = beside(policy);
    }
    if let Some(inventory) = file.inventory {
        config.inventory = beside(inventory);
    }
    let capacity = &mut config.capacity;
    for (name, value, bounds, to) in [
        ("unreplied", &file.flows.unreplied, FLOWS, &mut capacity.unreplied),
        ("established", &file.flows.established, FLOWS, &mut capacity.established),
        ("aggregates", &file.events.aggregates, AGGREGATES, &mut capacity.aggregates),
        ("ring_bytes", &file.events.ring_bytes, RING_BYTES, &mut capacity.event_bytes),
        ("spare_addresses", &file.limits.spare_addresses, SPARES, &mut capacity.spare_addresses),
    ] {
        if let Some(value) = value {
            *to = number(name, value, bounds)?;
        }
    }
    if let Some(bytes) = file.events.ring_bytes.filter(|_| !capacity.event_bytes.is_power_of_two()) {
        return Err(at(&source, bytes.span().start, "ring_bytes: not a power of two; try 1048576"));
    }
    if let Some(mib) = &file.limits.table_memory_mib {
        config.table_memory = u64::from(number("table_memory_mib", mib, TABLE_MIB)?) << 20;
    }
    for (name, state, value) in file.timeouts.entries() {
        config.timeouts.0[state as usize] = number(name, value, TIMEOUT)? as u16;
    }
    let mut seen = HashSet::new();
    for interface in file.interface {
        let start = interface.name.span().start;
        let name = interface.name.into_inner();
        // IFNAMSIZ holds 15 bytes and the end.
        if name.is_empty() || name.len() > 15 || name.contains(['/', ' ', ':']) {
            return Err(at(
                &source,
                start,
                &format!(
                    "interface '{name}': no interface can have that name; `ip link` lists what is there"
                ),
            ));
        }
        if !seen.insert(name.clone()) {
            return Err(at(&source, start, &format!("interface {name} is there twice; remove one of them")));
        }
        let zone = interface.zone.map(|zone| number("zone", &zone, ZONE)).transpose()?;
        config.interfaces.push(Managed {
            name,
            zone: zone.map(|zone| zone as u16),
            hook: interface.hook.unwrap_or_default(),
            is_optional: interface.optional,
        });
    }
    Ok(config)
}

fn at(source: &Source, byte: usize, message: &str) -> Usage {
    let position = source.position(byte);
    Usage(format!("{}:{}:{}: {message}", source.name(), position.line, position.column))
}

fn bounded(
    source: &Source,
    name: &str,
    value: &Spanned<i64>,
    bounds: RangeInclusive<i64>,
) -> Result<u32, Usage> {
    let given = *value.get_ref();
    let fits = bounds.contains(&given).then(|| u32::try_from(given).ok()).flatten();
    fits.ok_or_else(|| {
        let (first, last) = (bounds.start(), bounds.end());
        at(source, value.span().start, &format!("{name}: {given} is not between {first} and {last}"))
    })
}
