//! The file's text → [`Config`], with the line of whatever is wrong.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use bulkhead_abi::per_second;
use bulkhead_policy::diagnostic::Location;
use bulkhead_policy::resolve;
use bulkhead_policy::source::{Source, Span};
use ipnet::IpNet;
use serde::Deserialize;
use toml::Spanned;

use super::{
    Binding, Config, HookChoice, Link, Managed, Mode, Role, alarms, events, history, roles, timeouts, tls,
    underlay,
};
#[cfg(feature = "agent")]
use super::{anchors, collector, fleet, sinks, sources, trust};
use crate::exit::Usage;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    node: Option<String>,
    policy: Option<PathBuf>,
    inventory: Option<PathBuf>,
    mode: Option<Mode>,
    guard: Option<bool>,
    watch: bool,
    interface: Vec<Interface>,
    management: Vec<Management>,
    flows: Flows,
    timeouts: timeouts::Section,
    events: events::Section,
    limits: Limits,
    identity: Identity,
    workloads: Workloads,
    tls: tls::Section,
    metrics: Metrics,
    control: Control,
    history: history::Section,
    alarms: alarms::Section,
    #[cfg(feature = "agent")]
    trust: Option<trust::Section>,
    #[cfg(not(feature = "agent"))]
    trust: serde::de::IgnoredAny,
    #[cfg(feature = "agent")]
    fleet: Option<Spanned<fleet::Section>>,
    #[cfg(not(feature = "agent"))]
    fleet: serde::de::IgnoredAny,
    #[cfg(feature = "agent")]
    collector: Option<Spanned<collector::Section>>,
    #[cfg(not(feature = "agent"))]
    collector: serde::de::IgnoredAny,
    #[cfg(feature = "agent")]
    sink: Vec<sinks::Section>,
    #[cfg(feature = "agent")]
    anchor: Vec<anchors::Section>,
    #[cfg(feature = "agent")]
    source: Vec<sources::Section>,
    #[cfg(not(feature = "agent"))]
    sink: serde::de::IgnoredAny,
    #[cfg(not(feature = "agent"))]
    anchor: serde::de::IgnoredAny,
    #[cfg(not(feature = "agent"))]
    source: serde::de::IgnoredAny,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Interface {
    name: Spanned<String>,
    zone: Option<Spanned<i64>>,
    hook: Option<HookChoice>,
    #[serde(default)]
    optional: bool,
    role: Option<Role>,
    #[serde(default)]
    link: Vec<Link>,
    wireguard: Option<Spanned<underlay::WireGuard>>,
    outbound: Option<Spanned<Vec<Spanned<underlay::Outbound>>>>,
    presets: Option<Spanned<Vec<Spanned<String>>>>,
    overlay: Option<Spanned<Overlay>>,
}

/// An overlay that serves addresses on the host itself.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Overlay {
    Tailscale,
    NetBird,
}

impl From<Overlay> for resolve::Overlay {
    fn from(overlay: Overlay) -> Self {
        match overlay {
            Overlay::Tailscale => Self::Tailscale,
            Overlay::NetBird => Self::NetBird,
        }
    }
}

/// Who may always reach this node.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Management {
    from: Spanned<Vec<Spanned<String>>>,
    ports: Vec<Spanned<i64>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Flows {
    capacity: Option<Spanned<i64>>,
}

/// Where Prometheus may ask.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Metrics {
    listen: Option<Spanned<SocketAddr>>,
}

/// Who besides root may use the agent's socket.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Control {
    read: Option<Spanned<String>>,
    change: Option<Spanned<String>>,
}

/// What holds where the host has workloads.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Workloads {
    refuse_bypass: Refused,
}

/// To whom options are refused that lead around the programs on interfaces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Refused {
    #[default]
    Workloads,
    All,
}

/// Whether identities are held to their keys.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Identity {
    binding: Binding,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Limits {
    table_memory_mib: Option<Spanned<i64>>,
    spare_addresses: Option<Spanned<i64>>,
    new_flows_per_second: Option<Spanned<i64>>,
    event_budget: Option<Spanned<i64>>,
    read_back_seconds: Option<Spanned<i64>>,
}

