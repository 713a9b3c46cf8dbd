//! Reasons of venues, rates, link protocols and memberships: a world with a venue in it, on a
//! program that knows a sender's rate and some link protocols.

use std::net::IpAddr;

use bulkhead_abi::{Direction, LINK_BFD, LINK_DHCP, LINK_LLDP, LINK_PTP, Rate};
use bulkhead_dataplane::Kind;
use bulkhead_engine::Reason;
use bulkhead_engine::parse::protocol::{ICMPV6, IGMP, TCP, UDP};
use bulkhead_testkit::packets::World;
use bulkhead_testkit::packets::build::{Extension, Ip, ethernet, icmp, tcp, udp};

use crate::kernel::Program;
use crate::steps::{Scene, Stage, Step};
use crate::world::Place;

const SYN: u8 = 2;
const ACK: u8 = 0x10;
/// Rules of the tables, in their order: venues' lanes and default denies come first.
const FEED: u32 = 0;
const GROUP: u32 = 1;
const SESSION: u32 = 2;
const DEFAULT_DENY: u32 = 3;
const PACKETS: u32 = 4;
const NEW: u32 = 5;
const ANY: u32 = 6;
/// Packets that fit into the burst of a rule of 1,000 a second: 10 ms, and the one before.
const BURST: usize = 11;
/// What one sender may begin at once: see [`RATE`].
const BEGINS: usize = 5;
const RATE: Rate = Rate { interval: 1_000_000_000, tolerance: 4_000_000_000 };

pub fn world() -> World {
    let policy = r#"{"tagOwners": {"tag:node": [], "tag:peer": []},
        "venues": {"venue:x": {
            "addresses": ["198.51.100.0/24", "2001:db8:1::/64"],
            "feeds": [
                {"from": ["198.51.100.10", "2001:db8:1::10"], "to": ["tag:node"], "proto": "tcp", "ports": "9090"},
                {"from": ["198.51.100.10", "2001:db8:1::10"], "to": ["tag:node"],
                 "groups": ["233.54.12.0/24", "ff3e:30:2001:db8::/96"], "proto": "udp", "ports": "5000"}],
            "sessions": [{"from": ["tag:node"], "to": ["198.51.100.20", "2001:db8:1::20"], "proto": "tcp", "ports": "443"}]}},
        "acls": [
            {"action": "accept", "src": ["tag:peer"], "dst": ["tag:node:7001"], "maxPacketsPerSecond": 1000},
            {"action": "accept", "src": ["tag:peer"], "dst": ["tag:node:7002"], "maxNewPerSecond": 1},
            {"action": "accept", "src": ["tag:peer", "autogroup:danger-all"], "dst": ["tag:node:7003"]}]}"#;
    let inventory = r#"{"nodes": [
        {"name": "n1", "addresses": ["100.64.0.1", "fd7a:115c:a1e0::1"], "tags": ["tag:node"]},
        {"name": "n2", "addresses": ["100.64.0.2", "fd7a:115c:a1e0::2"], "tags": ["tag:peer"]}]}"#;
    World::new(policy.to_owned(), inventory.to_owned(), "n1")
}

/// The venue's address of a number.
fn venue(v4: bool, number: u8) -> IpAddr {
    if v4 {
        IpAddr::from([198, 51, 100, number])
    } else {
        IpAddr::from([
            0x2001,
            0xdb8,
            1,
            0,
            0,
            0,
            0,
            u16::from_str_radix(&number.to_string(), 16).unwrap_or(0),
        ])
    }
}

fn group(v4: bool) -> IpAddr {
    if v4 { [233, 54, 12, 7].into() } else { [0xff3e, 0x30, 0x2001, 0xdb8, 0, 0, 0, 7].into() }
}

/// Plays everything on every program; returns the reasons.
pub fn play() -> Vec<Reason> {
    let compiled = world().program;
    assert!(compiled.tables.groups && compiled.tables.limits.len() == 3);
    let mut reached = Vec::new();
    for kind in [Kind::BareIp, Kind::Ethernet] {
        let links = LINK_LLDP | LINK_DHCP | LINK_BFD | LINK_PTP;
        let links = if kind == Kind::Ethernet { links } else { 0 };
        let mut stage = Stage::with(&compiled, kind, false, RATE, links);
        for program in Program::ALL {
            for v4 in [true, false] {
                let place = Place::new(program.direction(), v4);
                for scene in scenes(&place, kind) {
                    reached.extend(stage.play(program, &place, &scene));
                }
            }
        }
    }
    reached
}

fn scenes(place: &Place, kind: Kind) -> Vec<Scene> {
    let mut all = match place.direction {
        Direction::Ingress => inward(place),
        Direction::Egress => outward(place),
    };
    all.extend(memberships(place));
    if kind == Kind::Ethernet {
        all.extend(links(place));
    }
    all
}

