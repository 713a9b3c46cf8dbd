//! What a grant's note says.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::error::{Error, Result};
use crate::people::check_name;

pub(crate) const KIND: &str = "bulkhead-grant/v1";

/// No grant is good for longer, in seconds: 30 days.
pub const LONGEST: u64 = 30 * 86_400;

/// A note may begin so many seconds later by another machine's clock.
const CLOCKS: i64 = 60;

/// No value is longer, in bytes.
const VALUE: usize = 1024;

/// From when until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Its first second, since 1970.
    pub from: i64,
    /// The second at which it is over, since 1970.
    pub until: i64,
}

/// Access that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// What it is known by: 32 hexadecimal digits.
    pub id: String,
    /// Who has asked for it, by their own word: those who sign vouch for that.
    pub requester: String,
    /// Who is to begin: a selector of the policy.
    pub source: String,
    /// To whom and which ports: `SELECTOR:PORTS`.
    pub destination: String,
    /// The protocol, by name or number.
    pub protocol: String,
    /// When.
    pub window: Window,
    /// Where it was asked for.
    pub ticket: String,
    /// What it is for.
    pub reason: String,
    /// In an emergency: one signature is to suffice.
    pub break_glass: bool,
}

impl Grant {
    /// The text that is signed.
    ///
    /// # Errors
    ///
    /// If a value is none: it is empty, too long, or no single line.
    pub fn text(&self) -> Result<String> {
        let [from, until] = [self.window.from, self.window.until].map(time_text);
        let fields = [
            ("id", &self.id),
            ("requester", &self.requester),
            ("from", &self.source),
            ("to", &self.destination),
            ("proto", &self.protocol),
            ("not-before", &from),
            ("not-after", &until),
            ("ticket", &self.ticket),
            ("reason", &self.reason),
        ];
        let mut text = format!("{KIND}\n");
        for (line, (field, value)) in (2..).zip(fields) {
            text += &format!("{field}: {}\n", checked(line, field, value)?);
        }
        if self.break_glass {
            text += "break-glass: yes\n";
        }
        // What cannot be read is not to be signed.
        Self::parse(&text)?;
        Ok(text)
    }

    /// Reads a text.
    ///
    /// # Errors
    ///
    /// If it is none of a grant, with the line.
    pub fn parse(text: &str) -> Result<Self> {
        let problem = |line, problem: &str| Error::Text { line, problem: problem.to_owned() };
        let mut lines = (1..).zip(text.lines()).peekable();
        if lines.next().map(|(_, line)| line) != Some(KIND) {
            return Err(problem(1, "the note is not over a grant: its text begins with `bulkhead-grant/v1`"));
        }
        let mut last = 1;
        let mut value = |field: &'static str| -> Result<String> {
            last += 1;
            let missing = || problem(last, &format!("here stands `{field}: ` and what it is"));
            let (line, text) = lines.next().ok_or_else(missing)?;
            let value =
                text.strip_prefix(field).and_then(|rest| rest.strip_prefix(": ")).ok_or_else(missing)?;
            checked(line, field, value).map(str::to_owned)
        };
        let (id, requester) = (value("id")?, value("requester")?);
        let (source, destination, protocol) = (value("from")?, value("to")?, value("proto")?);
        let (from, until) = (value("not-before")?, value("not-after")?);
        let (ticket, reason) = (value("ticket")?, value("reason")?);
        let break_glass = lines.next_if(|(_, line)| *line == "break-glass: yes").is_some();
        if let Some((line, _)) = lines.next() {
            return Err(problem(line, "the text goes on where it should end"));
        }
        if !is_id(&id) {
            return Err(problem(2, "an id is 32 hexadecimal digits, in small letters"));
        }
        check_name(&requester)?;
        let window = Window { from: seconds(7, &from)?, until: seconds(8, &until)? };
        if window.until <= window.from {
            return Err(problem(8, "it ends before it begins"));
        }
        Ok(Self { id, requester, source, destination, protocol, window, ticket, reason, break_glass })
    }

    /// How long it is good for, in seconds.
    #[must_use]
    pub fn seconds(&self) -> u64 {
        self.window.until.abs_diff(self.window.from)
    }

    /// Whether it is good at a time, in seconds since 1970.
    ///
    /// # Errors
    ///
    /// If it is over, or has not begun; clocks that differ by a minute are taken for the same.
    pub fn check_time(&self, now: i64) -> Result<()> {
        let Window { from, until } = self.window;
        if now >= until {
            return Err(Error::Expired { until: time_text(until), now: time_text(now) });
        }
        if now < from.saturating_sub(CLOCKS) {
            return Err(Error::Early { from: time_text(from), now: time_text(now) });
        }
        Ok(())
    }
}

