//! Times of fixed width.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A time: RFC 3339 in UTC with nine digits of the second, such as `2026-11-28T08:53:14.926000001Z`, so that
/// texts sort as times do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

/// A text that is no time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no time of RFC 3339 between 1970 and 2554, such as 2026-11-28T08:53:14Z")]
pub struct UnreadableTime(String);

impl Timestamp {
    /// A time in nanoseconds since the Unix epoch.
    #[must_use]
    pub const fn from_unix(nanoseconds: u64) -> Self {
        Self(nanoseconds)
    }

    /// Nanoseconds since the Unix epoch.
    #[must_use]
    pub const fn unix(self) -> u64 {
        self.0
    }

    /// The same with milliseconds, for people.
    #[must_use]
    pub fn milliseconds(self) -> String {
        let text = self.to_string();
        format!("{}Z", &text[..text.len() - 7])
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The range of a u64 is within that of the calendar.
        let time = OffsetDateTime::from_unix_timestamp_nanos(self.0.into()).map_err(|_| fmt::Error)?;
        write!(
            f,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:09}Z",
            time.year(),
            u8::from(time.month()),
            time.day(),
            time.hour(),
            time.minute(),
            time.second(),
            time.nanosecond()
        )
    }
}

impl FromStr for Timestamp {
    type Err = UnreadableTime;

    fn from_str(text: &str) -> Result<Self, UnreadableTime> {
        let read = OffsetDateTime::parse(text, &Rfc3339).ok();
        let unix = read.and_then(|time| u64::try_from(time.unix_timestamp_nanos()).ok());
        unix.map(Self).ok_or_else(|| UnreadableTime(text.to_owned()))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}
