//! What a rule says of itself for those who review it: `owner`, `ticket`, `reason`, `reviewBy`. It decides nothing.

use serde::Serialize;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::{Date, Time};

use crate::frontend::diagnostic::Diagnostic;
use crate::frontend::json::{Reader, Value};
use crate::frontend::source::Spanned;

/// The fields' names.
pub(super) const FIELDS: [&str; 4] = ["owner", "ticket", "reason", "reviewBy"];

const DAY: &[BorrowedFormatItem<'static>] = format_description!("[year]-[month]-[day]");

/// Who answers for a rule, why it is there, and until when it is to be looked at again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// `owner`: who answers for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// `ticket`: where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ticket: Option<String>,
    /// `reason`: what it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// `reviewBy`: the last day, UTC, on which it is to be reviewed.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "day")]
    pub review_by: Option<Spanned<Date>>,
}

impl Record {
    /// Reads one of [`FIELDS`].
    pub(super) fn read(&mut self, reader: &mut Reader<'_>, name: &str, value: &Value<'_>) {
        let Some(text) = reader.string(value, name) else { return };
        if text.value.trim().is_empty() {
            let error = Diagnostic::error(reader.source, text.span, format!("\"{name}\" is empty"));
            reader.findings.push(error.help("say it, or leave the field out"));
            return;
        }
        match name {
            "owner" => self.owner = Some(text.value),
            "ticket" => self.ticket = Some(text.value),
            "reason" => self.reason = Some(text.value),
            _ => match day_of(&text.value) {
                Some(date) => self.review_by = Some(Spanned::new(date, text.span)),
                None => {
                    let message = format!("\"{}\" is no day that can be", text.value);
                    let error = Diagnostic::error(reader.source, text.span, message);
                    reader.findings.push(error.help("write year, month and day: 2027-01-31"));
                }
            },
        }
    }

    /// Whether the day of its review is over at a time (ns since the Unix epoch).
    #[must_use]
    pub fn is_overdue(&self, now: u64) -> bool {
        let next = self.review_by.as_ref().and_then(|day| day.value.next_day());
        next.is_some_and(|next| {
            i128::from(now) >= next.with_time(Time::MIDNIGHT).assume_utc().unix_timestamp_nanos()
        })
    }

    /// The fields that are there, by name.
    #[must_use]
    pub fn fields(&self) -> Vec<(&'static str, String)> {
        let day = self.review_by.as_ref().map(|day| day.value.to_string());
        let values = [self.owner.clone(), self.ticket.clone(), self.reason.clone(), day];
        FIELDS.into_iter().zip(values).filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

/// A day such as 2027-01-31: four digits of the year, none of them a sign, and no year before computers.
fn day_of(text: &str) -> Option<Date> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    Date::parse(text, DAY).ok().filter(|date| is_plain && (1970..=9999).contains(&date.year()))
}

fn day<S: serde::Serializer>(day: &Option<Spanned<Date>>, serializer: S) -> Result<S::Ok, S::Error> {
    match day {
        Some(day) => serializer.collect_str(&day.value),
        None => serializer.serialize_none(),
    }
}
