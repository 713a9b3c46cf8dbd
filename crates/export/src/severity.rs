//! How bad an event is, on the scales of others.

use bulkhead_api::event::{
    Action, AlarmKind, AlarmState, BindingState, Effect, ExpiryLevel, Kind, LostCause, Outcome, WorkloadState,
};

/// How bad an event is. The order is that of OCSF's `severity_id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Nothing to do.
    Informational,
    /// What a policy is for: somebody was refused.
    Low,
    /// To be looked at.
    Medium,
    /// Packets may have passed, or evidence is gone.
    High,
    /// Somebody is to come at once: what is needed ends within a day, or has.
    Critical,
}

impl Severity {
    /// Of an event.
    #[must_use]
    pub fn of(kind: &Kind) -> Self {
        match kind {
            Kind::Drop(drop) if drop.audit => Self::Informational,
            Kind::Drop(_) => Self::Low,
            Kind::WouldDiffer(_) | Kind::Allowed(_) => Self::Informational,
            Kind::Unenforced(time) => match time.effect {
                Effect::None => Self::Low,
                Effect::Closed => Self::Medium,
                Effect::Open => Self::High,
            },
            Kind::Control(control) => match (control.outcome, control.action) {
                (Outcome::Done, Action::Detach) => Self::High,
                (Outcome::Done, Action::Quarantine | Action::Restore) | (Outcome::Failed, _) => Self::Medium,
                (Outcome::Done, _) => Self::Informational,
                (Outcome::Refused, _) => Self::Low,
            },
            Kind::Altered(_) => Self::High,
            Kind::Binding(binding) => match binding.state {
                BindingState::Bound | BindingState::Unproven => Self::Informational,
                // A peer that was taken away, or is not there yet.
                BindingState::Unbound => Self::Low,
                BindingState::Conflicting => Self::High,
            },
            Kind::Workload(change) => match change.state {
                WorkloadState::Running | WorkloadState::NotRunning => Self::Informational,
                WorkloadState::Ambiguous => Self::High,
            },
            Kind::Alarm(alarm) => match (alarm.state, alarm.alarm) {
                (AlarmState::Ended, _) => Self::Informational,
                (AlarmState::Raised, AlarmKind::Expiry) => match alarm.level {
                    Some(ExpiryLevel::Critical | ExpiryLevel::Expired) => Self::Critical,
                    _ => Self::Medium,
                },
                (AlarmState::Raised, AlarmKind::IdleRule) => Self::Low,
                (AlarmState::Raised, _) => Self::Medium,
            },
            Kind::Coverage(coverage) if coverage.whole => Self::Informational,
            Kind::Coverage(_) => Self::Medium,
            Kind::Balance(balance) if balance.is_balanced() => Self::Informational,
            // The next one may balance.
            Kind::Balance(balance) if balance.accounts().iter().any(|account| !account.settled) => Self::Low,
            Kind::Balance(_) => Self::High,
            Kind::Lost(lost) if lost.cause == LostCause::SetAside => Self::High,
            Kind::Lost(_) | Kind::Missed(_) => Self::Medium,
        }
    }

    /// OCSF's `severity_id`.
    #[must_use]
    pub const fn ocsf(self) -> u8 {
        match self {
            Self::Informational => 1,
            Self::Low => 2,
            Self::Medium => 3,
            Self::High => 4,
            Self::Critical => 5,
        }
    }

    /// Its name, which is OCSF's.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Informational => "Informational",
            Self::Low => "Low",
            Self::Medium => "Medium",
            Self::High => "High",
            Self::Critical => "Critical",
        }
    }

    /// Syslog's (RFC 5424, table 2): 6 informational, 5 notice, 4 warning, 3 error, 2 critical.
    #[must_use]
    pub const fn syslog(self) -> u8 {
        7 - self.ocsf()
    }

    /// OpenTelemetry's `SeverityNumber`: INFO, INFO2, WARN, ERROR, ERROR2.
    #[must_use]
    pub const fn otlp(self) -> i32 {
        match self {
            Self::Informational => 9,
            Self::Low => 10,
            Self::Medium => 13,
            Self::High => 17,
            Self::Critical => 18,
        }
    }
}

#[cfg(test)]
mod tests {
    use bulkhead_api::event::{Alarm, AlarmKind, AlarmState, ExpiryLevel, Kind, Timestamp};

    use super::Severity;

    #[test]
    fn what_expires_is_as_bad_as_its_end_is_near() {
        let of = |state, level| {
            Severity::of(&Kind::Alarm(Box::new(Alarm {
                alarm: AlarmKind::Expiry,
                state,
                cause: String::new(),
                since: Timestamp::from_unix(0),
                source: None,
                destination: None,
                rule: None,
                count: 1,
                usual: None,
                seconds: None,
                expires: None,
                level: Some(level),
                names: Vec::new(),
                detail: String::new(),
                generation: 1,
            })))
        };
        assert_eq!(of(AlarmState::Raised, ExpiryLevel::Warning), Severity::Medium);
        assert_eq!(of(AlarmState::Raised, ExpiryLevel::Critical), Severity::Critical);
        assert_eq!(of(AlarmState::Raised, ExpiryLevel::Expired), Severity::Critical);
        assert_eq!(of(AlarmState::Ended, ExpiryLevel::Expired), Severity::Informational);
        assert_eq!(
            (Severity::Critical.ocsf(), Severity::Critical.syslog(), Severity::Critical.otlp()),
            (5, 2, 18)
        );
    }
}
