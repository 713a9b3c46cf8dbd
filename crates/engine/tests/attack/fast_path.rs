//! The fast path: which packets it takes, how far it brings each, and that it comes to the same.

use std::cell::Cell;
use std::rc::Rc;

use bulkhead_abi::{
    CELL_DEFAULT_DENY, CELL_EXEMPT, CELL_ONE_WAY, Direction, FEATURE_EXEMPT, FEATURE_LIMITS, LINK_DATAGRAMS,
    LINK_PTP_UNICAST, RateLimit, port_index,
};
use bulkhead_engine::memory::{Memory, Tables};
use bulkhead_engine::{FastPath, Metadata, Packet, Reason, decide, fast_path};
use proptest::prelude::*;

use super::packets::*;
use super::world::*;

const TRANSPORT: usize = 20;
const LINK: usize = 14;

/// How far the fast path brings a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// It is left to the long way.
    Long,
    /// To a flow or a rate.
    Judged,
    /// To the end.
    Settled(Reason),
}
use Way::{Judged, Long, Settled};

/// The same, and what one counts the other does not see.
fn copy<'a>(memory: &Memory<'a>) -> Memory<'a> {
    let limit_states = memory.limit_states.iter().map(|state| Rc::new(Cell::new(state.get())));
    Memory { limit_states: limit_states.collect(), ..memory.clone() }
}

/// Takes both ways; asserts that they come to the same, and tells how far the fast one went. The metadata
/// is one that another packet has left behind.
fn way(memory: &Memory, packet: &Packet, direction: Direction) -> Way {
    let mut dirty = Metadata::UNKNOWN;
    let fragment = fragment4(udp((PEER, 0x1234), (OWN, 53)), 7, 0, true);
    decide(&memory.clone(), &Packet::new(&fragment), Direction::Ingress, &mut dirty);

    let (long, short) = (copy(memory), copy(memory));
    let mut meta = dirty;
    decide(&long, packet, direction, &mut meta);
    match fast_path(&short, packet, direction) {
        None => Long,
        Some(FastPath::Verdict(length, outcome, _)) => {
            assert_eq!((length, outcome), (meta.headers.length, meta.outcome));
            assert_eq!(long.flows, memory.flows, "a settled packet has no flow");
            Settled(outcome.reason)
        }
        Some(FastPath::NeedsFlow(judged)) => {
            let mut other = dirty;
            judged.decide(&short, packet, direction, &mut other);
            assert_eq!(other, meta);
            assert_eq!(short.flows, long.flows);
            Judged
        }
    }
}

/// The plain packet in words of its own: whole TCP or UDP behind an IPv4 header without options, no
/// tag before it, of a length that is there, and with flags that some stack sends together.
fn is_plain(bytes: &[u8], on_the_wire: usize, ethernet: bool) -> bool {
    let ip = if ethernet {
        if bytes.len() < LINK || bytes[12..14] != [8, 0] {
            return false;
        }
        &bytes[LINK..]
    } else {
        bytes
    };
    let on_the_wire = on_the_wire - (bytes.len() - ip.len());
    if ip.len() < 28 || ip[0] != 0x45 || ip[6] & 0x3f != 0 || ip[7] != 0 {
        return false;
    }
    let total = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
    let Some(payload) = total.checked_sub(20).filter(|_| total <= on_the_wire) else { return false };
    match ip[9] {
        TCP if ip.len() >= 40 => {
            let header = usize::from(ip[32] >> 4) * 4;
            let flags = [SYN, SYN_ACK, ACK, FIN_ACK, RST, RST | ACK];
            (20..=payload).contains(&header) && flags.contains(&(ip[33] & 0x17))
        }
        UDP => (8..=payload).contains(&usize::from(u16::from_be_bytes([ip[24], ip[25]]))),
        _ => false,
    }
}