fn scene(name: &'static str, steps: impl Into<Vec<Step>>) -> Scene {
    Scene { name, start: None, steps: steps.into() }
}

fn inward(place: &Place) -> Vec<Scene> {
    let from =
        |far: IpAddr, port: u16, flags: u8| Ip::new(far, place.to, TCP, tcp((40_000, port), flags, b""));
    let lane = venue(place.v4, 10);
    let to_group = |far: IpAddr, port| Ip::new(far, group(place.v4), UDP, udp((40_000, port), b"tick"));
    let mut packets: Vec<Step> = std::iter::repeat_with(|| from(place.from, 7001, ACK))
        .take(BURST)
        .map(|packet| Step::forth(&packet, Reason::Rule).rule(PACKETS))
        .collect();
    packets.push(Step::forth(&from(place.from, 7001, ACK), Reason::PacketRate).rule(PACKETS));
    let begin = |source: u16, to: u16| Ip::new(place.from, place.to, TCP, tcp((source, to), SYN, b""));
    let new = [
        Step::forth(&begin(1, 7002), Reason::Rule).rule(NEW),
        Step::forth(&begin(2, 7002), Reason::Rule).rule(NEW),
        // One that is there already is no new one.
        Step::forth(&begin(1, 7002), Reason::Rule).rule(NEW),
        Step::forth(&begin(3, 7002), Reason::NewFlowRate).rule(NEW),
        Step::forth(&begin(3, 7002), Reason::Rule).rule(NEW).after(1),
    ];
    let mut begun: Vec<Step> =
        (0..BEGINS as u16).map(|source| Step::forth(&begin(source, 7003), Reason::Rule).rule(ANY)).collect();
    begun.push(Step::forth(&begin(99, 7003), Reason::InitiatorRate).rule(ANY));
    let refused_first = new[..4].iter().map(|step| Step::raw(bytes(step), step.reason).rule(step.rule));
    vec![
        scene("the feed's lane", [Step::forth(&from(lane, 9090, SYN), Reason::Rule).rule(FEED)]),
        scene(
            "the feed, another port",
            [Step::forth(&from(lane, 9091, SYN), Reason::VenueDefaultDeny).rule(DEFAULT_DENY)],
        ),
        scene(
            "a port that everybody may use",
            [Step::forth(&from(lane, 7003, SYN), Reason::VenueDefaultDeny).rule(DEFAULT_DENY)],
        ),
        scene(
            "another address of the venue",
            [Step::forth(&from(venue(place.v4, 11), 9090, SYN), Reason::VenueDefaultDeny).rule(DEFAULT_DENY)],
        ),
        scene("a tick", [Step::forth(&to_group(lane, 5000), Reason::Rule).rule(GROUP)]),
        scene(
            "another port of the group",
            [Step::forth(&to_group(lane, 5001), Reason::VenueDefaultDeny).rule(DEFAULT_DENY)],
        ),
        scene(
            "another sender to the group",
            [Step::forth(&to_group(venue(place.v4, 11), 5000), Reason::VenueDefaultDeny).rule(DEFAULT_DENY)],
        ),
        scene("the packet rate", packets),
        scene("the new-flow rate refuses", refused_first.collect::<Vec<_>>()),
        scene("the new-flow rate", new),
        scene("a sender's rate", begun),
    ]
}

fn bytes(step: &Step) -> Vec<u8> {
    match &step.bytes {
        crate::steps::Bytes::Packet(bytes) | crate::steps::Bytes::Frame(bytes) => bytes.clone(),
    }
}

fn outward(place: &Place) -> Vec<Scene> {
    let to = |far: IpAddr, port: u16| Ip::new(place.from, far, TCP, tcp((40_000, port), SYN, b""));
    let denied = |packet: &Ip| [Step::forth(packet, Reason::VenueDefaultDeny).rule(DEFAULT_DENY)];
    vec![
        scene("the session's lane", [Step::forth(&to(venue(place.v4, 20), 443), Reason::Rule).rule(SESSION)]),
        scene("the session, another port", denied(&to(venue(place.v4, 20), 22))),
        scene("into the feed's address", denied(&to(venue(place.v4, 10), 9090))),
        scene("elsewhere in the venue", denied(&to(venue(place.v4, 99), 443))),
        scene(
            "sending to the group",
            [Step::forth(&Ip::new(place.from, group(place.v4), UDP, udp((1, 5000), b"")), Reason::NotLocal)],
        ),
    ]
}

/// An IGMPv3 or MLDv2 report of groups.
pub fn report(place: &Place, groups: &[IpAddr]) -> Ip {
    let records: Vec<u8> = groups.iter().flat_map(record).collect();
    let [high, low] = (groups.len() as u16).to_be_bytes();
    let count = [0, 0, high, low];
    if place.v4 {
        let payload = [&[0x22, 0, 0, 0][..], &count, &records].concat();
        Ip { hop_limit: 1, ..Ip::new(place.from, [224, 0, 0, 22].into(), IGMP, payload) }
    } else {
        let payload = icmp(143, 0, count, &records);
        let all_routers = IpAddr::from([0xff02, 0, 0, 0, 0, 0, 0, 0x16]);
        let mut ip = Ip::new([0xfe80, 0, 0, 0, 0, 0, 0, 1].into(), all_routers, ICMPV6, payload);
        ip.hop_limit = 1;
        ip.extensions = vec![Extension::padded(0, 0)];
        ip
    }
}