/// Whether a text can be a grant's id.
#[must_use]
pub fn is_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// A new id, of the system's random numbers.
///
/// # Errors
///
/// If the system has none.
pub fn new_id() -> Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| Error::Key(format!("no random numbers: {error}")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Digits of an id that are its fleet's: 48 bits, beside which there are 80 random ones.
const OF_FLEET: usize = 12;

/// A new id of what is for every host of a fleet: it begins as the fleet's identifier does, so that what the same people
/// sign for one fleet is nothing in another.
///
/// # Errors
///
/// If that is no identifier, or the system has no random numbers.
pub fn new_id_of(fleet: &str) -> Result<String> {
    if !is_id(fleet) {
        return Err(Error::Key(format!("{fleet} is no fleet's identifier")));
    }
    Ok(format!("{}{}", &fleet[..OF_FLEET], &new_id()?[OF_FLEET..]))
}

/// Whether an id is of a fleet.
#[must_use]
pub fn is_of(id: &str, fleet: &str) -> bool {
    is_id(id) && is_id(fleet) && id[..OF_FLEET] == fleet[..OF_FLEET]
}

/// Whether a character is not seen, or is a space that is not one: what people sign is what they see. Besides what
/// Unicode does not call printable, these are letters and marks without a shape (its Default_Ignorable_Code_Point).
fn is_hidden(c: char) -> bool {
    let is_ignorable = matches!(
        c,
        '\u{34f}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{2800}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{ffa0}'
            | '\u{e0100}'..='\u{e01ef}'
    );
    // A mark is printed with the letter before it, which is why one stands here.
    let shown = ['a', c];
    let is_printable = matches!(c, '\'' | '"' | '\\')
        || shown.iter().collect::<String>().escape_debug().count() == shown.len();
    is_ignorable || !is_printable
}

pub(crate) fn checked<'v>(line: usize, field: &str, value: &'v str) -> Result<&'v str> {
    let problem = if value.trim() != value || value.is_empty() {
        "empty, or has spaces around it"
    } else if value.len() > VALUE {
        "too long"
    } else if value.contains(is_hidden) {
        "no single line of text that is seen as it is: a character in it is not shown, or shown as another one"
    } else {
        return Ok(value);
    };
    Err(Error::Text { line, problem: format!("`{field}` is {problem}") })
}

/// A second since 1970 as RFC 3339, UTC.
pub(crate) fn time_text(seconds: i64) -> String {
    let time = OffsetDateTime::from_unix_timestamp(seconds).ok();
    time.and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_else(|| format!("second {seconds} since 1970"))
}

pub(crate) fn seconds(line: usize, text: &str) -> Result<i64> {
    let time = OffsetDateTime::parse(text, &Rfc3339).ok().filter(|time| time.nanosecond() == 0);
    let seconds = time.map(OffsetDateTime::unix_timestamp).filter(|seconds| *seconds > 0);
    // One moment is written in one way.
    seconds.filter(|seconds| time_text(*seconds) == text).ok_or_else(|| Error::Text {
        line,
        problem: format!("`{text}` is no time in UTC such as 2026-12-01T08:00:00Z"),
    })
}
