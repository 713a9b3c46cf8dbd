//! Times on the command line: `90`, `90s`, `10m`, `2h`, `1d`.

/// Whole seconds, at least one and at most a year.
///
/// # Errors
/// Another form, or out of these bounds.
#[cfg(any(feature = "agent", test))]
pub fn parse(text: &str) -> Result<u64, String> {
    within(text, 365)
}

/// Whole seconds, at least one and at most some days.
///
/// # Errors
/// Another form, or out of these bounds.
pub fn within(text: &str, days: u64) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err("give a number and s, m, h or d, such as 60s or 10m".to_owned()),
    };
    let seconds = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    match seconds {
        Some(seconds) if (1..=days * 86_400).contains(&seconds) => Ok(seconds),
        Some(_) => Err(format!("give between 1s and {days}d")),
        None => Err("give a number and s, m, h or d, such as 60s or 10m".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn units_and_bounds() {
        for (text, seconds) in [("1", 1), ("60s", 60), ("10m", 600), ("2h", 7200), ("365d", 31_536_000)] {
            assert_eq!(parse(text), Ok(seconds), "{text}");
        }
        for bad in ["", "s", "0", "0s", "366d", "-1", "1.5h", "10 m", "1w", "99999999999999999999s", "1ß"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
