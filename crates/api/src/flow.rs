//! Flows: the conversations of a host, as they are listed.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::event::{Direction, End, Protocol, Rule};

/// Which flows are asked for, as parameters of a query. All that is given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "FlowQuery"))]
#[serde(deny_unknown_fields)]
pub struct Query {
    /// The other end: a node's name, a user's login, a tag, an address or a prefix.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub with: Option<String>,
    /// The port of either end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The protocol: its name as in policies, or its number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// The state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
    /// An interface: flows of all interfaces that share flows with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// How many are listed at most; 0: all. None: 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
}

/// How many flows are listed unless more are asked for.
pub const LIMIT: u64 = 1000;

/// One line of the answer. The last one is the end: without it the answer broke off.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "FlowLine"))]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Line {
    /// `flow`: a conversation.
    Flow(Box<Flow>),
    /// `end`: how many there were.
    End(Total),
}

/// What was listed of what there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "FlowTotal"))]
pub struct Total {
    /// Flows that were listed.
    pub listed: u64,
    /// Flows that are as asked for.
    pub matched: u64,
}

/// A conversation between this host, or one behind it, and a peer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Flow {
    /// The way of its first packet: `ingress` if the peer began it, `egress` if this side did.
    pub direction: Direction,
    /// IP protocol: its name as in policies, else its number as text.
    pub protocol: Protocol,
    /// The address on this side of the interface.
    pub local: IpAddr,
    /// The port there; absent for protocols without ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_port: Option<u16>,
    /// The other end, and whose it is by the enforced inventory.
    pub peer: End,
    /// The port there; absent for protocols without ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_port: Option<u16>,
    /// How far it has come.
    pub state: State,
    /// Whether it is a completed conversation, which no new flow of another's may push out.
    pub established: bool,
    /// Seconds since its last packet, to about one second.
    pub idle: f64,
    /// Interfaces that share flows, on one of which it is; none if they are not known.
    pub interfaces: Vec<String>,
    /// The generation that last admitted it.
    pub generation: u32,
    /// The rule that last admitted it; absent if none did, as in audit mode, or it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<Rule>,
    /// Audit mode let it pass, and no rule.
    pub audit: bool,
}

/// How far a flow has come; each state has its time-out in agent.toml, by the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "FlowState"))]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum), value(rename_all = "snake_case"))]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// TCP: a SYN was seen, no SYN-ACK yet.
    TcpSyn,
    /// TCP: the SYN-ACK was seen.
    TcpEstablished,
    /// TCP: a RST or both FINs were seen, or a FIN was last.
    TcpClosing,
    /// UDP and protocols without states: no reply yet.
    UdpUnreplied,
    /// UDP and protocols without states: a reply was seen.
    UdpReplied,
    /// ICMP or ICMPv6 echo.
    Echo,
    /// SCTP: an INIT was seen, no INIT ACK yet.
    SctpInit,
    /// SCTP: the INIT ACK was seen.
    SctpEstablished,
    /// SCTP: an ABORT or a SHUTDOWN was seen.
    SctpClosing,
}

impl State {
    /// Every state, by its number in the table of flows.
    pub const ALL: [Self; 9] = [
        Self::TcpSyn,
        Self::TcpEstablished,
        Self::TcpClosing,
        Self::UdpUnreplied,
        Self::UdpReplied,
        Self::Echo,
        Self::SctpInit,
        Self::SctpEstablished,
        Self::SctpClosing,
    ];

    /// The state of a number; none of one that a later version has.
    #[must_use]
    pub fn of(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// Its name, as in JSON and in agent.toml.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TcpSyn => "tcp_syn",
            Self::TcpEstablished => "tcp_established",
            Self::TcpClosing => "tcp_closing",
            Self::UdpUnreplied => "udp_unreplied",
            Self::UdpReplied => "udp_replied",
            Self::Echo => "echo",
            Self::SctpInit => "sctp_init",
            Self::SctpEstablished => "sctp_established",
            Self::SctpClosing => "sctp_closing",
        }
    }
}

impl Flow {
    /// An end for people: address and port, if there is one.
    #[must_use]
    pub fn end(address: IpAddr, port: Option<u16>) -> String {
        port.map_or_else(|| address.to_string(), |port| SocketAddr::new(address, port).to_string())
    }
}

#[cfg(test)]
mod tests {
    use bulkhead_abi::FlowState;

    use super::State;

    #[test]
    fn states_are_those_of_the_table() {
        for (state, number) in [
            (State::TcpSyn, FlowState::TcpSyn),
            (State::TcpEstablished, FlowState::TcpEstablished),
            (State::TcpClosing, FlowState::TcpClosing),
            (State::UdpUnreplied, FlowState::UdpUnreplied),
            (State::UdpReplied, FlowState::UdpReplied),
            (State::Echo, FlowState::Echo),
            (State::SctpInit, FlowState::SctpInit),
            (State::SctpEstablished, FlowState::SctpEstablished),
            (State::SctpClosing, FlowState::SctpClosing),
        ] {
            assert_eq!(State::of(number as u8), Some(state));
            assert_eq!(serde_json::to_value(state).unwrap(), state.name());
        }
        assert_eq!(State::of(State::ALL.len() as u8), None);
    }
}