/// Rules of every kind, some of them with what no rule of [`Rule`] says.
fn every_kind() -> Tables {
    let guard = Rule { action: CELL_DEFAULT_DENY, ..inward(TCP, 82) };
    let rules = [
        inward(TCP, 80),
        inward(UDP, 53),
        denied(inward(TCP, 81)),
        guard,
        inward(UDP, 54),
        inward(UDP, 55),
        inward(TCP, 83),
        inward(TCP, 84),
        inward(TCP, 85),
        outward(TCP, 443),
        Rule { remote: 2, ..inward(TCP, 80) },
        Rule { remote: 2, ..denied(inward(TCP, 81)) },
    ];
    let mut tables = tables(&rules);
    for cell in &mut tables.cells {
        match cell.rule {
            4 => cell.flags = CELL_ONE_WAY,
            5 => (cell.flags, cell.limit) = (CELL_ONE_WAY, 1),
            6 => cell.flags = CELL_EXEMPT,
            7 => cell.limit = 1,
            8 => cell.deadline = 1,
            _ => {}
        }
    }
    tables.limits.push(RateLimit::default());
    tables.deadlines.push(u64::MAX);
    tables
}

fn in_kind(packet: &[u8], ethernet: bool) -> Vec<u8> {
    if !ethernet {
        return packet.to_vec();
    }
    [&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0], packet].concat()
}

fn on(tables: &Tables, ethernet: bool) -> Node<'_> {
    let mut node = Node::new(tables);
    node.0.settings.features = FEATURE_LIMITS;
    if ethernet { node.ethernet() } else { node }
}

/// A segment to the node from 4000, with `flags`.
fn segment(from: &str, port: u16, flags: u8) -> Vec<u8> {
    tcp((from, 4000), (OWN, port), flags)
}

#[test]
fn every_packet_goes_as_far_as_it_can() {
    let tables = every_kind();
    let datagram = |from, port| udp((from, 4000), (OWN, port));
    let arriving = [
        // By an accept rule: what goes on needs no flow, what opens, accepts or ends one does.
        (segment(PEER, 80, ACK), Settled(Reason::Rule)),
        (segment(PEER, 80, SYN), Judged),
        (segment(PEER, 80, SYN_ACK), Judged),
        (segment(PEER, 80, FIN_ACK), Judged),
        (segment(PEER, 80, RST), Judged),
        (datagram(PEER, 53), Judged),
        (datagram(PEER, 54), Settled(Reason::Rule)),
        // One that has a limit is counted.
        (datagram(PEER, 55), Judged),
        (segment(PEER, 84, ACK), Judged),
        (segment(PEER, 84, SYN), Judged),
        // An exemption is no lane.
        (segment(PEER, 83, ACK), Settled(Reason::Rule)),
        (segment(PEER, 83, SYN), Judged),
        // What expires is left to the long way.
        (segment(PEER, 85, ACK), Long),
        // By no rule: what may be a reply to what the node has begun needs a look at the flows.
        (segment(PEER, 81, SYN), Settled(Reason::DenyRule)),
        (segment(PEER, 81, ACK), Judged),
        (segment(PEER, 82, SYN), Settled(Reason::VenueDefaultDeny)),
        (segment(PEER, 82, SYN_ACK), Judged),
        (segment(PEER, 9, SYN), Settled(Reason::NoRule)),
        (segment(PEER, 9, ACK), Judged),
        (datagram(PEER, 9), Judged),
        // Towards the other one nothing is admitted: nothing of his is a reply.
        (segment(OTHER, 81, ACK), Settled(Reason::DenyRule)),
        (segment(OTHER, 9, ACK), Settled(Reason::NoRule)),
        (datagram(OTHER, 9), Settled(Reason::NoRule)),
        // Nobody, and not for this node.
        (segment(NOBODY, 80, ACK), Settled(Reason::UnknownAddress)),
        (datagram(NOBODY, 53), Settled(Reason::UnknownAddress)),
        (tcp((PEER, 4000), (OTHER, 80), ACK), Settled(Reason::NotLocal)),
        (tcp((OWN, 4000), (OWN, 80), ACK), Settled(Reason::NotLocal)),
        (echo(PEER, OWN, 1), Long),
        (tcp((PEER6, 4000), (OWN6, 80), ACK), Long),
    ];
    for ethernet in [false, true] {
        for (packet, expected) in &arriving {
            let node = on(&tables, ethernet);
            let bytes = in_kind(packet, ethernet);
            let came = way(&node.0, &Packet::new(&bytes), Direction::Ingress);
            assert_eq!(came, *expected, "{packet:02x?}");
        }
        let node = on(&tables, ethernet);
        let send =
            |packet: Vec<u8>| way(&node.0, &Packet::new(&in_kind(&packet, ethernet)), Direction::Egress);
        assert_eq!(send(tcp((OWN, 4000), (PEER, 443), ACK)), Settled(Reason::Rule));
        assert_eq!(send(tcp((OWN, 80), (PEER, 4000), ACK)), Judged, "it may be a reply");
        assert_eq!(send(tcp((OWN, 4000), (PEER, 444), SYN)), Settled(Reason::NoRule));
        assert_eq!(send(tcp((PEER, 80), (OWN, 4000), ACK)), Settled(Reason::NotLocal));
    }
}

