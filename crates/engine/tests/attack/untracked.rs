//! Segments that miss their flow: which go on, by the host's sockets, and which never do.

use std::net::IpAddr;

use bulkhead_abi::{
    FEATURE_EXEMPT, FLOW_ESTABLISHED, FLOW_FIN_INITIATOR, FLOW_FIN_RESPONDER, FlowKey, FlowState, FlowValue,
    Rate, from_ip,
};
use bulkhead_engine::{Reason, SocketState};

use super::packets::*;
use super::world::*;

/// This host serves, and so it is the host that replies; or it asks, and is replied to.
pub const SERVER: (&str, u16) = (OWN, 443);
pub const CLIENT: (&str, u16) = (PEER, 40_000);
pub const ASKING: (&str, u16) = (OWN, 50_000);
pub const ASKED: (&str, u16) = (PEER, 8443);

/// Linux's numbers of the states of connections, and of others.
pub const CONNECTIONS: [u8; 7] = [1, 4, 5, 6, 8, 9, 11];
pub const OTHERS: [u8; 7] = [0, 2, 3, 7, 10, 12, 13];

/// Gives the host a socket: its end, and the other one; port 0 is a listener's.
pub fn give_socket(node: &Node, here: (&str, u16), there: (&str, u16), state: u8) {
    let end = |(address, port): (&str, u16)| match address.parse::<IpAddr>() {
        Ok(address) => (from_ip(address), port),
        Err(_) => ([0; 4], 0),
    };
    node.0.sockets.borrow_mut().insert([end(here), end(there)], SocketState(state));
}

pub const ANYBODY: (&str, u16) = ("", 0);

/// The one flow that is tracked.
fn flow(node: &Node) -> FlowValue {
    let flows = node.0.flows.borrow();
    assert_eq!(flows.len(), 1);
    *flows.values().next().unwrap()
}

#[test]
fn what_a_socket_of_this_host_holds_goes_on() {
    let tables = tables(&[inward(TCP, 443), outward(TCP, 8443)]);
    for flags in [ACK, FIN_ACK] {
        for state in CONNECTIONS.into_iter().chain(OTHERS) {
            let node = Node::new(&tables);
            give_socket(&node, SERVER, CLIENT, state);
            // Which is its listener's port, of course.
            give_socket(&node, SERVER, ANYBODY, 10);
            give_socket(&node, ASKING, ASKED, state);
            let reason = if CONNECTIONS.contains(&state) { Reason::Resumed } else { Reason::NoFlow };
            assert_eq!(node.send(tcp(SERVER, CLIENT, flags)), reason, "out, {state}, {flags:#x}");
            assert_eq!(node.receive(tcp(ASKED, ASKING, flags)), reason, "in, {state}, {flags:#x}");
            let count = if reason == Reason::Resumed { 2 } else { 0 };
            assert_eq!(node.flows(), (count, 0), "{state}: tracked anew, or not at all");
            // And from then on it is a conversation as any other.
            let after = if count == 0 { Reason::NoFlow } else { Reason::Reply };
            assert_eq!(node.send(tcp(SERVER, CLIENT, ACK)), after, "{state}");
            assert_eq!(node.receive(tcp(ASKED, ASKING, ACK)), after, "{state}");
        }
    }
}

#[test]
fn a_socket_is_that_of_the_segments_own_ends_and_family() {
    let (server6, client6) = ((OWN6, 443), (PEER6, 40_000));
    let tables = tables(&[inward(TCP, 443)]);
    for (server, client) in [(SERVER, CLIENT), (server6, client6)] {
        let node = Node::new(&tables);
        give_socket(&node, server, client, 1);
        for (from, to) in [
            ((server.0, 443), (client.0, 40_001)),
            ((server.0, 40_000), (client.0, 443)),
            (SERVER, (OTHER, 40_000)),
        ] {
            assert!(!passes(node.send(tcp(from, to, ACK))), "{from:?} {to:?}");
        }
        assert_eq!(node.send(tcp(server, client, ACK)), Reason::Resumed);
    }
    let node = Node::new(&tables);
    give_socket(&node, SERVER, CLIENT, 1);
    assert_eq!(node.send(tcp(server6, client6, ACK)), Reason::NoFlow, "the other family's");
}

