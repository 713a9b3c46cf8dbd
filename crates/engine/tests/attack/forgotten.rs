//! Segments to conversations that this host may have begun and does not know any more: whose are
//! answered by a reset.

use bulkhead_abi::{CELL_EXEMPT, FEATURE_AUDIT, FEATURE_EXEMPT, Rate, from_ip};
use bulkhead_engine::{ANSWER_WORDS, Answer, Reason};

use super::packets::*;
use super::untracked::{ANYBODY, ASKED, ASKING, CLIENT, CONNECTIONS, OTHERS, SERVER, give_socket};
use super::world::*;

/// How many segments were to be answered by a reset, since this was asked last.
fn asked(node: &Node) -> usize {
    node.0.answers.take().len()
}

/// A connection that this host may have begun: nobody knows of it any more.
#[test]
fn who_sends_to_a_forgotten_conversation_is_told_so_whatever_is_open_here() {
    let tables = tables(&[outward(TCP, 8443), inward(TCP, 443)]);
    let end = |(address, port): (&str, u16)| (from_ip(address.parse().unwrap()), port);
    let (asked6, asking6) = ((PEER6, 8443), (OWN6, 50_000));
    for listens in [false, true] {
        let mut node = Node::new(&tables);
        if listens {
            give_socket(&node, ASKING, ANYBODY, 10);
            give_socket(&node, asking6, ANYBODY, 10);
        }
        for (there, here) in [(ASKED, ASKING), (asked6, asking6)] {
            for flags in [ACK, FIN_ACK, ACK | 0x08] {
                assert_eq!(node.receive(tcp(there, here, flags)), Reason::NoFlow, "{listens} {flags:#x}");
                let expected = [(Answer::Forgotten, [end(there), end(here)])];
                assert_eq!(node.0.answers.take(), expected, "{listens} {flags:#x}");
                // What follows at once is answered by the same.
                assert_eq!((node.receive(tcp(there, here, flags)), asked(&node)), (Reason::NoFlow, 0));
                node.wait(1);
            }
        }
        assert_eq!(node.flows(), (0, 0), "it leaves no trace");
    }
}

#[test]
fn a_flow_that_this_host_began_and_that_is_over_is_answered() {
    let tables = tables(&[outward(TCP, 8443)]);
    let mut node = Node::new(&tables);
    assert_eq!(node.send(tcp(ASKING, ASKED, SYN)), Reason::Rule);
    assert_eq!(node.receive(tcp(ASKED, ASKING, SYN_ACK)), Reason::Reply);
    assert_eq!((node.receive(tcp(ASKED, ASKING, ACK)), asked(&node)), (Reason::Reply, 0));
    node.wait(100_000);
    assert_eq!((node.receive(tcp(ASKED, ASKING, ACK)), asked(&node)), (Reason::FlowExpired, 1));
}

#[test]
fn nothing_else_is_answered() {
    let rules = [
        outward(TCP, 8443),
        inward(TCP, 443),
        denied(outward(TCP, 99)),
        Rule { local: 2, ..outward(TCP, 8443) },
    ];
    let tables = tables(&rules);
    let node = Node::new(&tables);
    // What opens or accepts, or resets; another protocol.
    for (flags, reason) in [(SYN, Reason::NoRule), (SYN_ACK, Reason::NoFlow), (RST, Reason::Reset)] {
        assert_eq!((node.receive(tcp(ASKED, ASKING, flags)), asked(&node)), (reason, 0), "{flags:#x}");
    }
    assert_eq!((node.receive(udp(ASKED, ASKING)), asked(&node)), (Reason::NoFlow, 0));
    for flags in [ACK, FIN_ACK] {
        // From ports that this host may not use, from who is not whom it may ask, to who is behind it.
        for (from, to) in [
            ((PEER, 8444), ASKING),
            ((PEER, 99), ASKING),
            ((OTHER, 8443), ASKING),
            ((NOBODY, 8443), ASKING),
            (ASKED, (ROUTED, 50_000)),
        ] {
            assert!(!passes(node.receive(tcp(from, to, flags))), "{from:?} {to:?}");
            assert_eq!(asked(&node), 0, "{from:?} {to:?} {flags:#x}");
        }
        // What goes out, and what the policy admits anyway.
        assert_eq!((node.send(tcp(SERVER, CLIENT, flags)), asked(&node)), (Reason::NoFlow, 0));
        assert_eq!((node.receive(tcp(CLIENT, SERVER, flags)), asked(&node)), (Reason::Rule, 0));
    }
}