#[test]
fn what_another_has_a_say_in_is_left_to_the_long_way() {
    let tables = every_kind();
    let receive = |node: &Node, packet: Vec<u8>| {
        let bytes = in_kind(&packet, node.0.settings.interface == 0);
        way(&node.0, &Packet::new(&bytes), Direction::Ingress)
    };
    let (segment, datagram) = (|| segment(PEER, 80, ACK), || udp((PEER, 4000), (OWN, 54)));
    let mut node = on(&tables, true);
    assert_eq!(
        (receive(&node, segment()), receive(&node, datagram())),
        (Settled(Reason::Rule), Settled(Reason::Rule))
    );
    // A link protocol that comes in datagrams may be meant.
    for (link, datagrams) in [(LINK_PTP_UNICAST, Long), (!LINK_DATAGRAMS, Settled(Reason::Rule))] {
        node.0.settings.link = link;
        assert_eq!(
            (receive(&node, segment()), receive(&node, datagram())),
            (Settled(Reason::Rule), datagrams)
        );
    }
    let mut node = on(&tables, false);
    node.audit(true);
    assert_eq!((receive(&node, segment()), receive(&node, datagram())), (Long, Long));
}

#[test]
fn whoever_is_cut_off_is_settled_unless_he_may_be_exempt() {
    for cut_off in [PEER, OWN] {
        let mut tables = every_kind();
        quarantine(&mut tables, cut_off);
        let mut node = on(&tables, false);
        for packet in [segment(PEER, 80, ACK), segment(PEER, 80, SYN), udp((PEER, 4000), (OWN, 54))] {
            node.0.settings.features = FEATURE_LIMITS;
            let came = way(&node.0, &Packet::new(&packet), Direction::Ingress);
            assert_eq!(came, Settled(Reason::Quarantined), "{cut_off}");
            node.0.settings.features = FEATURE_LIMITS | FEATURE_EXEMPT;
            assert_eq!(way(&node.0, &Packet::new(&packet), Direction::Ingress), Long, "{cut_off}");
        }
    }
}

#[test]
fn a_table_that_lacks_an_entry_is_left_to_the_long_way() {
    let whole = every_kind();
    let segment = segment(PEER, 80, ACK);
    let came = |tables: &Tables| way(&on(tables, false).0, &Packet::new(&segment), Direction::Ingress);
    assert_eq!(came(&whole), Settled(Reason::Rule));
    let lacks: [fn(&mut Tables); 4] = [
        |tables| tables.trie.clear(),
        |tables| tables.pairs.clear(),
        |tables| tables.ports.truncate(port_index(TCP, 80) as usize / 256),
        |tables| tables.cells.truncate(1),
    ];
    for lack in lacks {
        let mut broken = whole.clone();
        lack(&mut broken);
        assert_eq!(came(&broken), Long);
    }
}

/// Whole packets with headers whose fields all differ, as they lie behind the link header.
fn samples() -> Vec<Vec<u8>> {
    let mut options = tcp_header(0x1234, 80, ACK);
    options[12] = 0x70;
    options.extend([1, 1, 1, 1, 1, 1, 1, 1]);
    let samples = [
        tcp((PEER, 0x1234), (OWN, 80), ACK),
        tcp((PEER, 0x1234), (OWN, 80), SYN),
        ip(PEER, OWN, TCP, &[&*options, b"data"].concat()),
        udp((PEER, 0x1234), (OWN, 53)),
        ip(PEER, OWN, UDP, &[&*udp_header(0x1234, 54, 12), b"data"].concat()),
    ];
    // Some with bytes behind them, as Ethernet pads.
    let padded = samples.iter().map(|sample| [sample, &[0; 300][..]].concat()).collect::<Vec<_>>();
    samples.into_iter().chain(padded).collect()
}

