//! The rate limits of rules.

use crate::Environment;
use crate::rate::take;

/// What a rate limit counts.
#[derive(Clone, Copy)]
pub(crate) enum Counted {
    /// Packets that the rule admits.
    Packets,
    /// Flows that it lets begin.
    NewFlows,
}

/// Takes units of a rule's rate; true where it has none.
#[inline(always)]
pub(crate) fn take_limit(env: &impl Environment, limit: u16, counted: Counted, units: u32) -> bool {
    if limit == 0 {
        return true;
    }
    let index = u32::from(limit);
    let (Some(limit), Some(state)) = (env.limit(index), env.limit_state(index * 2 + counted as u32)) else {
        return false;
    };
    let rate = match counted {
        Counted::Packets => limit.packets,
        Counted::NewFlows => limit.new_flows,
    };
    take(&state, rate, env.boot_time(), u64::from(units))
}
