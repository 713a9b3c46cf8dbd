//! The scenes: for every reason at least one that ends with it.

use bulkhead_abi::NO_RULE;
use bulkhead_engine::Reason;
use bulkhead_engine::parse::protocol::{self, SCTP, TCP, UDP};
use bulkhead_testkit::packets::build::{
    Extension, Ip, echo, ethernet, ethertype, icmp, icmp_protocol, sctp, tcp, udp,
};

use crate::kernel::SHORT_TIMEOUTS;
use crate::steps::{Bytes, Scene, Step};
use crate::world::{END, ENDING, FORBIDDEN, NAMES, OTHER, Place, SECURE, SIGNALS, WEB};

const SYN: u8 = 2;
const SYN_ACK: u8 = 0x12;
const ACK: u8 = 0x10;
/// Some client's port.
const HIGH: u16 = 50_000;

/// The scenes of a place. In audit mode those that are about it.
pub fn all(place: &Place, audit: bool) -> Vec<Scene> {
    if audit {
        return auditing(place);
    }
    let mut all = policy(place);
    all.extend(flows(place));
    all.extend(beginnings(place));
    for tags in [&[0x8100][..], &[0x88a8, 0x8100]] {
        all.extend(beginnings(place).into_iter().map(|scene| scene.in_vlan(tags)));
    }
    all.extend(fragments(place));
    all.extend(errors(place));
    all.extend(malformed(place));
    all.extend(if place.v4 { malformed4(place) } else { malformed6(place) });
    all.extend(links(place));
    all
}

fn scene(name: &'static str, steps: impl Into<Vec<Step>>) -> Scene {
    Scene { name, start: None, steps: steps.into() }
}

impl Scene {
    /// The same in frames with VLAN tags of these EtherTypes.
    fn in_vlan(mut self, tags: &[u16]) -> Self {
        for step in &mut self.steps {
            if let Bytes::Packet(packet) = &step.bytes {
                step.bytes = Bytes::Frame(ethernet(tags, ethertype(packet), packet));
            }
        }
        self
    }
}

impl Place {
    fn ip(&self, protocol: u8, payload: Vec<u8>) -> Ip {
        Ip::new(self.from, self.to, protocol, payload)
    }
    fn ip_back(&self, protocol: u8, payload: Vec<u8>) -> Ip {
        Ip::new(self.to, self.from, protocol, payload)
    }
    /// A segment to a service, or from it.
    fn to_service(&self, port: u16, flags: u8) -> Ip {
        self.ip(TCP, tcp((HIGH, port), flags, b"x"))
    }
    fn by_service(&self, port: u16, flags: u8) -> Ip {
        self.ip(TCP, tcp((port, HIGH), flags, b"x"))
    }
    /// Somebody behind asks a service on this packet's side.
    fn asked_back(&self, port: u16) -> Step {
        let ask = self.ip_back(TCP, tcp((HIGH, port), SYN, &[]));
        Step::back(&ask, Reason::Rule).rule(self.rule(port, true))
    }
}

fn policy(place: &Place) -> Vec<Scene> {
    let admitted = |packet: &Ip, port| Step::forth(packet, Reason::Rule).rule(place.rule(port, false));
    let between = |(from, to)| Ip::new(from, to, TCP, tcp((HIGH, WEB), SYN, &[]));
    vec![
        scene("tcp admitted", [admitted(&place.to_service(WEB, SYN), WEB)]),
        scene("segment on the way of a rule", [admitted(&place.to_service(WEB, ACK), WEB)]),
        scene("udp admitted", [admitted(&place.ip(UDP, udp((HIGH, NAMES), b"?")), NAMES)]),
        scene("sctp admitted", [admitted(&place.ip(SCTP, sctp((HIGH, SIGNALS), 1, &[0; 16])), SIGNALS)]),
        scene("no rule", [Step::forth(&place.to_service(OTHER, SYN), Reason::NoRule)]),
        scene(
            "no rule for udp there",
            [Step::forth(&place.ip(UDP, udp((HIGH, OTHER), b"?")), Reason::NoFlow)],
        ),
        scene(
            "deny",
            [Step::forth(&place.to_service(FORBIDDEN, SYN), Reason::DenyRule)
                .rule(place.rule(FORBIDDEN, false))],
        ),
        scene("unknown", [Step::forth(&between(place.with_far(9)), Reason::UnknownAddress)]),
        scene("quarantined", [Step::forth(&between(place.with_far(3)), Reason::Quarantined)]),
        scene("between others", [Step::forth(&between(place.elsewhere()), Reason::NotLocal)]),
        scene("to itself", [Step::forth(&between(place.with_far(1)), Reason::NotLocal)]),
        scene("other icmp", [Step::forth(&other_icmp(place), Reason::IcmpType)]),
    ]
}

