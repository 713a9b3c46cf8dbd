//! What holds for flows unless agent.toml says otherwise.

use bulkhead_abi::{FlowState, Rate, TIMEOUTS, Timeouts};

/// Flows that one sender may begin in a second.
pub const DEFAULT_NEW_FLOWS: u32 = 1000;

/// So many flows a second, and a burst of as many; 0: any number.
#[must_use]
pub fn per_second(flows: u32) -> Rate {
    const SECOND: u64 = 1_000_000_000;
    if flows == 0 { Rate::default() } else { Rate { interval: SECOND / u64::from(flows), tolerance: SECOND } }
}

/// How long a flow may be silent. TCP's is twelve hours (RFC 5382 REQ-5 asks for no less than two
/// hours and four minutes), since idle order sessions must live, and four minutes after a FIN or RST (the
/// same); UDP's are RFC 4787's and conntrack's.
#[must_use]
pub fn default_timeouts() -> Timeouts {
    let mut seconds = [30; TIMEOUTS];
    for (state, timeout) in [
        (FlowState::TcpSyn, 60),
        (FlowState::TcpEstablished, 43_200),
        (FlowState::TcpClosing, 240),
        (FlowState::UdpUnreplied, 60),
        (FlowState::UdpReplied, 300),
        (FlowState::Echo, 30),
        (FlowState::SctpInit, 60),
        (FlowState::SctpEstablished, 43_200),
        (FlowState::SctpClosing, 30),
    ] {
        seconds[state as usize] = timeout;
    }
    Timeouts(seconds)
}

#[cfg(test)]
mod tests {
    use bulkhead_abi::FlowState;

    use super::default_timeouts;

    /// RFC 5382, REQ-5.
    #[test]
    fn tcp_has_the_time_that_the_standard_asks_for() {
        let seconds = |state: FlowState| default_timeouts().0[state as usize];
        assert!(seconds(FlowState::TcpEstablished) >= 2 * 3600 + 4 * 60);
        assert!(seconds(FlowState::TcpClosing) >= 4 * 60);
    }
}