#[test]
fn what_opens_or_accepts_is_never_taken_for_an_open_connection() {
    let tables = tables(&[inward(TCP, 443)]);
    let node = Node::new(&tables);
    give_socket(&node, SERVER, CLIENT, 1);
    assert_eq!(node.send(tcp(SERVER, CLIENT, SYN_ACK)), Reason::NoFlow);
    assert_eq!(node.send(tcp(SERVER, CLIENT, SYN)), Reason::NoRule);
    assert_eq!(node.send(udp(SERVER, CLIENT)), Reason::NoFlow, "another protocol");
    assert_eq!(node.flows(), (0, 0));
}

#[test]
fn other_protocols_have_no_sockets_and_no_resets() {
    const SCTP: u8 = 132;
    let tables = tables(&[inward(SCTP, 443)]);
    let node = Node::new(&tables);
    give_socket(&node, SERVER, CLIENT, 1);
    // DATA, ABORT, SHUTDOWN: some of their numbers have the bits of TCP's flags.
    for kind in [0, 6, 7] {
        let mut packet = tcp_header(SERVER.1, CLIENT.1, 0)[..4].to_vec();
        packet.extend([0, 0, 0, 1, 0, 0, 0, 0, kind, 0, 0, 4]);
        assert_eq!(node.send(ip(OWN, PEER, SCTP, &packet)), Reason::NoFlow, "{kind}");
    }
    assert_eq!(node.flows(), (0, 0));
}

#[test]
fn probes_to_no_connection_stay_dropped() {
    let tables = tables(&[outward(TCP, 8443)]);
    let node = Node::new(&tables);
    give_socket(&node, (OWN, 22), ANYBODY, 10);
    for port in [22, 23] {
        for flags in [ACK, FIN_ACK, SYN_ACK] {
            assert_eq!(node.receive(tcp(ASKED, (OWN, port), flags)), Reason::NoFlow, "{port} {flags:#x}");
            // Whom this host may not ask, it does not hear at all.
            assert_eq!(node.receive(tcp((PEER, 1), (OWN, port), flags)), Reason::NoFlow);
            assert_eq!(node.receive(tcp((OTHER, 8443), (OWN, port), flags)), Reason::NoRule);
        }
    }
    assert_eq!(node.flows(), (0, 0));
}

#[test]
fn a_reset_passes_where_the_other_way_is_admitted_and_leaves_no_trace() {
    let tables = tables(&[outward(TCP, 8443), inward(TCP, 443), denied(outward(TCP, 99))]);
    let node = Node::new(&tables);
    for flags in [RST, RST | ACK] {
        assert_eq!(node.receive(tcp(ASKED, ASKING, flags)), Reason::Reset);
        assert_eq!(node.send(tcp(SERVER, CLIENT, flags)), Reason::Reset);
        assert_eq!(node.receive(tcp((PEER, 8444), ASKING, flags)), Reason::NoFlow, "another service");
        assert_eq!(node.receive(tcp((PEER, 99), ASKING, flags)), Reason::NoFlow, "a denied one");
        assert_eq!(node.receive(tcp((OTHER, 8443), ASKING, flags)), Reason::NoRule, "another peer");
        assert_eq!(node.receive(tcp((NOBODY, 8443), ASKING, flags)), Reason::UnknownAddress);
        assert_eq!(node.send(tcp((OWN, 444), CLIENT, flags)), Reason::NoFlow);
    }
    assert_eq!(node.flows(), (0, 0));
    assert_eq!(node.receive(tcp(ASKED, ASKING, ACK)), Reason::NoFlow, "nothing follows from it");
}

