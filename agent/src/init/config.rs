//! The text of agent.toml.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::host::{Host, Interface, Overlay};
use super::text::{list, quoted, shown};

/// The configuration of a host that is `node`, with those who operate it.
pub fn config(host: &Host, node: &str, operators: &BTreeMap<u16, BTreeSet<IpAddr>>) -> String {
    let mut text = format!(
        "# The agent of this host, as `bulkhead init` found it. Every key is in the agent.toml reference.\n\n\
         # This host's name in inventory.json.\n\
         node = {}\n\n\
         # \"audit\" reports what the policy would drop, and lets it pass; \"enforce\" drops it.\n\
         mode = \"audit\"\n\n\
         policy = \"policy.hujson\"\n\
         inventory = \"inventory.json\"\n",
        quoted(node)
    );
    let managed: Vec<(&Interface, Overlay)> = host.managed().collect();
    for (index, (interface, overlay)) in managed.iter().enumerate() {
        text += &section(interface, *overlay, index, managed.len());
    }
    if managed.is_empty() {
        text += "\n# No overlay interface was found. Name one once it is there.\n\
                 #[[interface]]\n#name = \"wg0\"\n#optional = true\n";
    }
    text += &others(host);
    text += "\n# Who reaches this host by TCP whatever the policy says, also if it is wrong.\n";
    for (port, from) in operators {
        let from = from.iter().map(ToString::to_string);
        text += &format!("[[management]]\nfrom = {}\nports = [{port}]\n", list(from));
    }
    if operators.is_empty() {
        text += "# Nobody was seen to operate it by SSH: name those who do, before \"enforce\".\n\
                 #[[management]]\n#from = [\"203.0.113.9\"]\n#ports = [22]\n";
    }
    text
}

fn section(interface: &Interface, overlay: Overlay, index: usize, count: usize) -> String {
    let what = match overlay {
        Overlay::Tailscale => "Tailscale's interface",
        Overlay::NetBird => "NetBird's interface",
        Overlay::WireGuard if interface.kind == "tun" => "WireGuard in user space",
        Overlay::WireGuard => "WireGuard",
    };
    let mut text = format!(
        "\n# {what}. It need not be there when the agent starts.\n\
         [[interface]]\nname = {}\noptional = true\n",
        quoted(&interface.name)
    );
    let served = match overlay {
        Overlay::Tailscale => Some(("tailscale", "MagicDNS at 100.100.100.100")),
        Overlay::NetBird => Some(("netbird", "its resolver")),
        Overlay::WireGuard => None,
    };
    if let Some((name, what)) = served {
        text +=
            &format!("# What it serves on this host itself passes: {what}.\noverlay = {}\n", quoted(name));
    }
    if count > 1 {
        // An overlay's peers cannot answer for another's in a zone of their own.
        text +=
            &format!("# No peer of another overlay may answer for one of this.\nzone = {}\n", 1 + 10 * index);
    }
    text
}

/// What is there and not enforced on.
fn others(host: &Host) -> String {
    let others: Vec<&Interface> =
        host.interfaces.iter().filter(|interface| interface.overlay().is_none()).collect();
    if others.is_empty() {
        return String::new();
    }
    let mut text = "\n# Not managed, and so not enforced on:\n".to_owned();
    for interface in others {
        let kind = if interface.kind.is_empty() { "Ethernet" } else { &*interface.kind };
        let uplink = if interface.is_uplink { ", the way out (default route)" } else { "" };
        text += &format!("#   {}: {}{uplink}\n", shown(&interface.name), shown(kind));
    }
    text += "# One that leads to the network beneath an overlay takes role = \"underlay\", and passes what is named alone.\n";
    text + "# An interface that faces an exchange takes role = \"exchange\", which the policy's venues are about.\n"
}
