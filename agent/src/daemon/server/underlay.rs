//! What `bulkhead status` tells of underlay interfaces.

use bulkhead_api::status::UnderlayInterface;
use bulkhead_dataplane::Dataplane;
use bulkhead_policy::resolve::{self, Outbound, PeerPorts};
use bulkhead_policy::service;
use ipnet::IpNet;

use crate::daemon::state::addresses::by_interface;
use crate::daemon::state::{Enforcer, Live};

/// The interfaces, and what somebody should know of them.
pub struct Underlay {
    pub interfaces: Vec<UnderlayInterface>,
    pub warnings: Vec<String>,
}

impl Underlay {
    /// As the kernel has them now.
    pub fn look<D: Dataplane>(enforcer: &Enforcer<D>, live: &Live<D>) -> Self {
        let config = &enforcer.setup.config;
        if !config.has_underlay() {
            return Self { interfaces: Vec::new(), warnings: Vec::new() };
        }
        let mut warnings = Vec::new();
        let found = enforcer.plane.devices().and_then(|devices| by_interface(&devices, config));
        let found = found.unwrap_or_else(|error| {
            warnings.push(format!("addresses of underlay interfaces are not known: {error}"));
            Vec::new()
        });
        let link = |name: &str| {
            let managed = config.interfaces.iter().find(|managed| managed.name == name);
            managed.map(|managed| managed.link.clone()).unwrap_or_default()
        };
        let interfaces: Vec<_> = found
            .into_iter()
            .map(|(interface, addresses)| UnderlayInterface {
                addresses: addresses.into_iter().collect(),
                link: link(&interface),
                interface,
            })
            .collect();
        let now = interfaces.iter().flat_map(|interface| &interface.addresses);
        let missing: Vec<_> = now.filter(|address| !live.built.addresses.contains(address)).collect();
        if let [first, more @ ..] = &missing[..] {
            let more = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
            warnings.push(format!(
                "what is enforced does not know {first}{more} of the underlay interfaces yet: nothing passes there \
                 until the next generation does; if that does not come, the agent's log says why"
            ));
        }
        let bare = interfaces.iter().filter(|interface| interface.addresses.is_empty());
        warnings.extend(bare.map(|UnderlayInterface { interface, .. }| {
            format!(
                "underlay interface {interface} has no address: nothing but its link protocols passes there"
            )
        }));
        Self { interfaces, warnings }
    }
}

fn list<T: ToString>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// What passes there, for people.
pub fn passes(underlay: &resolve::Underlay) -> Vec<String> {
    let wireguard = underlay.wireguard.iter().map(|exempt| {
        let theirs = match &exempt.peer_ports {
            PeerPorts::Same => String::new(),
            PeerPorts::Of(ports) => format!(", which listen on {}", list(ports)),
            PeerPorts::Any => ", at any port of theirs".to_owned(),
        };
        format!("WireGuard on underlay interfaces: UDP {} with {}{theirs}", exempt.port, list(&exempt.peers))
    });
    let outbound = underlay
        .outbound
        .iter()
        .map(|Outbound { protocol, to, ports, .. }| begins(*protocol, ports, &list::<IpNet>(to)));
    let presets = underlay.presets.iter().flat_map(|used| {
        let preset = used.preset;
        let inward =
            format!("{} preset: UDP {} from anyone to underlay addresses", preset.name(), preset.inbound());
        let outward = preset.outbound().iter().map(move |(protocol, ports)| {
            format!("{} preset: {}", preset.name(), begins(*protocol, ports, "anyone"))
        });
        std::iter::once(inward).chain(outward)
    });
    wireguard.chain(outbound).chain(presets).collect()
}

/// Flows that this host may begin.
fn begins(protocol: u8, ports: &[u16], to: &str) -> String {
    let what = match protocol {
        service::TCP => format!("TCP {}", list(ports)),
        service::UDP => format!("UDP {}", list(ports)),
        _ => "ICMP echo".to_owned(),
    };
    format!("outbound on underlay interfaces: {what} to {to}")
}

#[cfg(test)]
mod tests {
    use bulkhead_policy::resolve::{Preset, Underlay, UsedPreset};

    use super::passes;

    #[test]
    fn a_preset_is_told_in_full() {
        let used = UsedPreset { preset: Preset::Tailscale, location: None };
        let told = passes(&Underlay { presets: vec![used], ..Underlay::default() });
        assert_eq!(
            told,
            [
                "tailscale preset: UDP 41641 from anyone to underlay addresses",
                "tailscale preset: outbound on underlay interfaces: UDP 3478, 41641 to anyone",
                "tailscale preset: outbound on underlay interfaces: TCP 443 to anyone",
            ]
        );
    }
}
