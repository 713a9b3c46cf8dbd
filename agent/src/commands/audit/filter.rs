//! Which records are meant.

use std::net::IpAddr;

use anyhow::Context as _;
use bulkhead_api::event::{Drop, End, Event, Kind, Reason, Timestamp};
use ipnet::IpNet;

use crate::daemon::clock::wall_time;
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
    /// Only of a reason, such as no_rule.
    #[arg(long)]
    pub reason: Option<String>,
    /// Only of a kind, such as drop or control.
    #[arg(long)]
    pub kind: Option<String>,
    /// Only since a time (RFC 3339), or so long ago, such as 24h.
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Only before a time (RFC 3339), or so long ago.
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
}

/// Kinds of events, as records name them.
const KINDS: [&str; 9] =
    ["drop", "would_differ", "allowed", "unenforced", "control", "altered", "coverage", "balance", "lost"];

/// A filter whose words are understood.
#[derive(Clone, Debug, Default)]
pub struct Meant {
    from: Option<Who>,
    to: Option<Who>,
    with: Option<Who>,
    port: Option<u16>,
    reason: Option<Reason>,
    kind: Option<String>,
    /// The first time that is meant.
    pub since: Option<Timestamp>,
    /// The first that is not any more.
    pub until: Option<Timestamp>,
}

/// Who is meant.
#[derive(Clone, Debug)]
enum Who {
    Network(IpNet),
    /// A node's name or key, a user or a tag.
    Named(String),
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
        Ok(Meant {
            from: who(&self.from),
            to: who(&self.to),
            with: who(&self.with),
            port: self.port,
            reason: reason
                .map_err(|error| Usage(format!("{error}; docs/reference/reasons.md lists them")))?,
            kind: self.kind.clone(),
            since: self.since.as_deref().map(time).transpose()?,
            until: self.until.as_deref().map(time).transpose()?,
        })
    }
}

/// A time, or one so long ago.
fn time(text: &str) -> anyhow::Result<Timestamp> {
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    let units = [('s', 1), ('m', 60), ('h', 3600), ('d', 86_400_u64)];
    let ago = units
        .into_iter()
        .find_map(|(unit, seconds)| text.strip_suffix(unit)?.parse::<u64>().ok()?.checked_mul(seconds));
    let ago = ago.and_then(|seconds| seconds.checked_mul(1_000_000_000));
    let words =
        || Usage(format!("'{text}' is no time: give 2026-11-28T08:53:14Z, or 90s, 15m, 24h or 7d ago"));
    Ok(Timestamp::from_unix(wall_time().saturating_sub(ago.with_context(words)?)))
}

impl Who {
    fn of(text: &str) -> Self {
        let address = || text.parse::<IpAddr>().ok().map(IpNet::from);
        match text.parse::<IpNet>().ok().or_else(address) {
            Some(network) => Self::Network(network),
            None => Self::Named(text.to_owned()),
        }
    }

    fn is(&self, end: Option<&End>) -> bool {
        let Some(end) = end else { return false };
        match self {
            Self::Network(network) => network.contains(&end.address),
            Self::Named(name) => {
                let is = |text: &Option<String>| text.as_ref() == Some(name);
                is(&end.name) || is(&end.key) || is(&end.user) || end.tags.contains(name)
            }
        }
    }
}

impl Meant {
    /// All within a time.
    ///
    /// # Errors
    /// A word that is no time.
    pub fn within(since: Option<&str>, until: Option<&str>) -> anyhow::Result<Self> {
        let [since, until] = [since, until].map(|text| text.map(time).transpose());
        Ok(Self { since: since?, until: until?, ..Self::default() })
    }

