//! Interfaces, and sockets whose packets no TC program sees.

use std::cell::LazyCell;
use std::collections::BTreeMap;
use std::fs;

use bulkhead_dataplane::{Interface, Kind};

use super::xdp_sockets::{self, XdpSocket};
use super::{Finding, Level, Patient};
use crate::config::{HookChoice, Managed};
use crate::owners::{self, Owner};

/// The longest frame that drivers take with native XDP, as a rule: what fits into a page beside its headroom.
const LONGEST_FRAME: u32 = 3498;

pub(super) fn examine(patient: &Patient) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut indices = BTreeMap::new();
    for managed in &patient.config.interfaces {
        let name = &managed.name;
        let interface = match Interface::find(name) {
            Ok(interface) => interface,
            Err(_) if managed.is_optional => {
                findings.push(Finding::said(
                    "interface",
                    Level::Note,
                    format!("{name}: not there, and waited for"),
                ));
                continue;
            }
            Err(error) => {
                let found = format!("{:#}", anyhow::Error::from(error));
                let next = "make it, or set `optional = true` in agent.toml if it comes later";
                findings.push(Finding::new("interface", Level::Problem, found, next));
                continue;
            }
        };
        indices.insert(interface.index, name.clone());
        findings.extend(without_resolver(managed));
        let mtu = interface.mtu;
        let wants_native = interface.kind == Kind::Ethernet && managed.hook != HookChoice::Tcx;
        findings.push(if wants_native && mtu > LONGEST_FRAME {
            Finding::new(
                "interface",
                Level::Note,
                format!(
                    "{name}: MTU {mtu}, for which many drivers have no native XDP; it is enforced at TCX then"
                ),
                "set an MTU of 3498 or less if ingress is to be decided by XDP",
            )
        } else {
            Finding::ok("interface", format!("{name}: there, MTU {mtu}"))
        });
    }
    if patient.config.interfaces.is_empty() {
        let next = "name them as [[interface]] in agent.toml; `ip link` lists what is there";
        findings.push(Finding::new("interface", Level::Problem, "no interface is managed", next));
    }
    findings.extend(bypasses(&indices));
    findings
}

/// An overlay whose resolver on this host is not let through: with enforcement, names are resolved no longer.
fn without_resolver(managed: &Managed) -> Option<Finding> {
    if managed.overlay.is_some() || !managed.name.starts_with("tailscale") {
        return None;
    }
    let found =
        format!("{}: this host may not ask MagicDNS (100.100.100.100) unless a rule admits it", managed.name);
    let next = "set `overlay = \"tailscale\"` for the interface in agent.toml";
    Some(Finding::new("resolver", Level::Warning, found, next))
}

/// Sockets that send and receive past the programs, or may.
fn bypasses(managed: &BTreeMap<u32, String>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let text = fs::read_to_string("/proc/net/packet").unwrap_or_default();
    let sockets: Vec<_> = packet_sockets(&text)
        .into_iter()
        .filter(|(index, _)| *index == 0 || managed.contains_key(index))
        .collect();
    // Looked for at most once.
    let owners = LazyCell::new(owners::of_sockets);
    let owner = |inode: u64| match owners.get(&inode) {
        Some(Owner { pid, name }) => format!("{name} ({pid})"),
        None => "a process that cannot be seen".to_owned(),
    };
    for (index, inode) in &sockets {
        let at = managed.get(index).map_or("every interface", String::as_str);
        let who = owner(*inode);
        findings.push(Finding::new(
            "bypass",
            Level::Warning,
            format!("{who} has a packet socket on {at}: it sees packets that are dropped at TCX, and may send past TCX"),
            "end it if it need not be: DHCP clients and packet captures have one",
        ));
    }
    if findings.is_empty() {
        findings.push(Finding::ok("bypass", "no packet socket on a managed interface"));
    }
    match xdp_sockets::list() {
        Ok(sockets) => {
            let found: Vec<_> =
                sockets.iter().filter_map(|socket| passes_by(socket, managed, owner)).collect();
            if found.is_empty() {
                findings.push(Finding::ok("bypass", "no AF_XDP socket on a managed interface"));
            }
            findings.extend(found);
        }
        Err(error) => {
            let found = format!("AF_XDP sockets are not known: {error}");
            findings.push(Finding::said("bypass", Level::Note, found));
        }
    }
    findings
}

/// A socket whose packets pass by every program.
fn passes_by(
    socket: &XdpSocket,
    managed: &BTreeMap<u32, String>,
    owner: impl Fn(u64) -> String,
) -> Option<Finding> {
    let XdpSocket { index, queue, inode } = socket;
    let at = managed.get(index)?;
    let who = owner(*inode);
    let found =
        format!("{who} has an AF_XDP socket on {at}, queue {queue}: its packets pass by every program");
    Some(Finding::new("bypass", Level::Problem, found, "end it, or take the interface out of agent.toml"))
}

/// Interface indices (0: any) and inodes of /proc/net/packet.
fn packet_sockets(text: &str) -> Vec<(u32, u64)> {
    let socket = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        Some((fields.get(4)?.parse().ok()?, fields.get(8)?.parse().ok()?))
    };
    text.lines().skip(1).filter_map(socket).collect()
}

#[cfg(test)]
mod tests {
    use bulkhead_policy::resolve::{Overlay, OverlayServices};

    use super::{packet_sockets, without_resolver};
    use crate::config::{HookChoice, Managed};

    #[test]
    fn a_tailnet_without_its_resolver_is_told_of() {
        let managed = |name| Managed::new(name, HookChoice::Auto);
        assert!(without_resolver(&managed("tailscale0")).unwrap().next.unwrap().contains("overlay = "));
        assert_eq!(without_resolver(&managed("wg0")), None);
        let overlay = Some(OverlayServices { overlay: Overlay::Tailscale, location: None });
        assert_eq!(without_resolver(&Managed { overlay, ..managed("tailscale0") }), None);
    }

    #[test]
    fn sockets_are_read_as_the_kernel_lists_them() {
        let text = "sk               RefCnt Type Proto  Iface R Rmem   User   Inode\n\
                    0000000000000000 3      3    0003   2     1 0      0      31337\n\
                    0000000000000000 3      2    88cc   0     1 0      100    42\n";
        assert_eq!(packet_sockets(text), [(2, 31337), (0, 42)]);
    }
}