fn record(group: &IpAddr) -> Vec<u8> {
    let address = match group {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    [&[4, 0, 0, 0][..], &address].concat()
}

fn memberships(place: &Place) -> Vec<Scene> {
    let other: IpAddr = if place.v4 { [233, 54, 13, 1].into() } else { [0xff3e, 0, 0, 0, 0, 0, 0, 9].into() };
    let of_link: IpAddr =
        if place.v4 { [224, 0, 0, 251].into() } else { [0xff02, 0, 0, 0, 0, 1, 0xff00, 1].into() };
    let unicast: IpAddr = place.to;
    let outward = place.direction == Direction::Egress;
    let passes = |yes: bool| if yes { Reason::Membership } else { Reason::MembershipGroup };
    let said = |name, groups: &[IpAddr], reason: Reason| {
        let reason = if outward { reason } else { Reason::MembershipGroup };
        let step = Step::forth(&report(place, groups), reason);
        let named = groups.last().filter(|_| outward && reason == Reason::MembershipGroup);
        scene(name, [Step { named: named.copied(), ..step }])
    };
    let (allowed, foreign, masked) = (Reason::Membership, Reason::MembershipGroup, Reason::MembershipMasked);
    let many = |last: IpAddr| [vec![other; 139], vec![last]].concat();
    let mut cut_short = report(place, &[group(place.v4), group(place.v4)]);
    cut_short.payload.truncate(cut_short.payload.len() - 4);
    let truncated = if outward { Reason::TransportTruncated } else { Reason::MembershipGroup };
    let mut lies = report(place, &[group(place.v4)]);
    lies.payload[7] = 2;
    let query = if place.v4 {
        Ip {
            hop_limit: 1,
            ..Ip::new(place.from, [224, 0, 0, 1].into(), IGMP, vec![0x11, 0, 0, 0, 0, 0, 0, 0])
        }
    } else {
        Ip {
            hop_limit: 1,
            ..Ip::new(
                place.from,
                [0xff02, 0, 0, 0, 0, 0, 0, 1].into(),
                ICMPV6,
                icmp(130, 0, [0; 4], &[0; 20]),
            )
        }
    };
    vec![
        said("a feed's group", &[group(place.v4)], allowed),
        said("and one of the link", &[of_link, group(place.v4)], allowed),
        said("another group", &[other], foreign),
        said("another beside a feed's", &[group(place.v4), other], masked),
        said("a feed's beside another", &[other, group(place.v4)], masked),
        said("another beside one of the link", &[other, of_link], masked),
        said("no group at all", &[unicast], foreign),
        said("a feed's behind many", &many(group(place.v4)), masked),
        said("many others", &many(other), foreign),
        scene("a report cut short", [Step::forth(&cut_short, truncated)]),
        scene("a report with fewer records than it says", [Step::forth(&lies, truncated)]),
        scene("a query", [Step::forth(&query, passes(!outward))]),
    ]
}

fn links(place: &Place) -> Vec<Scene> {
    let frame = |name, ethertype, reason| {
        let mut frame = ethernet(&[], ethertype, &[0; 60]);
        // The group of the nearest bridge.
        frame[..6].copy_from_slice(&[1, 0x80, 0xc2, 0, 0, 0x0e]);
        scene(name, [Step::frame(frame, reason)])
    };
    let datagram =
        |ports, hop_limit| Ip { hop_limit, ..Ip::new(place.from, place.to, UDP, udp(ports, &[0; 24])) };
    let refused = |packet: &Ip| {
        let reason = if place.direction == Direction::Ingress { Reason::NoRule } else { Reason::NoFlow };
        [Step::forth(packet, reason)]
    };
    let dhcp = if place.v4 { (68, 67) } else { (546, 547) };
    vec![
        frame("lldp", 0x88cc, Reason::Link),
        frame("ptp frames", 0x88f7, Reason::Link),
        frame("lacp, which is not named", 0x8809, Reason::LinkProtocol),
        scene("dhcp", [Step::forth(&datagram(dhcp, 64), Reason::Link)]),
        scene("dhcp from another port", refused(&datagram((1, dhcp.1), 64))),
        scene("bfd", [Step::forth(&datagram((50_000, 3784), 255), Reason::Link)]),
        scene("bfd that a router forwarded", refused(&datagram((50_000, 3784), 254))),
        scene("ptp to one host", refused(&datagram((319, 319), 1))),
    ]
}