#[test]
fn resets_from_outside_are_bounded_by_sender() {
    let tables = tables(&[outward(TCP, 8443), inward(TCP, 443)]);
    let mut node = Node::new(&tables);
    node.0.settings.new_flows = Rate { interval: SECOND / 2, tolerance: SECOND };
    let count = |node: &Node, packet: &[u8], wanted: Reason| {
        (0..20).filter(|_| node.receive(packet) == wanted).count()
    };
    let reset = tcp(ASKED, ASKING, RST);
    assert_eq!(count(&node, &reset, Reason::Reset), 3);
    assert_eq!(count(&node, &reset, Reason::InitiatorRate), 20);
    node.wait(2);
    assert_eq!(count(&node, &reset, Reason::Reset), 3);
    // What this host sends is not, and what is tracked is not either.
    assert_eq!((0..20).filter(|_| node.send(tcp(SERVER, CLIENT, RST)) == Reason::Reset).count(), 20);
    assert_eq!(node.send(tcp(ASKING, ASKED, SYN)), Reason::Rule);
    assert_eq!(count(&node, &reset, Reason::Reply), 20);
}

#[test]
fn a_revoked_conversation_does_not_come_back() {
    let both = tables(&[inward(TCP, 443), outward(TCP, 40_000)]);
    let outward_only = tables(&[outward(TCP, 40_000)]);
    let inward_only = tables(&[inward(TCP, 443)]);
    // The policy admits the other way between the same ports.
    for listens in [true, false] {
        for segment in [ACK, FIN_ACK] {
            let mut node = Node::new(&both);
            give_socket(&node, SERVER, CLIENT, 1);
            if listens {
                give_socket(&node, SERVER, ANYBODY, 10);
            }
            assert_eq!(node.receive(tcp(CLIENT, SERVER, SYN)), Reason::Rule);
            assert_eq!(node.send(tcp(SERVER, CLIENT, SYN_ACK)), Reason::Rule);
            node.wait(100_000);
            node.swap(&outward_only, 11);
            assert_eq!(node.receive(tcp(CLIENT, SERVER, segment)), Reason::NoFlow, "{listens}: he began it");
            // Where nothing is known of it any more, the listener tells.
            node.0.flows.borrow_mut().clear();
            let reason = if listens { Reason::NoFlow } else { Reason::Resumed };
            assert_eq!(node.receive(tcp(CLIENT, SERVER, segment)), reason, "{listens}, {segment:#x}");
        }
    }
    // What this host began.
    let mut node = Node::new(&both);
    give_socket(&node, SERVER, CLIENT, 1);
    assert_eq!(node.send(tcp(SERVER, CLIENT, SYN)), Reason::Rule);
    node.swap(&inward_only, 11);
    assert_eq!(node.send(tcp(SERVER, CLIENT, ACK)), Reason::NoFlow);
    // A rule that is gone altogether.
    let none = tables(&[]);
    node.swap(&none, 12);
    assert_eq!(node.send(tcp(SERVER, CLIENT, ACK)), Reason::NoRule);
    assert_eq!(node.receive(tcp(CLIENT, SERVER, RST)), Reason::NoRule);
}

#[test]
fn what_was_recorded_both_ways_says_nothing_of_who_began() {
    let tables = tables(&[inward(TCP, 443)]);
    let mut node = Node::new(&tables);
    give_socket(&node, SERVER, CLIENT, 1);
    assert_eq!(node.send(tcp(SERVER, CLIENT, ACK)), Reason::Resumed);
    // As the agent records it, the wrong way only, and long ago.
    let mut flows = node.0.flows.borrow_mut();
    let (key, value) = flows.drain().next().unwrap();
    let (initiator, responder) = (key.responder, key.initiator);
    let (initiator_port, responder_port) = (key.responder_port, key.initiator_port);
    let direction = 1 - key.direction;
    let key = FlowKey { initiator, responder, initiator_port, responder_port, direction, ..key };
    flows.insert(key, FlowValue { generation: 0, last_seen: 0, ..value });
    drop(flows);
    assert_eq!(node.send(tcp(SERVER, CLIENT, ACK)), Reason::Resumed);
    node.wait(1);
    assert_eq!(node.send(tcp(SERVER, CLIENT, ACK)), Reason::Reply);
}

