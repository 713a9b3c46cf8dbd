//! Link protocols, on Ethernet: where all of them are named, what their documents ask for passes and
//! what lacks it does not; where none is, none passes, and what a host needs has reasons of its own.

use std::net::IpAddr;

use bulkhead_abi::{Direction, LINK_IGMP, Rate};
use bulkhead_dataplane::Kind;
use bulkhead_engine::Reason;
use bulkhead_engine::parse::protocol::{ICMPV6, IGMP, UDP, VRRP};
use bulkhead_testkit::packets::build::{Extension, Ip, ethernet, icmp, udp};

use crate::kernel::Program;
use crate::steps::{Scene, Stage, Step};
use crate::world::{self, Place};

/// IPv4: more fragments.
const MORE: u16 = 0x2000;

/// Groups that no bridge forwards, PTP's, one host, and everybody.
const RESERVED: [u8; 6] = [1, 0x80, 0xc2, 0, 0, 0];
const NEAREST: [u8; 6] = [1, 0x80, 0xc2, 0, 0, 0x0e];
const BEYOND: [u8; 6] = [1, 0x80, 0xc2, 0, 0, 0x10];
const CLOCKS: [u8; 6] = [1, 0x1b, 0x19, 0, 0, 0];
const ONE: [u8; 6] = [2, 0, 0, 0, 0, 1];
const ALL: [u8; 6] = [0xff; 6];

/// A frame that is not IP: its name, to whom it is, tags, EtherType, and whether it passes where all is named.
type Frame = (&'static str, [u8; 6], &'static [u16], u16, bool);

const FRAMES: [Frame; 16] = [
    ("lacp", RESERVED, &[], 0x8809, true),
    ("lacp to one host", ONE, &[], 0x8809, false),
    ("lldp", NEAREST, &[], 0x88cc, true),
    ("lldp to one host", ONE, &[], 0x88cc, false),
    ("lldp to all", ALL, &[], 0x88cc, false),
    ("lldp to a group that bridges forward", BEYOND, &[], 0x88cc, false),
    ("lldp in a VLAN", NEAREST, &[0x8100], 0x88cc, false),
    ("ptp", CLOCKS, &[], 0x88f7, true),
    ("ptp between neighbours", NEAREST, &[], 0x88f7, true),
    ("ptp to all", ALL, &[], 0x88f7, false),
    ("eapol", RESERVED, &[], 0x888e, true),
    ("eapol to one host", ONE, &[], 0x888e, true),
    ("eapol to all", ALL, &[], 0x888e, false),
    ("macsec", ONE, &[], 0x88e5, true),
    ("pppoe", ONE, &[], 0x8863, false),
    ("802.3", ONE, &[], 0x0026, false),
];

/// Plays everything on every program; returns the reasons.
pub fn play() -> Vec<Reason> {
    let compiled = world::program();
    let mut reached = Vec::new();
    for (named, igmp) in [(0, false), (!LINK_IGMP, false), (LINK_IGMP, true)] {
        let mut stage = Stage::with(&compiled, Kind::Ethernet, false, Rate::default(), named);
        for program in Program::ALL {
            for v4 in [true, false] {
                let place = Place::new(program.direction(), v4);
                for scene in scenes(&place, named & !LINK_IGMP != 0, igmp) {
                    reached.extend(stage.play(program, &place, &scene));
                }
            }
        }
    }
    reached
}

/// An address of a family.
fn of(v4: bool, first: &str, second: &str) -> IpAddr {
    (if v4 { first } else { second }).parse().expect("an address")
}

