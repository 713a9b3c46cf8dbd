//! What people sign besides grants, for every host of a fleet: that a grant is revoked, a node is quarantined, or a
//! quarantine is lifted.

use crate::error::{Error, Result};
use crate::grant::{Grant, checked, is_id, seconds, time_text};

/// A note may begin so many seconds later by another machine's clock.
const CLOCKS: i64 = 60;

/// What is written where there is no end.
const NEVER: &str = "never";

/// What an order does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OrderKind {
    /// Ends a grant for good.
    Revocation,
    /// Cuts a node off.
    Quarantine,
    /// Ends one quarantine.
    Release,
}

impl OrderKind {
    const ALL: [Self; 3] = [Self::Revocation, Self::Quarantine, Self::Release];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Revocation => "revocation",
            Self::Quarantine => "quarantine",
            Self::Release => "release",
        }
    }

    /// The first line of its text: no text of one kind is one of another.
    const fn head(self) -> &'static str {
        match self {
            Self::Revocation => "bulkhead-revocation/v1",
            Self::Quarantine => "bulkhead-quarantine/v1",
            Self::Release => "bulkhead-release/v1",
        }
    }

    /// What its second line says.
    const fn subject(self) -> &'static str {
        match self {
            Self::Revocation => "grant",
            Self::Quarantine | Self::Release => "node",
        }
    }
}

/// What is ordered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// What it does.
    pub kind: OrderKind,
    /// 32 hexadecimal digits: of the grant that is revoked, of the quarantine, or of the quarantine that is lifted.
    pub id: String,
    /// What the grant opens, for whoever signs; or whom the quarantine is about: a node, its key, or an address.
    pub subject: String,
    /// From when, in seconds since 1970.
    pub from: i64,
    /// The end of the grant or the quarantine, in seconds since 1970: what is over needs no order. None: it has none.
    pub until: Option<i64>,
    /// Where it was asked for.
    pub ticket: String,
    /// Why.
    pub reason: String,
}

impl Order {
    /// The text that is signed.
    ///
    /// # Errors
    ///
    /// If a value is none.
    pub fn text(&self) -> Result<String> {
        let (from, until) = (time_text(self.from), self.until.map_or_else(|| NEVER.to_owned(), time_text));
        let fields = [
            ("id", &self.id),
            (self.kind.subject(), &self.subject),
            ("not-before", &from),
            ("not-after", &until),
            ("ticket", &self.ticket),
            ("reason", &self.reason),
        ];
        let mut text = format!("{}\n", self.kind.head());
        for (line, (field, value)) in (2..).zip(fields) {
            text += &format!("{field}: {}\n", checked(line, field, value)?);
        }
        Self::parse(&text)?;
        Ok(text)
    }

    /// Reads a text; none if it is of no order.
    ///
    /// # Errors
    ///
    /// If it begins as one and is none, with the line.
    pub fn find(text: &str) -> Result<Option<Self>> {
        let head = text.lines().next().unwrap_or_default();
        let Some(kind) = OrderKind::ALL.into_iter().find(|kind| kind.head() == head) else { return Ok(None) };
        let problem = |line, problem: &str| Error::Text { line, problem: problem.to_owned() };
        let mut lines = (1..).zip(text.lines()).skip(1);
        let mut last = 1;
        let mut value = |field: &'static str| -> Result<String> {
            last += 1;
            let missing = || problem(last, &format!("here stands `{field}: ` and what it is"));
            let (line, text) = lines.next().ok_or_else(missing)?;
            let value =
                text.strip_prefix(field).and_then(|rest| rest.strip_prefix(": ")).ok_or_else(missing)?;
            checked(line, field, value).map(str::to_owned)
        };
        let (id, subject) = (value("id")?, value(kind.subject())?);
        let (from, until) = (value("not-before")?, value("not-after")?);
        let (ticket, reason) = (value("ticket")?, value("reason")?);
        if let Some((line, _)) = lines.next() {
            return Err(problem(line, "the text goes on where it should end"));
        }
        if !is_id(&id) {
            return Err(problem(2, "an id is 32 hexadecimal digits, in small letters"));
        }
        let from = seconds(4, &from)?;
        let until = if until == NEVER { None } else { Some(seconds(5, &until)?) };
        if kind == OrderKind::Revocation && until.is_none() {
            return Err(problem(5, "a grant has an end"));
        }
        if until.is_some_and(|until| until <= from) {
            return Err(problem(5, "it ends before it begins"));
        }
        Ok(Some(Self { kind, id, subject, from, until, ticket, reason }))
    }

    /// The same; a text of no order is an error.
    ///
    /// # Errors
    ///
    /// If it is none.
    pub fn parse(text: &str) -> Result<Self> {
        Self::find(text)?.ok_or_else(|| Error::Text {
            line: 1,
            problem: "the note is over no revocation, quarantine or release".to_owned(),
        })
    }

    /// Whether it is good at a time, in seconds since 1970.
    ///
    /// # Errors
    ///
    /// If it is over, or has not begun; clocks that differ by a minute are taken for the same.
    pub fn check_time(&self, now: i64) -> Result<()> {
        if let Some(until) = self.until.filter(|until| now >= *until) {
            return Err(Error::Expired { until: time_text(until), now: time_text(now) });
        }
        if now < self.from.saturating_sub(CLOCKS) {
            return Err(Error::Early { from: time_text(self.from), now: time_text(now) });
        }
        Ok(())
    }

    /// Whether it lasts as long as something that ends then; none: that has no end.
    #[must_use]
    pub fn outlasts(&self, end: Option<i64>) -> bool {
        self.until.is_none_or(|until| end.is_some_and(|end| end <= until))
    }

    /// What it says, for people.
    #[must_use]
    pub fn words(&self) -> String {
        let Self { subject, ticket, reason, .. } = self;
        let until = self.until.map(|until| format!(" until {}", time_text(until))).unwrap_or_default();
        match self.kind {
            OrderKind::Quarantine => format!("{subject}{until}; {ticket}: {reason}"),
            OrderKind::Revocation | OrderKind::Release => format!("{subject}; {ticket}: {reason}"),
        }
    }
}