/// What begins as TLS, what does not, and what comes too early.
fn beginnings(place: &Place) -> Vec<Scene> {
    const HELLO: &[u8] = &[22, 3, 1, 1, 0, 1, 0, 0];
    const ANSWER: &[u8] = &[22, 3, 3, 0, 90, 2, 0, 0];
    const PLAIN: &[u8] = b"GET / HTTP/1.1";
    // A segment whose data begin `at` bytes behind its direction's first one.
    let segment = |flags: u8, at: u32, data: &[u8]| {
        let mut segment = tcp((HIGH, SECURE), flags, data);
        segment[4..8].copy_from_slice(&(2 + at).to_be_bytes());
        place.ip(TCP, segment)
    };
    let by = place.rule(SECURE, false);
    let step = |packet: &Ip, reason| Step::forth(packet, reason).rule(by);
    let begun = || step(&place.ip(TCP, tcp((HIGH, SECURE), SYN, &[])), Reason::Rule);
    let begins = |data: &[u8], reason| step(&segment(ACK, 0, data), reason);
    let syn_with = |data: &[u8], reason| step(&place.ip(TCP, tcp((HIGH, SECURE), SYN, data)), reason);
    // What a server says first, to somebody behind.
    let answers = |data: &[u8], reason| {
        let mut segment = tcp((SECURE, HIGH), ACK, data);
        segment[4..8].copy_from_slice(&2u32.to_be_bytes());
        let rule = place.rule(SECURE, true);
        let syn_ack = Step::forth(&place.ip(TCP, tcp((SECURE, HIGH), SYN_ACK, &[])), Reason::Reply);
        let answer = Step::forth(&place.ip(TCP, segment), reason).rule(rule);
        let mut heard = tcp((HIGH, SECURE), ACK, &[]);
        heard[4..8].copy_from_slice(&2u32.to_be_bytes());
        let heard = Step::back(&place.ip_back(TCP, heard), Reason::Rule).rule(rule);
        [place.asked_back(SECURE), syn_ack.rule(rule), heard, answer]
    };
    // What a client says once its server has accepted.
    let accepted = || {
        let syn_ack = place.ip_back(TCP, tcp((SECURE, HIGH), SYN_ACK, &[]));
        Step::back(&syn_ack, Reason::Reply).rule(by)
    };
    let goes_on =
        |steps: Vec<Step>| [vec![begun(), accepted()], steps].into_iter().flatten().collect::<Vec<_>>();
    vec![
        scene("answers as tls", answers(ANSWER, Reason::Reply)),
        scene("answers in plaintext", answers(PLAIN, Reason::NotTls)),
        scene("begins as tls", goes_on(vec![begins(HELLO, Reason::Rule)])),
        scene("begins as tls on its syn", [syn_with(HELLO, Reason::Rule)]),
        scene("begins in plaintext on its syn", [syn_with(PLAIN, Reason::NotTls)]),
        scene("begins in plaintext", goes_on(vec![begins(PLAIN, Reason::NotTls)])),
        scene(
            "stays in plaintext",
            goes_on(vec![begins(PLAIN, Reason::NotTls), begins(HELLO, Reason::NotTls)]),
        ),
        scene("begins in its middle", goes_on(vec![step(&segment(ACK, 6, PLAIN), Reason::TlsUnseen)])),
        scene("begins before it is accepted", [begun(), begins(HELLO, Reason::TlsUnseen)]),
        scene(
            "begins byte by byte",
            goes_on(vec![
                begins(&HELLO[..1], Reason::Rule),
                step(&segment(ACK, 2, &HELLO[2..]), Reason::TlsUnseen),
                step(&segment(ACK, 1, &HELLO[1..]), Reason::Rule),
                step(&segment(ACK, 8, PLAIN), Reason::Rule),
            ]),
        ),
        scene("ends in plaintext", goes_on(vec![step(&segment(0x11, 0, PLAIN), Reason::NotTls)])),
        scene("has begun before anybody looked", [step(&segment(ACK, 0, HELLO), Reason::TlsUnseen)]),
        scene("says nothing before anybody looked", [step(&segment(ACK, 0, &[]), Reason::Rule)]),
    ]
}