fn scenes(place: &Place, all: bool, igmp: bool) -> Vec<Scene> {
    let scene = |name, step| Scene { name, start: None, steps: vec![step] };
    let ip = |to, number, hop_limit, payload| Ip { hop_limit, ..Ip::new(place.from, to, number, payload) };
    let datagram = |to, ports, hop_limit| ip(to, UDP, hop_limit, udp(ports, &[0; 24]));
    let one = place.to;
    let group = |v4, v6| of(place.v4, v4, v6);
    let advertised = vec![0x31, 1, 100, 1, 0, 100, 0, 0, 192, 0, 2, 1];
    let vrrp = |to, hop_limit| ip(to, VRRP, hop_limit, advertised.clone());
    let routers = group("224.0.0.18", "ff02::12");
    let mut fragment = Ip { payload: vec![0; 16], ..vrrp(routers, 255) };
    if place.v4 {
        fragment.fragment = MORE;
    } else {
        fragment.extensions = vec![Extension::fragment(0, true, 9)];
    }

    let nobodys =
        if place.direction == Direction::Ingress { Reason::NotLocal } else { Reason::UnknownAddress };
    // Passes where it is named, and why it is dropped elsewhere; never passes, and why.
    let (named, never) = (|refused| if all { Reason::Link } else { refused }, |refused| refused);
    let mut scenes = vec![];
    for (name, packet, reason) in [
        ("ptp to one host", datagram(one, (319, 319), 1), named(Reason::NoFlow)),
        ("ptp to its group", datagram(group("224.0.1.129", "ff0e::181"), (319, 319), 1), named(nobodys)),
        ("ptp to another", datagram(group("224.0.1.128", "ff0e::180"), (319, 319), 1), never(nobodys)),
        ("multihop bfd", datagram(one, (50_000, 4784), 60), named(Reason::NoFlow)),
        ("micro-bfd", datagram(one, (50_000, 6784), 255), named(Reason::NoFlow)),
        ("micro-bfd that was forwarded", datagram(one, (50_000, 6784), 254), never(Reason::NoFlow)),
        ("vrrp", vrrp(routers, 255), named(nobodys)),
        ("vrrp that was forwarded", vrrp(routers, 254), never(nobodys)),
        ("vrrp to another group", vrrp(group("224.0.0.19", "ff02::13"), 255), never(nobodys)),
        ("vrrp to one host", vrrp(one, 255), never(Reason::NoFlow)),
        ("vrrp in fragments", fragment, never(nobodys)),
    ] {
        scenes.push(scene(name, Step::forth(&packet, reason)));
    }
    for (name, to, tags, ethertype, known) in FRAMES {
        let reason = if all && known { Reason::Link } else { Reason::LinkProtocol };
        let mut frame = ethernet(tags, ethertype, &[0; 60]);
        frame[..6].copy_from_slice(&to);
        scenes.push(scene(name, Step::frame(frame, reason)));
    }
    let membership = if igmp { Reason::Membership } else { Reason::MembershipGroup };
    // Where PTP passes its groups may be joined, so reports are read.
    let foreign = group("239.9.9.9", "ff1e::9");
    let named = (all && place.direction == Direction::Egress).then_some(foreign);
    let about = |packet: &Ip| Step { named, ..Step::forth(packet, membership) };
    if let IpAddr::V4(foreign) = foreign {
        let report = [&[0x22, 0, 0, 0, 0, 0, 0, 1, 4, 0, 0, 0][..], &foreign.octets()].concat();
        scenes.push(scene("igmp", about(&ip(group("224.0.0.22", ""), IGMP, 1, report.clone()))));
        // Neither forwarded nor to one host.
        let refused = |packet: &Ip, reason| Step::forth(packet, reason);
        let forwarded = ip(group("224.0.0.22", ""), IGMP, 64, report.clone());
        scenes.push(scene("igmp that was forwarded", refused(&forwarded, nobodys)));
        scenes.push(scene("igmp to one host", refused(&ip(one, IGMP, 1, report), Reason::NoFlow)));
    } else if let IpAddr::V6(foreign) = foreign {
        let record = [&[4, 0, 0, 0][..], &foreign.octets()].concat();
        let mut report = ip(group("", "ff02::16"), ICMPV6, 1, icmp(143, 0, [0, 0, 0, 1], &record));
        report.extensions = vec![Extension::padded(0, 0)];
        scenes.push(scene("mld", about(&report)));
        scenes.extend(discovery(all).map(|(name, packet, reason)| scene(name, Step::forth(&packet, reason))));
    }
    scenes
}

/// Router discovery.
fn discovery(all: bool) -> impl Iterator<Item = (&'static str, Ip, Reason)> {
    let address = |text: &str| of(false, "", text);
    let message = move |from: &str, to: &str, kind, hop_limit| {
        let body = icmp(kind, 0, [64, 0, 7, 8], &[0; 8]);
        Ip { hop_limit, ..Ip::new(address(from), address(to), ICMPV6, body) }
    };
    let (router, hosts) = ("fe80::1", "ff02::1");
    let named = if all { Reason::Link } else { Reason::RouterDiscovery };
    let mut fragment = message(router, hosts, 134, 255);
    fragment.extensions = vec![Extension::fragment(0, true, 9)];
    let mut atomic = message(router, hosts, 134, 255);
    atomic.extensions = vec![Extension::fragment(0, false, 9)];
    [
        ("an advertisement in one fragment", atomic, Reason::NotLocal),
        ("an advertisement", message(router, hosts, 134, 255), named),
        ("an advertisement to one host", message(router, "fe80::8", 134, 255), named),
        ("an advertisement that was forwarded", message(router, hosts, 134, 254), Reason::NotLocal),
        ("an advertisement of no router", message("2001:db8::1", hosts, 134, 255), Reason::NotLocal),
        ("an advertisement in fragments", fragment, Reason::NotLocal),
        ("a solicitation", message("::", "ff02::2", 133, 255), named),
        ("a solicitation that was forwarded", message("fe80::8", "ff02::2", 133, 64), Reason::NotLocal),
        ("a redirect", message(router, "fe80::8", 137, 255), Reason::NotLocal),
    ]
    .into_iter()
}
