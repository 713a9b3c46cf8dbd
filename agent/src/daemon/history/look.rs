//! One look at the table of flows: who talked with whom by which rule.

use std::collections::HashSet;
use std::net::IpAddr;

use bulkhead_abi::{FLOW_AUDIT, FlowKey, FlowValue, NO_RULE, Timeouts, to_ip};
use bulkhead_dataplane::FlowTable;

/// Conversations that are told apart in a look: some 8 MB. Beyond that who it was is not kept.
const MOST: usize = 65_536;

/// A conversation, whatever the port of who began it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Talk {
    /// Its generation and rule, as the kernel numbers it; none: audit mode let it pass.
    pub rule: Option<(u32, u32)>,
    /// Who began, and with whom; none: too many to tell.
    pub ends: Option<(IpAddr, IpAddr)>,
    /// The responder's port.
    pub port: u16,
    /// IP protocol number.
    pub protocol: u8,
}

/// Reads all flows that are not over, or were seen since a time (ns of the flow clock): one that has ended stays in its
/// place until another takes it.
pub fn look(table: &FlowTable, timeouts: &Timeouts, since: u64, now: u64) -> HashSet<Talk> {
    collect(table.flows(), timeouts, since, now)
}

fn collect(
    flows: impl Iterator<Item = (FlowKey, FlowValue)>,
    timeouts: &Timeouts,
    since: u64,
    now: u64,
) -> HashSet<Talk> {
    let mut talks = HashSet::new();
    for (key, flow) in flows {
        if flow.last_seen < since && is_over(&flow, timeouts, now) {
            continue;
        }
        let talk = talk(&key, &flow);
        if talks.len() < MOST || talks.contains(&talk) {
            talks.insert(talk);
        } else {
            talks.insert(Talk { ends: None, port: 0, protocol: 0, ..talk });
        }
    }
    talks
}

fn is_over(flow: &FlowValue, timeouts: &Timeouts, now: u64) -> bool {
    let timeout = timeouts.0.get(usize::from(flow.state)).copied().unwrap_or(0);
    now.saturating_sub(flow.last_seen) > u64::from(timeout) * 1_000_000_000
}

fn talk(key: &FlowKey, flow: &FlowValue) -> Talk {
    let is_audit = flow.flags & FLOW_AUDIT != 0 || flow.rule == NO_RULE;
    // An echo's identifier is no port.
    let has_ports = bulkhead_policy::service::has_ports(key.protocol);
    Talk {
        rule: (!is_audit).then_some((flow.generation, flow.rule)),
        ends: Some((to_ip(&key.initiator), to_ip(&key.responder))),
        port: if has_ports { key.responder_port } else { 0 },
        protocol: key.protocol,
    }
}

#[cfg(test)]
mod tests {
    use bulkhead_abi::{Address, FLOW_AUDIT, FlowKey, FlowState, FlowValue, NO_RULE, default_timeouts};

    use super::{MOST, Talk, collect};

    const SECOND: u64 = 1_000_000_000;

    fn flow(source: u32, source_port: u16, state: FlowState, last_seen: u64) -> (FlowKey, FlowValue) {
        let address = |last: u32| -> Address {
            bulkhead_abi::from_ip(std::net::Ipv4Addr::from(0x6440_0000 + last).into())
        };
        let key = FlowKey {
            initiator: address(source),
            responder: address(1),
            initiator_port: source_port,
            responder_port: 443,
            zone: 1,
            protocol: 6,
            direction: 0,
        };
        (key, FlowValue { last_seen, generation: 2, rule: 5, state: state as u8, ..FlowValue::NONE })
    }

    fn seen(flows: Vec<(FlowKey, FlowValue)>) -> Vec<Talk> {
        let mut talks: Vec<_> = collect(flows.into_iter(), &default_timeouts(), 940 * SECOND, 1000 * SECOND)
            .into_iter()
            .collect();
        talks.sort_unstable();
        talks
    }

    #[test]
    fn conversations_are_one_whatever_the_port_they_begin_at() {
        let one = seen(
            (0..100).map(|port| flow(9, 40_000 + port, FlowState::TcpEstablished, 990 * SECOND)).collect(),
        );
        assert_eq!(one.len(), 1);
        assert_eq!((one[0].rule, one[0].port, one[0].protocol), (Some((2, 5)), 443, 6));
    }

    #[test]
    fn what_has_ended_since_the_last_look_was_used_and_what_ended_before_was_not() {
        let closed = |at: u64| seen(vec![flow(9, 1, FlowState::TcpClosing, at * SECOND)]).len();
        assert_eq!((closed(941), closed(700)), (1, 0));
        // Silent and not over: whoever narrows the rule would cut it.
        assert_eq!(seen(vec![flow(9, 1, FlowState::TcpEstablished, 1)]).len(), 1);
    }

    #[test]
    fn audit_mode_lets_pass_by_no_rule_and_too_many_are_of_nobody_known() {
        let (key, value) = flow(9, 1, FlowState::TcpSyn, 999 * SECOND);
        let audited = FlowValue { flags: FLOW_AUDIT, rule: NO_RULE, ..value };
        assert_eq!(seen(vec![(key, audited)])[0].rule, None);
        let many: Vec<_> =
            (0..MOST as u32 + 10).map(|n| flow(n, 1, FlowState::TcpSyn, 999 * SECOND)).collect();
        let talks = seen(many);
        assert_eq!(talks.len(), MOST + 1);
        assert_eq!(talks.iter().filter(|talk| talk.ends.is_none()).count(), 1);
    }
}