/// Flows: each takes 128 bytes, since half of the table is kept free.
const FLOWS: RangeInclusive<i64> = 1024..=16_777_216;
/// Up to 30 days, seconds.
const TIMEOUT: RangeInclusive<i64> = 1..=30 * 24 * 60 * 60;
const ZONE: RangeInclusive<i64> = 1..=65_535;
const TABLE_MIB: RangeInclusive<i64> = 1..=65_536;
const SPARES: RangeInclusive<i64> = 0..=65_536;
/// 0: any number.
const NEW_FLOWS: RangeInclusive<i64> = 0..=10_000_000;
pub(super) const BUDGET: RangeInclusive<i64> = 1..=10_000_000;
/// 0: never; up to a day.
const READ_BACK: RangeInclusive<i64> = 0..=24 * 60 * 60;
pub(super) const PORT: RangeInclusive<i64> = 1..=65_535;

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
        watch: file.watch,
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
        ("capacity", &file.flows.capacity, FLOWS, &mut capacity.flows),
        ("spare_addresses", &file.limits.spare_addresses, SPARES, &mut capacity.spare_addresses),
    ] {
        if let Some(value) = value {
            *to = number(name, value, bounds)?;
        }
    }
    file.events.read(&source, &mut config)?;
    if let Some(mib) = &file.limits.table_memory_mib {
        config.table_memory = u64::from(number("table_memory_mib", mib, TABLE_MIB)?) << 20;
    }
    for (name, state, value) in file.timeouts.entries() {
        config.timeouts.0[state as usize] = number(name, value, TIMEOUT)?;
    }
    if let Some(flows) = &file.limits.new_flows_per_second {
        config.new_flows = per_second(number("new_flows_per_second", flows, NEW_FLOWS)?);
    }
    if let Some(budget) = &file.limits.event_budget {
        config.event_budget = number("event_budget", budget, BUDGET)?;
    }
    if let Some(seconds) = &file.limits.read_back_seconds {
        config.read_back_seconds = number("read_back_seconds", seconds, READ_BACK)?;
    }
    config.refuse_bypass_to_all = file.workloads.refuse_bypass == Refused::All;
    config.binding = file.identity.binding;
    #[cfg(feature = "agent")]
    if let Some(section) = &file.trust {
        let trust =
            section.read().map_err(|(span, words)| at(&source, span.start, &format!("trust: {words}")))?;
        config.trust = Some(trust.beside(path));
    }
    config.history = file.history.read(&source)?;
    config.tls = file.tls.read(&source, path.parent().unwrap_or(Path::new("")))?;
    if let Some(listen) = &file.metrics.listen {
        let address = *listen.get_ref();
        if !address.ip().is_loopback() {
            let words = format!(
                "listen: {} is not a loopback address; try 127.0.0.1:{}",
                address.ip(),
                address.port()
            );
            return Err(at(&source, listen.span().start, &words));
        }
        config.metrics = Some(address);
    }
    for (name, given, to) in [
        ("read", &file.control.read, &mut config.control.read),
        ("change", &file.control.change, &mut config.control.change),
    ] {
        if let Some(group) = given {
            *to = Some(group_name(&source, name, group)?);
        }
    }
    if let (None, Some(change)) = (&file.control.read, &file.control.change) {
        let words = "change: who may change must be able to connect; name a `read` group that its members are in, too";
        return Err(at(&source, change.span().start, words));
    }
    for management in &file.management {
        let span = management.from.span();
        config.management.push(resolve::Management {
            sources: prefixes(&source, management.from.get_ref())?,
            ports: ports(&source, &management.ports)?,
            location: Some(Location::new(&source, Span { start: span.start, end: span.end })),
        });
    }
    let mut seen = HashSet::new();
    let mut starts = Vec::new();
    for interface in file.interface {
        let start = interface.name.span().start;
        starts.push(start);
        let name = interface.name.into_inner();
        // ALTIFNAMSIZ holds 127 bytes and the end.
        if name.is_empty() || name.len() > 127 || name.contains(['/', ' ', ':']) {
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
        let role = interface.role.unwrap_or_default();
        if let Some(problem) = roles::misplaced(&name, role, interface.hook, &interface.link) {
            return Err(at(&source, start, &problem));
        }
        let section = underlay::Section {
            role,
            wireguard: interface.wireguard,
            outbound: interface.outbound,
            presets: interface.presets,
        };
        let read = section.read(&source)?;
        if role == Role::Underlay {
            config.underlay.wireguard.extend(read.wireguard);
            config.underlay.outbound.extend(read.outbound);
            for used in read.presets {
                if config.underlay.presets.iter().all(|known| known.preset != used.preset) {
                    config.underlay.presets.push(used);
                }
            }
        } else {
            config.wireguard.extend(read.wireguard);
        }
        if let Some(overlay) = interface.overlay.as_ref().filter(|_| role != Role::Overlay) {
            let message = "overlay: only on interfaces with role = \"overlay\"; remove it, or the role";
            return Err(at(&source, overlay.span().start, message));
        }
        let overlay = interface.overlay.map(|overlay| {
            let span = overlay.span();
            let location = Location::new(&source, Span { start: span.start, end: span.end });
            resolve::OverlayServices { overlay: overlay.into_inner().into(), location: Some(location) }
        });
        config.interfaces.push(Managed {
            name,
            zone: zone.map(|zone| zone as u16),
            hook: interface.hook.unwrap_or_default(),
            is_optional: interface.optional,
            role,
            link: interface.link,
            overlay,
        });
    }
    config.alarms = file.alarms.read(&source, &config.interfaces)?;
    #[cfg(feature = "agent")]
    {
        let directory = path.parent().unwrap_or(Path::new(""));
        config.sinks = sinks::read(&source, directory, file.sink)?;
        config.anchors = anchors::read(&source, directory, file.anchor)?;
        config.sources = sources::read(&source, directory, file.source)?;
        let of_fleet = file.fleet.as_ref().map(|section| section.span().start);
        config.fleet = file.fleet.map(|section| fleet::read(&source, directory, section)).transpose()?;
        let has_servers =
            config.fleet.as_ref().is_some_and(|fleet| matches!(fleet.from, fleet::From::Servers { .. }));
        let collector =
            file.collector.map(|section| collector::read(&source, directory, section, has_servers));
        config.collector = collector.transpose()?;
        if let (Some(start), true) = (of_fleet, config.watch) {
            let words =
                "fleet: what is followed is the fleet's, and not the files that `run` names; remove `watch`";
            return Err(at(&source, start, words));
        }
    }
    if let Some((index, zone, other)) = roles::shared_zone(&config.interfaces) {
        let Managed { name, role, .. } = &config.interfaces[index];
        let message = format!(
            "zone {zone} is {} and {}, so that a peer of one could answer for the other; give {name} another",
            roles::whose(*role),
            roles::whose(other)
        );
        return Err(at(&source, starts[index], &message));
    }
    Ok(config)
}

