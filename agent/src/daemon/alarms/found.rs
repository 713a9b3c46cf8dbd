//! What was found, before it is told.

use std::net::IpAddr;

use bulkhead_api::event::{
    Alarm, AlarmKind, AlarmState, Direction, End, Expiring, ExpiryLevel, Rule, Timestamp,
};
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
    /// What ends about the same time.
    Expiry {
        expiring: Expiring,
        /// That time, as groups of the expiry watch have it.
        at: String,
        level: ExpiryLevel,
        expires: Timestamp,
        names: Vec<String>,
        count: u64,
        rule: Option<Rule>,
    },
    /// A node.
    QuarantineWithheld { node: String },
    /// A grant.
    BreakGlass { id: String, expires: Timestamp },
    /// A source of the inventory.
    Source { name: String },
    /// Something of the fleet.
    Fleet { what: String },
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
            Self::Expiry { .. } => AlarmKind::Expiry,
            Self::QuarantineWithheld { .. } => AlarmKind::QuarantineWithheld,
            Self::BreakGlass { .. } => AlarmKind::BreakGlass,
            Self::Source { .. } => AlarmKind::Source,
            Self::Fleet { .. } => AlarmKind::Fleet,
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
            Self::Expiry { expiring, at, level, .. } => {
                format!("{kind} {} {at} {}", expiring.name(), level.name())
            }
            Self::QuarantineWithheld { node } => format!("{kind} {node}"),
            Self::BreakGlass { id, .. } => format!("{kind} {id}"),
            Self::Source { name } => format!("{kind} {name}"),
            Self::Fleet { what } => format!("{kind} {what}"),
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
            Self::SessionRate { rule } | Self::IdleRule { rule, .. } => Some(rule.clone()),
            Self::Expiry { rule, .. } => rule.clone(),
            _ => None,
        }
    }

    fn expires(&self) -> Option<Timestamp> {
        match self {
            Self::Expiry { expires, .. } | Self::BreakGlass { expires, .. } => Some(*expires),
            _ => None,
        }
    }

    fn level(&self) -> Option<ExpiryLevel> {
        if let Self::Expiry { level, .. } = self { Some(*level) } else { None }
    }

    fn names(&self) -> Vec<String> {
        if let Self::Expiry { names, .. } = self { names.clone() } else { Vec::new() }
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
            level: self.cause.level(),
            names: self.cause.names(),
            detail: self.detail.clone(),
            generation: 0,
        }
    }
}