#[test]
fn a_flow_that_was_recorded_both_ways_and_is_over_restores_nothing_revoked() {
    let both = tables(&[inward(TCP, 443), outward(TCP, 40_000)]);
    let outward_only = tables(&[outward(TCP, 40_000)]);
    for real in [false, true] {
        let mut node = Node::new(&both);
        give_socket(&node, SERVER, CLIENT, 1);
        // The client's connection, as he began it; and the other way, as recorded, or as it once was.
        assert_eq!(node.receive(tcp(CLIENT, SERVER, SYN)), Reason::Rule);
        assert_eq!(node.send(tcp(SERVER, CLIENT, SYN)), Reason::Rule);
        for (key, flow) in node.0.flows.borrow_mut().iter_mut() {
            if key.direction == 1 && !real {
                flow.generation = 0;
            }
        }
        node.wait(100_000);
        node.swap(&outward_only, 11);
        let reason = if real { Reason::Resumed } else { Reason::FlowExpired };
        assert_eq!(node.receive(tcp(CLIENT, SERVER, ACK)), reason);
    }
}

#[test]
fn what_this_host_began_is_no_reply_once_its_flow_is_forgotten() {
    // The peer may use every port of this host; what this host began towards 443 was revoked.
    let tables = tables(&[inward(TCP, 50_000), inward(TCP, 443)]);
    for (port, listens, range, reason) in [
        (50_000, false, [32_768, 60_999], Reason::NoFlow),
        (50_000, false, [50_000, 50_000], Reason::NoFlow),
        (50_000, true, [32_768, 60_999], Reason::Resumed),
        (50_000, false, [32_768, 49_999], Reason::Resumed),
        (50_000, false, [50_001, 60_999], Reason::Resumed),
        (443, false, [32_768, 60_999], Reason::Resumed),
    ] {
        let mut node = Node::new(&tables);
        node.0.settings.outward_ports = range;
        let here = (OWN, port);
        give_socket(&node, here, ASKED, 1);
        if listens {
            give_socket(&node, here, ANYBODY, 10);
        }
        let sent = node.send(tcp(here, ASKED, ACK));
        assert_eq!(sent, reason, "{port}, listens: {listens}, {range:?}");
        // Where the flow that it is a reply of is over, and not forgotten, that says who began.
        assert_eq!(node.receive(tcp(ASKED, here, SYN)), Reason::Rule);
        node.wait(100_000);
        assert_eq!(node.send(tcp(here, ASKED, ACK)), Reason::Resumed);
    }
}

#[test]
fn who_is_cut_off_does_not_come_back() {
    for (quarantined, exempt) in [(PEER, false), (OWN, false), (PEER, true)] {
        let mut tables = tables(&[inward(TCP, 443), outward(TCP, 8443)]);
        quarantine(&mut tables, quarantined);
        let mut node = Node::new(&tables);
        // With management exemptions, of which these rules are none, the decision goes on for a while.
        node.0.settings.features |= if exempt { FEATURE_EXEMPT } else { 0 };
        give_socket(&node, SERVER, CLIENT, 1);
        give_socket(&node, ASKING, ASKED, 1);
        for flags in [ACK, FIN_ACK, RST] {
            assert_eq!(node.send(tcp(SERVER, CLIENT, flags)), Reason::Quarantined, "{exempt} {flags:#x}");
            assert_eq!(node.receive(tcp(ASKED, ASKING, flags)), Reason::Quarantined, "{exempt} {flags:#x}");
        }
        assert_eq!(node.flows(), (0, 0));
    }
}

#[test]
fn a_silent_conversation_goes_on_while_its_socket_is_there() {
    let tables = tables(&[inward(TCP, 443)]);
    let mut node = Node::new(&tables);
    assert_eq!(node.receive(tcp(CLIENT, SERVER, SYN)), Reason::Rule);
    assert_eq!(node.send(tcp(SERVER, CLIENT, SYN_ACK)), Reason::Reply);
    assert_eq!(node.send(tcp(SERVER, CLIENT, ACK)), Reason::Reply);
    node.wait(7201);
    assert_eq!(node.send(tcp(SERVER, CLIENT, ACK)), Reason::FlowExpired, "nobody holds it");
    assert_eq!(node.send(tcp(SERVER, CLIENT, RST)), Reason::Reset);
    give_socket(&node, SERVER, CLIENT, 1);
    assert_eq!(node.send(tcp(SERVER, CLIENT, ACK)), Reason::Resumed);
    assert_eq!(node.send(tcp(SERVER, CLIENT, ACK)), Reason::Reply);
}