/// A time stamp request, or a router solicitation.
fn other_icmp(place: &Place) -> Ip {
    place.ip(icmp_protocol(place.v4), icmp(if place.v4 { 13 } else { 133 }, 0, [0; 4], &[0; 16]))
}

fn flows(place: &Place) -> Vec<Scene> {
    let answer = |reason| Step::forth(&place.by_service(WEB, SYN_ACK), reason);
    let timeout = u64::from(SHORT_TIMEOUTS.0[0]);
    let by = place.rule(WEB, true);
    let mut scenes = vec![
        scene("answer", [place.asked_back(WEB), answer(Reason::Reply).rule(by)]),
        scene("answer in time", [place.asked_back(WEB), answer(Reason::Reply).rule(by).after(timeout)]),
        scene("answer too late", [place.asked_back(WEB), answer(Reason::FlowExpired).after(timeout + 1)]),
        scene("unasked answer", [answer(Reason::NoFlow)]),
        scene("unasked segment", [Step::forth(&place.by_service(WEB, ACK), Reason::NoFlow)]),
        scene(
            "syn as an answer",
            [place.asked_back(WEB), Step::forth(&place.by_service(WEB, SYN), Reason::NoRule)],
        ),
        scene(
            "answer from another port",
            [place.asked_back(WEB), Step::forth(&place.by_service(OTHER, SYN_ACK), Reason::NoFlow)],
        ),
        Scene {
            start: Some(END - 1),
            ..scene(
                "the rule has ended",
                [
                    place.asked_back(ENDING),
                    Step::forth(&place.by_service(ENDING, SYN_ACK), Reason::FlowRevoked).after(1),
                ],
            )
        },
        scene("unasked echo reply", [Step::forth(&ping(place, true), Reason::NoFlow)]),
    ];
    let ask = place.ip_back(UDP, udp((HIGH, NAMES), b"?"));
    scenes.push(scene(
        "udp answer",
        [
            Step::back(&ask, Reason::Rule).rule(place.rule(NAMES, true)),
            Step::forth(&place.ip(UDP, udp((NAMES, HIGH), b"!")), Reason::Reply)
                .rule(place.rule(NAMES, true)),
        ],
    ));
    scenes
}

fn ping(place: &Place, reply: bool) -> Ip {
    place.ip(icmp_protocol(place.v4), echo(place.v4, reply, 77))
}

/// Part of a datagram: `offset` in units of 8 bytes.
fn part(place: &Place, offset: u16, more: bool, id: u16, payload: &[u8]) -> Ip {
    let mut packet = place.ip(UDP, payload.to_vec());
    packet.id = id;
    packet.fragment = offset | if more { 0x2000 } else { 0 };
    packet.extensions = vec![Extension::fragment(offset, more, u32::from(id))];
    packet
}

fn fragments(place: &Place) -> Vec<Scene> {
    let rule = place.rule(NAMES, false);
    let first =
        |id| Step::forth(&part(place, 0, true, id, &udp((HIGH, NAMES), &[0; 24])), Reason::Rule).rule(rule);
    let later = |offset, id, reason| Step::forth(&part(place, offset, false, id, &[0; 8]), reason);
    let tiny = part(place, 0, true, 6, &tcp((HIGH, WEB), SYN, &[])[..16]);
    let tiny = Ip { protocol: TCP, ..tiny };
    vec![
        scene("second fragment", [first(1), later(4, 1, Reason::Fragment).rule(rule)]),
        scene("fragment of nothing", [later(4, 2, Reason::FragmentOrphan)]),
        scene("fragment that overlaps", [first(3), later(3, 3, Reason::FragmentOverlap)]),
        scene("fragment too early", [first(4), later(5, 4, Reason::FragmentOrder)]),
        scene("tiny fragment", [Step::forth(&tiny, Reason::FragmentTiny)]),
        scene("uneven fragment", [Step::forth(&part(place, 0, true, 5, &[0; 9]), Reason::FragmentInvalid)]),
        scene("fragment beyond 64 KiB", [later(0x1fff, 5, Reason::FragmentInvalid)]),
    ]
}

