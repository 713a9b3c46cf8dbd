//! Which events are meant: the same words for those of the event log and those that come.

pub mod time;
mod who;

#[cfg(test)]
mod tests;

use bulkhead_api::event::{Drop, Event, Protocol, Reason, Timestamp};
use clap::builder::PossibleValuesParser;

use self::who::Who;
use crate::exit::Usage;

/// All that is given must hold.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Filter {
    /// Only from a node, user, tag, key, address or prefix.
    #[arg(long, value_name = "WHO")]
    pub from: Option<String>,
    /// Only to a node, user, tag, key, address or prefix.
    #[arg(long, value_name = "WHO")]
    pub to: Option<String>,
    /// Only those with it at either end.
    #[arg(long, value_name = "WHO")]
    pub with: Option<String>,
    /// Only to this port.
    #[arg(long)]
    pub port: Option<u16>,
    /// Only of an IP protocol, such as tcp, or by its number.
    #[arg(long, value_name = "NAME")]
    pub protocol: Option<String>,
    /// Only of a reason, such as no_rule.
    #[arg(long)]
    pub reason: Option<String>,
    /// Only on an interface.
    #[arg(long, value_name = "NAME")]
    pub interface: Option<String>,
    /// Only in a direction, seen from this host.
    #[arg(long, value_parser = PossibleValuesParser::new(DIRECTIONS))]
    pub direction: Option<String>,
    /// Only by a rule: its name or its number.
    #[arg(long)]
    pub rule: Option<String>,
    /// Only of a kind, such as drop or control.
    #[arg(long)]
    pub kind: Option<String>,
}

/// When what is meant was.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Times {
    /// Only since a time (RFC 3339), or so long ago, such as 24h.
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Only before a time (RFC 3339), or so long ago.
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
}

const DIRECTIONS: [&str; 2] = ["ingress", "egress"];

/// Kinds of events, as records name them.
const KINDS: [&str; 12] = [
    "drop",
    "would_differ",
    "allowed",
    "unenforced",
    "control",
    "altered",
    "binding",
    "workload",
    "alarm",
    "coverage",
    "balance",
    "lost",
];

/// A filter whose words are understood.
#[derive(Clone, Debug, Default)]
pub struct Meant {
    from: Option<Who>,
    to: Option<Who>,
    with: Option<Who>,
    port: Option<u16>,
    protocol: Option<Protocol>,
    reason: Option<Reason>,
    interface: Option<String>,
    direction: Option<String>,
    rule: Option<String>,
    kind: Option<String>,
    /// The first time that is meant.
    pub since: Option<Timestamp>,
    /// The first that is not any more.
    pub until: Option<Timestamp>,
}

impl Filter {
    /// What its words mean.
    ///
    /// # Errors
    /// A word that means nothing.
    pub fn meant(&self) -> anyhow::Result<Meant> {
        let who = |text: &Option<String>| text.as_deref().map(Who::of);
        let reason = self.reason.as_deref().map(str::parse).transpose();
        if let Some(kind) = &self.kind
            && !KINDS.contains(&kind.as_str())
        {
            return Err(Usage(format!("'{kind}' is no kind of record; one of {}", KINDS.join(", "))).into());
        }
        let protocol = |text: &str| {
            let words = || Usage(format!("'{text}' is no IP protocol: give a name such as tcp, or a number"));
            Protocol::of(text).ok_or_else(words)
        };
        Ok(Meant {
            from: who(&self.from),
            to: who(&self.to),
            with: who(&self.with),
            port: self.port,
            protocol: self.protocol.as_deref().map(protocol).transpose()?,
            reason: reason
                .map_err(|error| Usage(format!("{error}; docs/reference/reasons.md lists them")))?,
            interface: self.interface.clone(),
            direction: self.direction.clone(),
            rule: self.rule.clone(),
            kind: self.kind.clone(),
            since: None,
            until: None,
        })
    }

    /// Whether everything is meant.
    pub fn is_empty(&self) -> bool {
        self.words().is_empty()
    }

    /// What is asked for, such as `from=engine-1 port=22`.
    pub fn words(&self) -> String {
        let port = self.port.map(|port| port.to_string());
        let words = [
            ("from", &self.from),
            ("to", &self.to),
            ("with", &self.with),
            ("port", &port),
            ("protocol", &self.protocol),
            ("reason", &self.reason),
            ("interface", &self.interface),
            ("direction", &self.direction),
            ("rule", &self.rule),
            ("kind", &self.kind),
        ];
        let given = words.into_iter().filter_map(|(name, word)| Some(format!("{name}={}", word.as_ref()?)));
        given.collect::<Vec<_>>().join(" ")
    }
}

impl Times {
    /// The same within these times.
    ///
    /// # Errors
    /// A word that is no time.
    pub fn of(&self, meant: Meant) -> anyhow::Result<Meant> {
        let [since, until] =
            [&self.since, &self.until].map(|text| text.as_deref().map(time::read).transpose());
        Ok(Meant { since: since?, until: until?, ..meant })
    }
}

impl Meant {
    /// Whether an event is meant.
    pub fn is_meant(&self, event: &Event) -> bool {
        self.since.is_none_or(|since| event.time >= since)
            && self.until.is_none_or(|until| event.time < until)
            && self.kind.as_deref().is_none_or(|kind| kind == event.kind.name())
            && self.fits(event.packets())
    }

    /// Whether what is asked of packets holds of a drop; of other events nothing may be asked of them.
    fn fits(&self, drop: Option<&Drop>) -> bool {
        let Some(drop) = drop else { return !self.is_about_packets() };
        let ends = [drop.source.as_ref(), drop.destination.as_ref()];
        let rule = |words: &String| {
            drop.rule.as_ref().is_some_and(|rule| {
                rule.name.as_ref() == Some(words)
                    || words.parse().is_ok_and(|number: u32| number == rule.number)
            })
        };
        self.from.as_ref().is_none_or(|who| who.is(ends[0]))
            && self.to.as_ref().is_none_or(|who| who.is(ends[1]))
            && self.with.as_ref().is_none_or(|who| ends.into_iter().any(|end| who.is(end)))
            && self.port.is_none_or(|port| drop.destination_port == Some(port))
            && self.protocol.is_none_or(|protocol| drop.protocol == Some(protocol))
            && self.reason.is_none_or(|reason| drop.reason == reason)
            && self.interface.as_ref().is_none_or(|name| drop.interface.as_ref() == Some(name))
            && self.direction.as_ref().is_none_or(|name| drop.direction.name() == name)
            && self.rule.as_ref().is_none_or(rule)
    }

    /// Whether it asks for anything that only packets have.
    fn is_about_packets(&self) -> bool {
        let whom = [&self.from, &self.to, &self.with];
        let words = [&self.interface, &self.direction, &self.rule];
        whom.into_iter().any(Option::is_some)
            || words.into_iter().any(Option::is_some)
            || self.port.is_some()
            || self.protocol.is_some()
            || self.reason.is_some()
    }
}
