//! What was found, before it is told.

use std::net::IpAddr;

use bulkhead_api::event::{Alarm, AlarmKind, AlarmState, Direction, End, Rule, Timestamp};
use serde::{Deserialize, Serialize};

/// What an alarm is about: each is raised once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// A source.
    Scan { source: End, direction: Direction },
    /// A pair.
    FailureSpike { source: End, destination: Option<End> },
    /// A venue's lane.
    SessionRate { rule: Rule },
    /// A rule, and who used it.
    IdleRule { rule: Rule, source: Option<End>, destination: Option<End> },
    /// A rule.
    RuleExpiry { rule: Rule, expires: Timestamp, within: Within },
    /// A node's key.
    KeyExpiry { node: String, expires: Timestamp, within: Within },
    /// A node.
    QuarantineWithheld { node: String },
    /// A grant.
    BreakGlass { id: String, expires: Timestamp },
    /// A source of the inventory.
    Source { name: String },
}

/// How soon something expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Within {
    /// 24 hours.
    Day,
    /// 7 days.
    Week,
}

impl Within {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Day => "24 hours",
            Self::Week => "7 days",
        }
    }
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// What it is about.
    pub cause: Cause,
    /// As [`Alarm`] has it.
    pub count: u64,
    /// As [`Alarm`] has it.
    pub usual: Option<u64>,
    /// As [`Alarm`] has it.
    pub seconds: Option<u64>,
    /// As [`Alarm`] has it.
    pub detail: String,
}

/// An alarm that is on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Active {
    /// What it is about.
    pub cause: Cause,
    /// Since when.
    pub since: Timestamp,
    /// What was said.
    pub detail: String,
}

/// What an end is called.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Label {
    /// By its name.
    Name(String),
    /// By its address.
    Address(IpAddr),
}

impl Label {
    /// An end's name, else its address.
    pub fn of(end: &End) -> Self {
        match &end.name {
            Some(name) if end.route.is_none() => Self::Name(name.clone()),
            _ => Self::Address(end.address),
        }
    }
}

/// The same as a text.
pub fn label(end: &End) -> String {
    match Label::of(end) {
        Label::Name(name) => name,
        Label::Address(address) => address.to_string(),
    }
}

impl Cause {
    /// Which alarm it is.
    pub fn kind(&self) -> AlarmKind {
        match self {
            Self::Scan { .. } => AlarmKind::Scan,
            Self::FailureSpike { .. } => AlarmKind::FailureSpike,
            Self::SessionRate { .. } => AlarmKind::SessionRate,
            Self::IdleRule { .. } => AlarmKind::IdleRule,
            Self::RuleExpiry { .. } | Self::KeyExpiry { .. } => AlarmKind::Expiry,
            Self::QuarantineWithheld { .. } => AlarmKind::QuarantineWithheld,
            Self::BreakGlass { .. } => AlarmKind::BreakGlass,
            Self::Source { .. } => AlarmKind::Source,
        }
    }

    /// Its name: equal causes have equal ones.
    pub fn name(&self) -> String {
        let kind = self.kind().name();
        match self {
            Self::Scan { source, direction } => format!("{kind} {} {}", direction.name(), source.address),
            Self::FailureSpike { source, destination } => {
                let destination = destination.as_ref().map_or_else(|| "many".to_owned(), label);
                format!("{kind} {} {destination}", label(source))
            }
            Self::SessionRate { rule } | Self::IdleRule { rule, .. } => format!("{kind} {}", rule.title()),
            Self::RuleExpiry { rule, expires, within } => {
                format!("{kind} rule {} {expires} within {}", rule.title(), within.name())
            }
            Self::KeyExpiry { node, expires, within } => {
                format!("{kind} key {node} {expires} within {}", within.name())
            }
            Self::QuarantineWithheld { node } => format!("{kind} {node}"),
            Self::BreakGlass { id, .. } => format!("{kind} {id}"),
            Self::Source { name } => format!("{kind} {name}"),
        }
    }

    fn ends(&self) -> [Option<End>; 2] {
        match self {
            Self::Scan { source, .. } => [Some(source.clone()), None],
            Self::FailureSpike { source, destination } => [Some(source.clone()), destination.clone()],
            Self::IdleRule { source, destination, .. } => [source.clone(), destination.clone()],
            _ => [None, None],
        }
    }

    fn rule(&self) -> Option<Rule> {
        match self {
            Self::SessionRate { rule } | Self::IdleRule { rule, .. } | Self::RuleExpiry { rule, .. } => {
                Some(rule.clone())
            }
            _ => None,
        }
    }

    fn expires(&self) -> Option<Timestamp> {
        match self {
            Self::RuleExpiry { expires, .. }
            | Self::KeyExpiry { expires, .. }
            | Self::BreakGlass { expires, .. } => Some(*expires),
            _ => None,
        }
    }
}

impl Found {
    /// One of which there is no number.
    pub fn plain(cause: Cause, detail: String) -> Self {
        Self { cause, count: 0, usual: None, seconds: None, detail }
    }

    /// What is told of it.
    pub fn alarm(&self, state: AlarmState, since: Timestamp) -> Alarm {
        let [source, destination] = self.cause.ends();
        Alarm {
            alarm: self.cause.kind(),
            state,
            cause: self.cause.name(),
            since,
            source,
            destination,
            rule: self.cause.rule(),
            count: self.count,
            usual: self.usual,
            seconds: self.seconds,
            expires: self.cause.expires(),
            detail: self.detail.clone(),
            generation: 0,
        }
    }
}
