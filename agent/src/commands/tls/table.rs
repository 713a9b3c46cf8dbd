//! Columns as wide as what is in them, and words for cells.

use bulkhead_api::event::Timestamp;
use bulkhead_api::text::plain;
use bulkhead_api::tls::{Began, Certificate};

/// What there is nothing to say of.
pub const NONE: &str = "-";

/// A table for people; nothing, if it has a head alone.
#[must_use]
pub fn table<const N: usize>(head: [&str; N], rows: Vec<[String; N]>) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let head = head.map(str::to_owned);
    let rows: Vec<[String; N]> = std::iter::once(head)
        .chain(rows.into_iter().map(|row| row.map(|cell| plain(&cell).into_owned())))
        .collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..N).map(width).collect();
    let line = |row: &[String; N]| {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}", width = *width)).collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

/// What a port begins with.
#[must_use]
pub fn begins(began: Began, looks_like: Option<&str>) -> String {
    match looks_like {
        Some(protocol) => format!("{} ({protocol})", began.words()),
        None => began.words().to_owned(),
    }
}

/// Until when a certificate is valid: the day, and how far that is.
#[must_use]
pub fn until(certificate: Option<&Certificate>, now: Timestamp) -> String {
    let Some(certificate) = certificate else { return NONE.to_owned() };
    if let Some(why) = certificate.invalid(now) {
        return why;
    }
    let left = (certificate.not_after.unix() - now.unix()) / 1_000_000_000;
    let left = match left {
        0..7200 => format!("{} min", left / 60),
        7200..172_800 => format!("{} h", left / 3600),
        _ => format!("{} d", left / 86_400),
    };
    let text = certificate.not_after.milliseconds();
    format!("{} ({left})", text.split('.').next().unwrap_or(&text))
}

/// Whom a certificate names: all SPIFFE IDs that it presents, else what it is called.
#[must_use]
pub fn presented(certificate: Option<&Certificate>) -> String {
    match certificate {
        None => NONE.to_owned(),
        Some(certificate) if certificate.spiffe.is_empty() => certificate.title().to_owned(),
        Some(certificate) => certificate.spiffe.join(", "),
    }
}

/// A number and what it counts.
#[must_use]
pub fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use bulkhead_api::event::Timestamp;
    use bulkhead_api::tls::Certificate;

    use super::{presented, table, until};

    #[test]
    fn columns_stand_below_their_heads() {
        let rows = vec![["a\u{1b}", "1"], ["longer", "22"]].into_iter().map(|row| row.map(str::to_owned));
        assert_eq!(table(["x", "y"], rows.collect()), "x        y\na\\u{1b}  1\nlonger   22\n");
        assert_eq!(table(["x"], vec![]), "");
    }

    #[test]
    fn a_certificate_is_told_by_its_end_and_its_names() {
        let at = |seconds: u64| Timestamp::from_unix(seconds * 1_000_000_000);
        let certificate = Certificate {
            subject: "CN=x".to_owned(),
            issuer: String::new(),
            serial: "01".to_owned(),
            sha256: String::new(),
            not_before: at(1000),
            not_after: at(1_000_000),
            spiffe: vec![],
            uris: vec![],
            dns: vec![],
            addresses: vec![],
            more_names: 0,
        };
        let until = |now| until(Some(&certificate), at(now));
        assert_eq!(until(2000), "1970-01-12T13:46:40 (11 d)");
        assert_eq!(until(990_000), "1970-01-12T13:46:40 (2 h)");
        assert_eq!(until(999_900), "1970-01-12T13:46:40 (1 min)");
        assert_eq!(until(1_000_001), "expired 1970-01-12T13:46:40.000Z");
        assert_eq!(until(999), "not valid before 1970-01-01T00:16:40.000Z");
        assert_eq!(presented(Some(&certificate)), "CN=x");
        let spiffe = vec!["spiffe://a/b".to_owned(), "spiffe://a/c".to_owned()];
        assert_eq!(presented(Some(&Certificate { spiffe, ..certificate })), "spiffe://a/b, spiffe://a/c");
    }
}
