//! The busy case: nothing is left to compare of a flow, and what goes on there only passes.

use bulkhead_abi::{CELL_TLS_REQUIRED, Direction, FLOW_TLS, recall};

use super::progress::{Progress, State};
use crate::Metadata;
use crate::parse::{Role, protocol};

/// Whether [`crate::begins`] would change nothing and drop nothing: both ends have begun as TLS, or, where a rule only
/// observes, it is known how the server did. Of the flow that was looked up last, whose rule's cell has `flags`.
#[inline(always)]
pub(crate) fn is_settled(meta: &Metadata, direction: Direction, flags: u8) -> bool {
    let Metadata { headers, found, .. } = meta;
    let flow = &found.flow;
    if !found.is_some() || recall(&flow.flags) & FLOW_TLS == 0 {
        return false;
    }
    if !matches!(headers.role, Role::Continue | Role::Datagram) {
        return false;
    }
    let [_, _, client, _, _, server] = &flow.begun;
    let [client, server] = [client, server].map(|byte| Progress::from_bits(u32::from(recall(byte)) << 16));
    if flags & CELL_TLS_REQUIRED != 0 {
        return client.state() == State::Settled && server.state() == State::Settled;
    }
    let is_server = found.key.direction != direction.index() as u8;
    let is_known = matches!(server.state(), State::Settled | State::Plaintext | State::Unverified);
    is_server && is_known && (headers.protocol == protocol::UDP || !client.is_open())
}

#[cfg(test)]
mod tests {
    use bulkhead_abi::{CELL_TLS, CELL_TLS_POSTGRES, FlowValue, Settings};

    use super::*;
    use crate::memory::{Memory, Tables};
    use crate::parse::tcp;
    use crate::{Outcome, Packet, Reason};

    const STATES: [State; 12] = [
        State::Unknown,
        State::Record(0),
        State::Record(3),
        State::Record(5),
        State::Prelude(1),
        State::Prelude(9),
        State::Began,
        State::BeganBehind,
        State::Settled,
        State::Plaintext,
        State::Unverified,
        State::Offered,
    ];

    /// A packet of a flow that both ends have, and how its directions began.
    fn found(
        (protocol, detail, data): (u8, u8, usize),
        [client, server]: [State; 2],
        is_client: bool,
    ) -> (Vec<u8>, Metadata) {
        let mut bytes = vec![0; 20 + 20 + data];
        (bytes[32], bytes[33]) = (5 << 4, detail);
        bytes[24..28].copy_from_slice(&77_u32.to_be_bytes());
        bytes[28..32].copy_from_slice(&99_u32.to_be_bytes());
        let [[a, b, c, _], [d, e, f, _]] = [(client, 70), (server, 90)]
            .map(|(state, syn)| Progress::after(syn).with(state).bits().to_le_bytes());
        let mut meta = Metadata { outcome: Outcome { reason: Reason::Rule, rule: 0 }, ..Metadata::UNKNOWN };
        let headers = &mut meta.headers;
        (headers.protocol, headers.version, headers.detail) = (protocol, 4, detail);
        (headers.transport, headers.transport_length) = (20, (bytes.len() - 20) as u32);
        headers.role = if protocol == protocol::TCP { Role::Continue } else { Role::Datagram };
        meta.found.flow = FlowValue { begun: [a, b, c, d, e, f], flags: FLOW_TLS, ..FlowValue::NONE };
        meta.found.key.direction = Direction::Ingress.index() as u8 ^ u8::from(!is_client);
        meta.found.reason = Reason::Reply;
        (bytes, meta)
    }

    #[test]
    fn what_is_not_looked_at_would_have_changed_nothing() {
        let tables = Tables::deny_all();
        let required = CELL_TLS | CELL_TLS_REQUIRED;
        let direction = Direction::Ingress;
        for flags in [CELL_TLS, required, required | CELL_TLS_POSTGRES] {
            let mut settled = 0;
            for (protocol, detail) in
                [(protocol::TCP, tcp::ACK), (protocol::TCP, tcp::ACK | tcp::URG), (protocol::UDP, 0)]
            {
                for (client, server) in
                    STATES.iter().flat_map(|one| STATES.iter().map(move |other| (*one, *other)))
                {
                    for (is_client, data) in [(true, 0), (true, 40), (false, 0), (false, 40)] {
                        let (bytes, meta) = found((protocol, detail, data), [client, server], is_client);
                        if !is_settled(&meta, direction, flags) {
                            continue;
                        }
                        settled += 1;
                        let env = Memory::new(&tables, Settings::UNSET);
                        let mut looked = meta;
                        crate::begins(&env, &Packet::new(&bytes), &mut looked, direction, flags);
                        let seen = (looked.outcome, looked.found);
                        assert_eq!(
                            seen,
                            (meta.outcome, meta.found),
                            "{client:?} {server:?} {is_client} {flags}"
                        );
                        assert!(env.flows.borrow().is_empty() && env.beginnings.borrow().is_empty());
                    }
                }
            }
            assert!(settled > 0, "{flags}");
        }
        // A packet that begins something, or whose flow is not known, is always looked at.
        let states = [State::Settled; 2];
        let (_, settled) = found((protocol::TCP, tcp::ACK, 0), states, false);
        for flags in [CELL_TLS, required] {
            assert!(is_settled(&settled, direction, flags));
            let (mut opens, mut lost, mut other) = (settled, settled, settled);
            opens.headers.role = Role::Open;
            lost.found.reason = Reason::FlowExpired;
            other.found.flow.flags = 0;
            for meta in [opens, lost, other] {
                assert!(!is_settled(&meta, direction, flags));
            }
        }
    }
}