#[test]
fn the_socket_tells_which_ends_have_finished() {
    const BOTH: u8 = FLOW_FIN_INITIATOR | FLOW_FIN_RESPONDER;
    let tables = tables(&[inward(TCP, 443), outward(TCP, 8443)]);
    let closing = FlowState::TcpClosing as u8;
    let open = FlowState::TcpEstablished as u8;
    // This host began it: state, flags beside 'established', state of the flow.
    for (state, flags, wanted) in [
        (1, 0, open),
        (4, FLOW_FIN_INITIATOR, open),
        (5, FLOW_FIN_INITIATOR, open),
        (8, FLOW_FIN_RESPONDER, open),
        (6, BOTH, closing),
        (9, BOTH, closing),
        (11, BOTH, closing),
    ] {
        let node = Node::new(&tables);
        give_socket(&node, ASKING, ASKED, state);
        assert_eq!(node.receive(tcp(ASKED, ASKING, ACK)), Reason::Resumed);
        let FlowValue { state: found, flags: set, generation, rule, .. } = flow(&node);
        assert_eq!((found, set), (wanted, FLOW_ESTABLISHED | flags), "began it, {state}");
        assert_eq!((generation, rule), (10, 1));
        // The other end did: the same flags are of the other one.
        let node = Node::new(&tables);
        give_socket(&node, SERVER, CLIENT, state);
        assert_eq!(node.send(tcp(SERVER, CLIENT, ACK)), Reason::Resumed);
        let mirrored = match flags {
            FLOW_FIN_INITIATOR => FLOW_FIN_RESPONDER,
            FLOW_FIN_RESPONDER => FLOW_FIN_INITIATOR,
            same => same,
        };
        assert_eq!((flow(&node).state, flow(&node).flags), (wanted, FLOW_ESTABLISHED | mirrored), "{state}");
    }
    // And the segment, which of its own.
    let node = Node::new(&tables);
    give_socket(&node, SERVER, CLIENT, 1);
    assert_eq!(node.send(tcp(SERVER, CLIENT, FIN_ACK)), Reason::Resumed);
    assert_eq!((flow(&node).state, flow(&node).flags), (closing, FLOW_ESTABLISHED | FLOW_FIN_RESPONDER));
}

#[test]
fn forwarded_connections_are_taken_up_for_a_while_and_none_of_the_nodes_own() {
    let rules = [Rule { local: 2, ..inward(TCP, 443) }, inward(TCP, 443)];
    let tables = tables(&rules);
    let mut node = Node::new(&tables);
    let behind = (ROUTED, 443);
    assert_eq!(node.send(tcp(behind, CLIENT, ACK)), Reason::NoFlow, "never");
    node.0.settings.forwarded_until = 1010;
    assert_eq!(node.send(tcp(SERVER, CLIENT, ACK)), Reason::NoFlow, "its own have sockets");
    assert_eq!(node.send(tcp(behind, CLIENT, FIN_ACK)), Reason::NoFlow);
    assert_eq!(node.send(tcp((ROUTED, 444), CLIENT, ACK)), Reason::NoFlow, "a service that no rule admits");
    assert_eq!(node.send(tcp(behind, CLIENT, ACK)), Reason::Resumed);
    assert_eq!(node.send(tcp(behind, CLIENT, ACK)), Reason::Reply);
    node.wait(9);
    assert_eq!(node.send(tcp(behind, (PEER, 40_001), ACK)), Reason::Resumed);
    node.wait(1);
    assert_eq!(node.send(tcp(behind, (PEER, 40_002), ACK)), Reason::NoFlow, "over");
    assert_eq!(node.send(tcp(behind, (PEER, 40_001), ACK)), Reason::Reply);
    // From there it is reset at any time.
    assert_eq!(node.send(tcp(behind, (PEER, 40_002), RST)), Reason::Reset);
}