/// Whatever people sign that hosts act on by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Statement {
    /// A grant.
    Grant(Grant),
    /// An order.
    Order(Order),
}

impl Statement {
    /// Reads a text.
    ///
    /// # Errors
    ///
    /// If it is neither, with the line.
    pub fn parse(text: &str) -> Result<Self> {
        if let Some(order) = Order::find(text)? {
            return Ok(Self::Order(order));
        }
        if text.lines().next() == Some(crate::grant::KIND) {
            return Grant::parse(text).map(Self::Grant);
        }
        Err(Error::Text {
            line: 1,
            problem:
                "the note is over no grant, revocation, quarantine or release: its first line names none"
                    .to_owned(),
        })
    }

    /// The id that it is about.
    #[must_use]
    pub fn id(&self) -> &str {
        match self {
            Self::Grant(grant) => &grant.id,
            Self::Order(order) => &order.id,
        }
    }

    /// What it is: `grant`, `revocation`, `quarantine` or `release`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Grant(_) => "grant",
            Self::Order(order) => order.kind.name(),
        }
    }

    /// Its first second, since 1970.
    #[must_use]
    pub const fn from(&self) -> i64 {
        match self {
            Self::Grant(grant) => grant.window.from,
            Self::Order(order) => order.from,
        }
    }

    /// The second at which it says nothing any more, since 1970; none: there is none.
    #[must_use]
    pub const fn until(&self) -> Option<i64> {
        match self {
            Self::Grant(grant) => Some(grant.window.until),
            Self::Order(order) => order.until,
        }
    }

    /// Whether it is good at a time, in seconds since 1970.
    ///
    /// # Errors
    ///
    /// If it is over, or has not begun.
    pub fn check_time(&self, now: i64) -> Result<()> {
        match self {
            Self::Grant(grant) => grant.check_time(now),
            Self::Order(order) => order.check_time(now),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Order, OrderKind, Statement};

    fn order(kind: OrderKind) -> Order {
        Order {
            kind,
            id: "0123456789abcdef0123456789abcdef".to_owned(),
            subject: "engine-1".to_owned(),
            from: 1_790_006_400,
            until: Some(1_790_010_000),
            ticket: "SEC-1".to_owned(),
            reason: "seen scanning".to_owned(),
        }
    }

    #[test]
    fn what_is_written_is_read_and_nothing_else_is() {
        for kind in OrderKind::ALL {
            let one = order(kind);
            assert_eq!(Order::parse(&one.text().unwrap()).unwrap(), one);
            assert_eq!(Statement::parse(&one.text().unwrap()).unwrap(), Statement::Order(one.clone()));
            assert_eq!(Order { until: None, ..one }.text().is_ok(), kind != OrderKind::Revocation);
        }
        let text = order(OrderKind::Quarantine).text().unwrap();
        for (from, to) in [
            ("bulkhead-quarantine/v1", "bulkhead-quarantine/v2"),
            ("node: ", "grant: "),
            ("node: engine-1", "node: "),
            ("0123456789", "012345678"),
            ("not-after: 2026-09-21T17:00:00Z", "not-after: 2026-09-21T16:00:00Z"),
            ("not-after: 2026-09-21T17:00:00Z", "not-after: Never"),
            ("seen scanning\n", "seen scanning\nmore: x\n"),
            ("seen scanning", "seen\u{202e} scanning"),
        ] {
            let changed = text.replacen(from, to, 1);
            assert_ne!(changed, text, "{from}");
            assert!(Order::parse(&changed).is_err(), "{changed}");
        }
        assert!(Statement::parse("hello\n").unwrap_err().to_string().contains("over no grant"));
    }

    #[test]
    fn it_is_good_in_its_time() {
        let one = order(OrderKind::Quarantine);
        let at = |now: i64| one.check_time(1_790_006_400 + now).is_ok();
        assert!(at(0) && at(-60) && at(3_599) && !at(-61) && !at(3_600));
        assert!(Order { until: None, ..one }.check_time(i64::MAX).is_ok());
    }
}