    /// Whether an event is meant.
    pub fn is_meant(&self, event: &Event) -> bool {
        self.since.is_none_or(|since| event.time >= since)
            && self.until.is_none_or(|until| event.time < until)
            && self.kind.as_deref().is_none_or(|kind| kind == event.kind.name())
            && self.fits(match &event.kind {
                Kind::Drop(drop) => Some(drop),
                Kind::WouldDiffer(differs) => Some(&differs.staged),
                Kind::Allowed(allowed) => Some(&allowed.first),
                _ => None,
            })
    }

    /// Whether what is asked of packets holds of a drop; of other events nothing may be asked of them.
    fn fits(&self, drop: Option<&Drop>) -> bool {
        let Some(drop) = drop else { return !self.is_about_packets() };
        let ends = [drop.source.as_ref(), drop.destination.as_ref()];
        self.from.as_ref().is_none_or(|who| who.is(ends[0]))
            && self.to.as_ref().is_none_or(|who| who.is(ends[1]))
            && self.with.as_ref().is_none_or(|who| ends.into_iter().any(|end| who.is(end)))
            && self.port.is_none_or(|port| drop.destination_port == Some(port))
            && self.reason.is_none_or(|reason| drop.reason == reason)
    }

    /// Whether it asks for anything that only packets have.
    fn is_about_packets(&self) -> bool {
        let whom = [&self.from, &self.to, &self.with];
        whom.into_iter().any(Option::is_some) || self.port.is_some() || self.reason.is_some()
    }
}

#[cfg(test)]
mod tests {
    use bulkhead_api::event::Event;

    use super::Filter;

    fn drop() -> Event {
        let line = br#"{"time":"2026-11-28T08:53:14Z","node":"n","kind":"drop","direction":"ingress",
            "source":{"address":"10.0.0.1","name":"engine-1","tags":["tag:engine"],"key":"k"},
            "destination":{"address":"10.0.0.2","user":"a@b"},"destination_port":22,"protocol":"tcp",
            "reason":"no_rule","count":1,"bytes":60,"generation":1,"audit":false}"#;
        Event::read(line).unwrap()
    }

    fn is_meant(change: impl Fn(&mut Filter)) -> bool {
        let mut filter = Filter::default();
        change(&mut filter);
        filter.meant().unwrap().is_meant(&drop())
    }

    #[test]
    fn all_that_is_given_must_hold() {
        let some = |text: &str| Some(text.to_owned());
        assert!(is_meant(|_| ()));
        for who in ["engine-1", "tag:engine", "k", "10.0.0.1", "10.0.0.0/31"] {
            assert!(is_meant(|filter| filter.from = some(who)), "{who}");
            assert!(is_meant(|filter| filter.with = some(who)), "{who}");
            assert!(!is_meant(|filter| filter.to = some(who)), "{who}");
        }
        assert!(is_meant(|filter| (filter.to, filter.port) = (some("a@b"), Some(22))));
        assert!(!is_meant(|filter| (filter.to, filter.port) = (some("a@b"), Some(23))));
        assert!(is_meant(|filter| filter.reason = some("no_rule")));
        assert!(!is_meant(|filter| filter.reason = some("quarantined")));
        assert!(is_meant(|filter| filter.since = some("2026-11-28T08:53:14Z")));
        assert!(!is_meant(|filter| filter.until = some("2026-11-28T08:53:14Z")));
        assert!(!is_meant(|filter| filter.until = some("36500d")));
        assert!(!is_meant(|filter| filter.kind = some("control")));
    }

    #[test]
    fn what_means_nothing_is_said() {
        let some = |text: &str| Some(text.to_owned());
        for filter in [
            Filter { kind: some("drops"), ..Filter::default() },
            Filter { reason: some("because"), ..Filter::default() },
            Filter { since: some("yesterday"), ..Filter::default() },
            Filter { until: some("é"), ..Filter::default() },
            Filter { until: some(""), ..Filter::default() },
            Filter { until: some("99999999999999999999d"), ..Filter::default() },
        ] {
            assert!(filter.meant().is_err(), "{filter:?}");
        }
    }
}
