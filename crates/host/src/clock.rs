//! The wall clock's state, as the kernel says.

use std::fs;

/// What keeps the wall clock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClockState {
    /// What it counts, such as `tsc`; `unknown` if the kernel does not say.
    pub source: String,
    /// What it is kept in time by; none if the kernel does not say.
    pub discipline: Option<Discipline>,
}

/// How the clock is kept in time with others (adjtimex(2)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Discipline {
    /// Whether anything keeps it in time.
    pub synchronized: bool,
    /// What it is still to be shifted by, ns.
    pub offset: i64,
    /// How wrong it may be, ns.
    pub error: i64,
}

impl ClockState {
    /// Asks the kernel.
    #[must_use]
    pub fn now() -> Self {
        let source = fs::read_to_string("/sys/devices/system/clocksource/clocksource0/current_clocksource");
        let source = source.map_or_else(|_| "unknown".to_owned(), |source| source.trim().to_owned());
        // SAFETY: all zeros is a timex that asks and sets nothing (adjtimex(2)).
        let mut timex: libc::timex = unsafe { std::mem::zeroed() };
        // SAFETY: it is written to by the kernel alone, during the call.
        if unsafe { libc::adjtimex(&raw mut timex) } < 0 {
            return Self { source, discipline: None };
        }
        let unit = if timex.status & libc::STA_NANO != 0 { 1 } else { 1000 };
        let discipline = Discipline {
            synchronized: timex.status & libc::STA_UNSYNC == 0,
            offset: timex.offset.saturating_mul(unit),
            error: timex.maxerror.saturating_mul(1000),
        };
        Self { source, discipline: Some(discipline) }
    }
}

#[cfg(test)]
mod tests {
    use super::ClockState;

    #[test]
    fn this_hosts_clock_has_a_source_and_an_error() {
        let state = ClockState::now();
        assert!(!state.source.is_empty());
        assert!(state.discipline.is_none_or(|discipline| discipline.error >= 0), "{state:?}");
    }
}
