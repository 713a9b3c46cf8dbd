use bulkhead_api::hook::Kind;
use bulkhead_policy::resolve::{PeerPorts, Preset};

use crate::config::tests::{is_refused, parse};
use crate::config::{Link, Role};

#[test]
fn an_underlay_interface_has_flows_of_its_own_and_a_zone_of_its_own() {
    let config = parse(
        r#"
        [[interface]]
        name = "wg0"
        [[interface]]
        name = "eth1"
        role = "exchange"
        wireguard = { port = 4500, peers = ["198.51.100.0/24"] }
        [[interface]]
        name = "eth0"
        role = "underlay"
        link = ["dhcp", "ra"]
        wireguard = { port = 51820, peers = ["203.0.113.0/24", "2001:db8::/32"], peer_ports = "any" }
        presets = ["tailscale"]
        outbound = [
            { proto = "udp", to = ["9.9.9.9", "2620:fe::fe"], ports = [53, 123] },
            { proto = "icmp", to = ["192.0.2.0/24"] },
        ]
        [[interface]]
        name = "eth2"
        role = "underlay"
        outbound = [{ proto = "tcp", to = ["0.0.0.0/0"], ports = [443] }]
        "#,
    )
    .unwrap();
    let (wg0, eth1, eth0) = (&config.interfaces[0], &config.interfaces[1], &config.interfaces[2]);
    assert_eq!((eth0.role, &*eth0.link), (Role::Underlay, &[Link::Dhcp, Link::Ra][..]));
    let zones = [
        wg0.zone(Kind::BareIp),
        wg0.zone(Kind::Ethernet),
        eth1.zone(Kind::Ethernet),
        eth0.zone(Kind::Ethernet),
    ];
    assert_eq!(zones, [1, 2, 3, 4]);
    let exemptions = config.exemptions("a");
    assert_eq!(exemptions.wireguard.len(), 1, "of exchange interfaces alone");
    let underlay = exemptions.underlay.unwrap();
    assert_eq!((underlay.wireguard[0].port, &underlay.wireguard[0].peer_ports), (51820, &PeerPorts::Any));
    let ports: Vec<_> = underlay.outbound.iter().map(|flows| (flows.protocol, &*flows.ports)).collect();
    assert_eq!(ports, [(17, &[53, 123][..]), (1, &[]), (6, &[443])], "of both interfaces");
    let place = underlay.outbound[0].location.as_ref().unwrap().to_string();
    assert!(place.ends_with("agent.toml:15:13"), "{place}");
    assert_eq!(underlay.presets[0].preset, Preset::Tailscale);
    assert_eq!(parse("[[interface]]\nname = \"a\"").unwrap().exemptions("a").underlay, None);
}

#[test]
fn what_is_wrong_with_an_underlay_interface_has_its_place() {
    let underlay = "[[interface]]\nname = \"a\"\nrole = \"underlay\"\n";
    for (text, place, words) in [
        ("outbound = [{ proto = \"gre\", to = [\"192.0.2.1\"] }]", "4:23", "'gre' is not known here"),
        ("outbound = [{ proto = \"udp\", to = [\"192.0.2.1\"] }]", "4:13", "udp needs 1 to 64 ports"),
        (
            "outbound = [{ proto = \"udp\", to = [\"192.0.2.1\"], ports = [] }]",
            "4:58",
            "udp needs 1 to 64 ports",
        ),
        (
            "outbound = [{ proto = \"udp\", to = [\"192.0.2.1\"], ports = [0] }]",
            "4:59",
            "not between 1 and 65535",
        ),
        ("outbound = [{ proto = \"icmp\", to = [\"192.0.2.1\"], ports = [1] }]", "4:59", "icmp has none"),
        ("outbound = [{ proto = \"tcp\", to = [], ports = [1] }]", "4:35", "nobody is named"),
        (
            "outbound = [{ proto = \"tcp\", to = [\"dns\"], ports = [1] }]",
            "4:36",
            "neither an address nor a prefix",
        ),
        ("outbound = [{ proto = \"tcp\", from = [] }]", "4:30", "unknown field `from`"),
        ("presets = [\"tailscale\", \"zerotier\"]", "4:25", "none of the name 'zerotier'"),
        ("presets = [\"tailscale\", \"tailscale\"]", "4:25", "there twice"),
        (
            "wireguard = { port = 1, peers = [], peer_ports = \"all\" }",
            "4:50",
            "neither a list of ports nor \"any\"",
        ),
        (
            "wireguard = { port = 1, peers = [], peer_ports = [70000] }",
            "4:50",
            "70000 is not between 1 and 65535",
        ),
        ("overlay = \"tailscale\"", "4:11", "overlay: only on interfaces with role = \"overlay\""),
    ] {
        is_refused(&format!("{underlay}{text}"), place, words);
    }
    for (text, place, words) in [
        (
            "[[interface]]\nname = \"a\"\npresets = [\"tailscale\"]",
            "3:11",
            "presets: only on interfaces with role = \"underlay\"",
        ),
        (
            "[[interface]]\nname = \"a\"\nrole = \"exchange\"\noutbound = []",
            "4:12",
            "outbound: only on interfaces",
        ),
        (
            "[[interface]]\nname = \"a\"\nwireguard = { port = 1, peers = [] }",
            "3:13",
            "wireguard: only on interfaces",
        ),
        (
            "[[interface]]\nname = \"a\"\nrole = \"underlay\"\nzone = 1\n[[interface]]\nname = \"b\"",
            "2:8",
            "zone 1 is an underlay interface's and an overlay's",
        ),
        (
            "[[interface]]\nname = \"a\"\nrole = \"underlay\"\nzone = 3\n[[interface]]\nname = \"b\"\nrole = \"exchange\"",
            "2:8",
            "zone 3 is an underlay interface's and an exchange interface's",
        ),
    ] {
        is_refused(text, place, words);
    }
}
