//! What holds unless agent.toml says otherwise: sizes of tables, and how long flows last.

use crate::{BUCKET_SLOTS, FlowState, Rate, TIMEOUTS, Timeouts};

/// Sizes of the maps that outlive generations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Flows that are tracked at a time.
    pub flows: u32,
    /// Kinds of drops that are counted together.
    pub aggregates: u32,
    /// Bytes of the event ring: a power of two times the page size.
    pub event_bytes: u32,
    /// Addresses that can be quarantined in a generation that runs, beyond those that have
    /// an entry of their own.
    pub spare_addresses: u32,
}

impl Default for Capacity {
    fn default() -> Self {
        Self { flows: 131_072, aggregates: 16_384, event_bytes: 1 << 20, spare_addresses: 64 }
    }
}

impl Capacity {
    /// Buckets of the table of flows: half of their slots are enough for all, so that hardly any
    /// flow meets two full buckets.
    #[must_use]
    pub fn flow_buckets(&self) -> u32 {
        self.flows.div_ceil(BUCKET_SLOTS / 2).next_power_of_two().max(2)
    }
}

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
    use crate::FlowState;

    use super::default_timeouts;

    /// RFC 5382, REQ-5.
    #[test]
    fn tcp_has_the_time_that_the_standard_asks_for() {
        let seconds = |state: FlowState| default_timeouts().0[state as usize];
        assert!(seconds(FlowState::TcpEstablished) >= 2 * 3600 + 4 * 60);
        assert!(seconds(FlowState::TcpClosing) >= 4 * 60);
    }
}