fn errors(place: &Place) -> Vec<Scene> {
    let number = icmp_protocol(place.v4);
    let about = |quote: &[u8]| {
        let (kind, code) = if place.v4 { (3, 4) } else { (2, 0) };
        place.ip(number, icmp(kind, code, [0, 0, 5, 0], quote))
    };
    let sent = place.ip_back(TCP, tcp((HIGH, WEB), SYN, &[])).bytes();
    let header = if place.v4 { 20 } else { 40 };
    vec![
        scene(
            "error about a flow",
            [place.asked_back(WEB), Step::forth(&about(&sent[..header + 8]), Reason::IcmpError)],
        ),
        scene("error about nothing", [Step::forth(&about(&sent), Reason::IcmpErrorUnrelated)]),
        scene("error with garbage", [Step::forth(&about(&[0; 48]), Reason::IcmpErrorMalformed)]),
        scene(
            "error cut short",
            [place.asked_back(WEB), Step::forth(&about(&sent[..header + 7]), Reason::IcmpErrorMalformed)],
        ),
    ]
}

/// Wrong in the same way in both families.
fn malformed(place: &Place) -> Vec<Scene> {
    let ends = |protocol: u8, payload: Vec<u8>, reason| Step::forth(&place.ip(protocol, payload), reason);
    let header = |length: u8| {
        let mut segment = tcp((HIGH, WEB), SYN, &[]);
        segment[12] = length << 4;
        segment
    };
    let mut lying = udp((HIGH, NAMES), &[]);
    lying[5] = 9;
    let mut bundled = sctp((HIGH, SIGNALS), 1, &[0; 16]);
    bundled.extend([0, 0, 0, 4]);
    let mut long = place.to_service(WEB, SYN).bytes();
    long.truncate(long.len() - 1);
    let mut scenes = vec![
        scene("tcp cut", [ends(TCP, tcp((HIGH, WEB), SYN, &[])[..19].to_vec(), Reason::TransportTruncated)]),
        scene("short tcp header", [ends(TCP, header(4), Reason::TcpHeaderLength)]),
        scene("long tcp header", [ends(TCP, header(6), Reason::TcpHeaderLength)]),
        scene("long udp", [ends(UDP, lying, Reason::UdpLength)]),
        scene("bundled init", [ends(SCTP, bundled, Reason::SctpChunk)]),
        scene("ip longer than the packet", [Step::raw(long, Reason::IpLength)]),
        scene("icmp of the other family", [ends(icmp_protocol(!place.v4), vec![8; 16], Reason::IcmpFamily)]),
        scene("ip version", [Step::raw([[0x50; 20]; 2].concat(), Reason::IpVersion)]),
        scene("ip cut", [Step::raw(place.to_service(WEB, SYN).bytes()[..18].to_vec(), Reason::IpTruncated)]),
    ];
    // None at all, SYN+FIN, SYN+RST, FIN alone, Xmas.
    for flags in [0, 3, 6, 1, 0x29] {
        scenes.push(scene("tcp flags", [Step::forth(&place.to_service(WEB, flags), Reason::TcpFlags)]));
    }
    scenes
}

fn malformed4(place: &Place) -> Vec<Scene> {
    let with = |options: &[u8], reason| {
        Step::forth(&Ip { options: options.to_vec(), ..place.to_service(WEB, SYN) }, reason)
    };
    let mut short = place.to_service(WEB, SYN).bytes();
    short[0] = 0x44;
    vec![
        scene("good options", [with(&[7, 3, 4, 1], Reason::Rule).rule(place.rule(WEB, false))]),
        scene("loose source route", [with(&[1, 131, 3, 4], Reason::SourceRoute)]),
        scene("strict source route", [with(&[137, 3, 4, 0], Reason::SourceRoute)]),
        scene("option without length", [with(&[1, 1, 1, 7], Reason::IpOption)]),
        scene("option beyond the header", [with(&[7, 5, 0, 0], Reason::IpOption)]),
        scene("short ip header", [Step::raw(short, Reason::IpHeaderLength)]),
    ]
}