/// The name of a group, or its number.
fn group_name(source: &Source, key: &str, group: &Spanned<String>) -> Result<String, Usage> {
    let name = group.get_ref();
    if name.is_empty()
        || name.len() > 256
        || name.contains([':', ',', '/'])
        || name.contains(char::is_whitespace)
    {
        let words = format!("{key}: '{name}' is no group's name; `getent group` lists them");
        return Err(at(source, group.span().start, &words));
    }
    Ok(name.clone())
}

pub(super) fn prefixes(source: &Source, texts: &[Spanned<String>]) -> Result<Vec<IpNet>, Usage> {
    let parse = |text: &Spanned<String>| {
        let written = text.get_ref();
        let address = || written.parse::<IpAddr>().ok().map(IpNet::from);
        let refuse = |words: &str| at(source, text.span().start, &format!("'{written}' {words}"));
        let prefix = written.parse::<IpNet>().ok().or_else(address);
        let prefix =
            prefix.ok_or_else(|| refuse("is neither an address nor a prefix such as 203.0.113.0/24"))?;
        if prefix.addr() != prefix.network() {
            // A slip of the pen in the length opens what nobody meant.
            let (whole, one) = (prefix.trunc(), IpNet::from(prefix.addr()));
            return Err(refuse(&format!("is an address with the length of a prefix: {whole} or {one}?")));
        }
        Ok(prefix)
    };
    texts.iter().map(parse).collect()
}

pub(super) fn ports(source: &Source, ports: &[Spanned<i64>]) -> Result<Vec<u16>, Usage> {
    ports.iter().map(|port| Ok(bounded(source, "port", port, PORT)? as u16)).collect()
}

pub(super) fn at(source: &Source, byte: usize, message: &str) -> Usage {
    let position = source.position(byte);
    Usage(format!("{}:{}:{}: {message}", source.name(), position.line, position.column))
}

pub(super) fn bounded(
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
