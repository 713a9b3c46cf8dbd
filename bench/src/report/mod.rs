//! What a run found, for people and programs.

pub mod html;
pub mod markdown;
mod plot;
pub mod text;

use crate::figure::{Figure, Unit};

/// A number with its unit, three digits that matter.
#[must_use]
pub fn quantity(value: f64, unit: Unit) -> String {
    format!("{} {}", number(value), unit.name()).trim_end().to_owned()
}

/// A number with three digits that matter; large ones in groups.
#[must_use]
pub fn number(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() {
        return "–".to_owned();
    }
    if size >= 1000.0 {
        return grouped(value.round() as i64);
    }
    let decimals = match size {
        size if size >= 100.0 || size == 0.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        _ => 3,
    };
    format!("{value:.decimals$}")
}

fn grouped(value: i64) -> String {
    let digits = value.abs().to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if value < 0 { format!("-{text}") } else { text }
}

/// `±` half of the middle half, in per cent of the median; nothing of a single run.
#[must_use]
pub fn spread(figure: &Figure) -> String {
    if figure.summary.runs < 2 || figure.summary.median == 0.0 {
        return String::new();
    }
    format!("±{:.0} %", 50.0 * figure.summary.spread())
}

/// The ratios of a figure: `0.153 [0.150–0.157] of lru`.
#[must_use]
pub fn ratios(figure: &Figure) -> Vec<String> {
    let ratio = |(id, ratio): &(String, crate::stats::Ratio)| {
        let base = relative(&figure.id, id);
        if figure.rounds.len() < 2 {
            return format!("{} of {base}", number(ratio.median));
        }
        format!("{} [{}–{}] of {base}", number(ratio.median), number(ratio.low), number(ratio.high))
    };
    figure.compared.iter().map(ratio).collect()
}

/// The part of an id that differs from the one it is compared with.
fn relative<'a>(own: &str, other: &'a str) -> &'a str {
    let common = own
        .split_inclusive('/')
        .zip(other.split_inclusive('/'))
        .take_while(|(own, other)| own == other)
        .map(|(part, _)| part.len())
        .sum();
    &other[common..]
}

#[cfg(test)]
mod tests {
    use super::{number, relative};

    #[test]
    fn numbers_have_three_digits_that_matter() {
        for (value, text) in [
            (0.1234, "0.123"),
            (1.234, "1.23"),
            (12.34, "12.3"),
            (123.4, "123"),
            (1_234_567.0, "1,234,567"),
            (0.0, "0"),
        ] {
            assert_eq!(number(value), text);
        }
        assert_eq!(number(f64::NAN), "–");
    }

    #[test]
    fn a_baseline_is_named_by_what_differs() {
        assert_eq!(relative("decision/tc/ipv4/1000/forward", "decision/tc/ipv4/1000/lru"), "lru");
        assert_eq!(relative("scale/forward/dense/1000", "scale/forward/rules/10"), "rules/10");
    }
}