#[test]
fn a_socket_of_these_ends_answers_for_itself() {
    let tables = tables(&[outward(TCP, 8443)]);
    for state in CONNECTIONS.into_iter().chain(OTHERS) {
        let node = Node::new(&tables);
        give_socket(&node, ASKING, ASKED, state);
        node.receive(tcp(ASKED, ASKING, ACK));
        // One that listens has no end there; the kernel finds it where there is no other.
        let wanted = usize::from([0, 10].contains(&state));
        assert_eq!(asked(&node), wanted, "{state}");
    }
    // Somebody begins it now, or has begun it from outside.
    let node = Node::new(&tables);
    give_socket(&node, ASKING, ANYBODY, 10);
    give_socket(&node, ASKING, ASKED, 1);
    assert_eq!((node.receive(tcp(ASKED, ASKING, ACK)), asked(&node)), (Reason::NoFlow, 0));
}

#[test]
fn who_began_it_himself_is_not_answered() {
    let both = tables(&[inward(TCP, 443), outward(TCP, 40_000)]);
    let outward_only = tables(&[outward(TCP, 40_000)]);
    let mut node = Node::new(&both);
    assert_eq!(node.receive(tcp(CLIENT, SERVER, SYN)), Reason::Rule);
    node.wait(100_000);
    node.swap(&outward_only, 11);
    assert_eq!((node.receive(tcp(CLIENT, SERVER, ACK)), asked(&node)), (Reason::NoFlow, 0));
    // As far as that is known.
    node.0.flows.borrow_mut().clear();
    assert_eq!((node.receive(tcp(CLIENT, SERVER, ACK)), asked(&node)), (Reason::NoFlow, 1));
}

#[test]
fn answers_are_bounded_by_sender_together_with_what_he_begins() {
    let tables = tables(&[outward(TCP, 8443), inward(TCP, 443)]);
    let mut node = Node::new(&tables);
    node.0.settings.new_flows = Rate { interval: SECOND / 2, tolerance: SECOND };
    let ask = |node: &Node, count: u16| {
        let segments = (0..count).map(|port| tcp(ASKED, (OWN, 50_000 + port), ACK));
        segments.for_each(|segment| assert_eq!(node.receive(segment), Reason::NoFlow));
        asked(node)
    };
    assert_eq!(ask(&node, 20), 3);
    assert_eq!(node.receive(tcp(CLIENT, SERVER, SYN)), Reason::InitiatorRate);
    node.wait(1);
    assert_eq!(node.receive(tcp(CLIENT, SERVER, SYN)), Reason::Rule);
    assert_eq!(ask(&node, 20), 1);
    // What is not answered takes nothing.
    node.wait(10);
    (0..20).for_each(|_| _ = node.receive(tcp((PEER, 8444), ASKING, ACK)));
    assert_eq!(ask(&node, 20), 3);
}

#[test]
fn neither_who_is_cut_off_is_answered_nor_anybody_in_audit_mode() {
    for (quarantined, exempt) in [(PEER, false), (OWN, false), (PEER, true), (OWN, true)] {
        let mut tables = tables(&[outward(TCP, 8443)]);
        tables.cells.iter_mut().for_each(|cell| cell.flags |= if exempt { CELL_EXEMPT } else { 0 });
        quarantine(&mut tables, quarantined);
        let mut node = Node::new(&tables);
        node.0.settings.features |= if exempt { FEATURE_EXEMPT } else { 0 };
        assert_eq!((node.receive(tcp(ASKED, ASKING, ACK)), asked(&node)), (Reason::Quarantined, 0));
    }
    let tables = tables(&[outward(TCP, 8443)]);
    let mut node = Node::new(&tables);
    node.0.settings.features |= FEATURE_AUDIT;
    assert_eq!((node.receive(tcp(ASKED, ASKING, ACK)), asked(&node)), (Reason::NoFlow, 0));
}

#[test]
fn each_of_many_who_send_at_once_is_answered() {
    let tables = tables(&[outward(TCP, 8443)]);
    let mut node = Node::new(&tables);
    // More than there are words: they share some.
    let count = 2 * u16::try_from(ANSWER_WORDS).unwrap();
    let all = |node: &Node| {
        (1..=count).for_each(|port| _ = node.receive(tcp(ASKED, (OWN, port), ACK)));
        asked(node)
    };
    assert_eq!(all(&node), usize::from(count));
    node.wait(1);
    assert_eq!(all(&node), usize::from(count));
    // And each once, unless another has its word.
    let few = |node: &Node| {
        (1..=100).for_each(|port| (0..10).for_each(|_| _ = node.receive(tcp(ASKED, (OWN, port), ACK))));
        asked(node)
    };
    node.wait(1);
    assert_eq!(few(&node), 100);
}