fn malformed6(place: &Place) -> Vec<Scene> {
    let with = |extensions: Vec<Extension>, reason| {
        Step::forth(&Ip { extensions, ..place.to_service(WEB, SYN) }, reason)
    };
    let pad = || Extension::padded(60, 0);
    let mapped =
        Ip { source: "::ffff:100.64.0.2".parse().expect("an address"), ..place.to_service(WEB, SYN) };
    let rule = place.rule(WEB, false);
    vec![
        scene("good extensions", [with(vec![Extension::padded(0, 1), pad()], Reason::Rule).rule(rule)]),
        scene(
            "routing without segments left",
            [with(vec![Extension::routing(4, 0)], Reason::Rule).rule(rule)],
        ),
        scene("routing header", [with(vec![Extension::routing(0, 1)], Reason::SourceRoute)]),
        scene("hop-by-hop not first", [with(vec![pad(), Extension::padded(0, 0)], Reason::ExtensionHeader)]),
        scene("eight extensions", [with((0..8).map(|_| pad()).collect(), Reason::Rule).rule(rule)]),
        scene("nine extensions", [with((0..9).map(|_| pad()).collect(), Reason::ExtensionDepth)]),
        scene("no next header", [with(vec![Extension { kind: 59, body: vec![0; 7] }], Reason::NoNextHeader)]),
        scene("mapped address", [Step::forth(&mapped, Reason::MappedAddress)]),
    ]
}

/// Of Ethernet only; and neighbour discovery, which passes there only.
fn links(place: &Place) -> Vec<Scene> {
    let packet = place.to_service(WEB, SYN).bytes();
    let kind = ethertype(&packet);
    let tagged = |tags: &[u16], reason| Step::frame(ethernet(tags, kind, &packet), reason);
    let rule = place.rule(WEB, false);
    let other = if place.v4 { 0x86dd } else { 0x0800 };
    let mut scenes = vec![
        scene("arp", [Step::frame(ethernet(&[], 0x0806, &[0; 28]), Reason::Arp)]),
        scene("one tag", [tagged(&[0x8100], Reason::Rule).rule(rule)]),
        scene("two tags", [tagged(&[0x88a8, 0x8100], Reason::Rule).rule(rule)]),
        scene("three tags", [tagged(&[0x88a8, 0x8100, 0x8100], Reason::VlanDepth)]),
        scene("cut tag", [Step::frame(ethernet(&[0x8100], kind, &[])[..16].to_vec(), Reason::LinkTruncated)]),
        scene("lldp", [Step::frame(ethernet(&[], 0x88cc, &[0; 46]), Reason::LinkProtocol)]),
        scene("the other version", [Step::frame(ethernet(&[], other, &packet), Reason::IpVersion)]),
    ];
    if !place.v4 {
        let mut solicitation = place.ip(protocol::ICMPV6, icmp(135, 0, [0; 4], &[0; 16]));
        solicitation.hop_limit = 255;
        let bytes = solicitation.bytes();
        let frame = |bytes: &[u8]| ethernet(&[], 0x86dd, bytes);
        scenes.push(scene("discovery", [Step::frame(frame(&bytes), Reason::NeighbourDiscovery)]));
        solicitation.hop_limit = 254;
        let routed = frame(&solicitation.bytes());
        scenes.push(scene("discovery from afar", [Step::frame(routed, Reason::IcmpType)]));
    }
    scenes
}

fn auditing(place: &Place) -> Vec<Scene> {
    let ask = place.ip_back(TCP, tcp((HIGH, OTHER), SYN, &[]));
    let between = |(from, to)| Ip::new(from, to, TCP, tcp((HIGH, WEB), SYN, &[]));
    let rule = place.rule(FORBIDDEN, false);
    vec![
        scene("would be no rule", [Step::forth(&place.to_service(OTHER, SYN), Reason::NoRule)]),
        scene(
            "would be denied",
            [Step::forth(&place.to_service(FORBIDDEN, SYN), Reason::DenyRule).rule(rule)],
        ),
        scene("quarantined all the same", [Step::forth(&between(place.with_far(3)), Reason::Quarantined)]),
        scene(
            "answer to what would be dropped",
            [
                Step::back(&ask, Reason::NoRule),
                Step::forth(&place.by_service(OTHER, SYN_ACK), Reason::AuditReply).rule(NO_RULE),
            ],
        ),
    ]
}
