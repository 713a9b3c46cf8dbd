//! How long a flow may be silent, by state.

use bulkhead_abi::FlowState;
use serde::Deserialize;
use toml::Spanned;

/// The `[timeouts]` table: seconds by state.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Section {
    tcp_syn: Option<Spanned<i64>>,
    tcp_established: Option<Spanned<i64>>,
    tcp_closing: Option<Spanned<i64>>,
    udp_unreplied: Option<Spanned<i64>>,
    udp_replied: Option<Spanned<i64>>,
    echo: Option<Spanned<i64>>,
    sctp_init: Option<Spanned<i64>>,
    sctp_established: Option<Spanned<i64>>,
    sctp_closing: Option<Spanned<i64>>,
}

impl Section {
    /// What the file says, by name and state.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&'static str, FlowState, &Spanned<i64>)> {
        [
            ("tcp_syn", FlowState::TcpSyn, &self.tcp_syn),
            ("tcp_established", FlowState::TcpEstablished, &self.tcp_established),
            ("tcp_closing", FlowState::TcpClosing, &self.tcp_closing),
            ("udp_unreplied", FlowState::UdpUnreplied, &self.udp_unreplied),
            ("udp_replied", FlowState::UdpReplied, &self.udp_replied),
            ("echo", FlowState::Echo, &self.echo),
            ("sctp_init", FlowState::SctpInit, &self.sctp_init),
            ("sctp_established", FlowState::SctpEstablished, &self.sctp_established),
            ("sctp_closing", FlowState::SctpClosing, &self.sctp_closing),
        ]
        .into_iter()
        .filter_map(|(name, state, value)| value.as_ref().map(|value| (name, state, value)))
    }
}