/// The fast path takes exactly the plain packets.
fn check(memory: &Memory, packet: &Packet, bytes: &[u8], ethernet: bool) -> bool {
    let plain = is_plain(bytes, packet.length(), ethernet);
    let came = [Direction::Ingress, Direction::Egress].map(|direction| way(memory, packet, direction));
    assert_eq!(came.map(|way| way != Long), [plain; 2], "ethernet: {ethernet}: {bytes:02x?}");
    plain
}

/// Rules without an expiry, for which every plain packet is judged.
fn lasting() -> Tables {
    let mut tables = every_kind();
    tables.cells.iter_mut().for_each(|cell| cell.deadline = 0);
    tables
}

#[test]
fn with_every_value_of_every_header_byte_the_plain_packets_are_taken_and_no_others() {
    let tables = lasting();
    let [mut taken, mut left] = [0_u32; 2];
    for ethernet in [false, true] {
        let node = on(&tables, ethernet);
        for sample in samples() {
            let whole = in_kind(&sample, ethernet);
            for at in 0..whole.len().min(60) {
                for value in 0..=255 {
                    let mut bytes = whole.clone();
                    bytes[at] = value;
                    let plain = check(&node.0, &Packet::new(&bytes), &bytes, ethernet);
                    *(if plain { &mut taken } else { &mut left }) += 1;
                }
            }
        }
    }
    assert!(taken > 100_000 && left > 30_000, "{taken} {left}");
}

#[test]
fn a_packet_is_taken_from_the_last_byte_of_its_headers_on() {
    let tables = lasting();
    for ethernet in [false, true] {
        let node = on(&tables, ethernet);
        for sample in samples() {
            let whole = in_kind(&sample, ethernet);
            for end in 0..whole.len() {
                let bytes = &whole[..end];
                check(&node.0, &Packet::new(bytes), bytes, ethernet);
                // The rest lies in pages.
                let at = bytes.as_ptr() as usize;
                // SAFETY: the bytes that are said to be readable are borrowed as long as the packet.
                let packet = unsafe { Packet::from_raw(at, at + end, whole.len() as u32) };
                check(&node.0, &packet, bytes, ethernet);
            }
        }
        // The TCP header ends where the segment does, and where the linear part does.
        let mut header = tcp_header(4000, 80, ACK);
        for words in 0..16_u8 {
            header[12] = words << 4;
            for length in 0..=64_u16 {
                let mut bytes = ip(PEER, OWN, TCP, &[&*header, &[1; 44]].concat());
                bytes[2..4].copy_from_slice(&(TRANSPORT as u16 + length).to_be_bytes());
                let bytes = in_kind(&bytes, ethernet);
                check(&node.0, &Packet::new(&bytes), &bytes, ethernet);
            }
        }
        for length in 0..=64_u16 {
            for said in 0..=64_u16 {
                let mut bytes = ip(PEER, OWN, UDP, &[&*udp_header(4000, 53, said), &[1; 56]].concat());
                bytes[2..4].copy_from_slice(&(TRANSPORT as u16 + length).to_be_bytes());
                let bytes = in_kind(&bytes, ethernet);
                check(&node.0, &Packet::new(&bytes), &bytes, ethernet);
            }
        }
    }
}

#[test]
fn merged_segments_are_counted_as_on_the_long_way() {
    let mut tables = every_kind();
    tables.limits[1].packets.interval = 1;
    tables.limits[1].packets.tolerance = 3;
    let node = on(&tables, false);
    let segment = ip(PEER, OWN, TCP, &[&*tcp_header(4000, 84, ACK), &[0; 1000]].concat());
    for size in [0, 100, 250, 1000] {
        let packet = Packet::new(&segment).merged_from(size);
        assert_eq!(way(&node.0, &packet, Direction::Ingress), Judged);
    }
}

/// A header with several of its bytes replaced.
fn damaged() -> impl Strategy<Value = (usize, bool, Vec<(usize, u8)>, usize)> {
    let damage = prop::collection::vec((0..60_usize, any::<u8>()), 0..4);
    (0..samples().len(), any::<bool>(), damage, 0..400_usize)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]
    #[test]
    fn however_a_packet_is_damaged_both_ways_come_to_the_same(
        (sample, ethernet, damage, cut) in damaged()
    ) {
        let tables = lasting();
        let mut bytes = in_kind(&samples()[sample], ethernet);
        for (at, value) in damage {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        if cut > 200 {
            bytes.truncate(cut - 200);
        }
        check(&on(&tables, ethernet).0, &Packet::new(&bytes), &bytes, ethernet);
    }
}
