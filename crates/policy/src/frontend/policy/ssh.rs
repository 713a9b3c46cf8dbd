//! The ssh and sshTests sections in Tailscale's dialect. Nothing here enforces them; what Tailscale
//! refuses in them is refused.

use super::fields::complain;
use super::rules::{list, selector, selectors};
use super::selector::Malformed;
use super::{FAILED, Selector};
use crate::Dialect;
use crate::frontend::json::{Object, Reader, Value};
use crate::frontend::source::Spanned;

const THEIRS: Dialect = Dialect::Tailscale;

/// One rule of ssh.
#[derive(Clone, Debug)]
pub struct SshRule {
    /// Whether whoever connects is asked to prove who they are.
    pub check: bool,
    /// `src`.
    pub sources: Vec<Spanned<Selector>>,
    /// `dst`.
    pub destinations: Vec<Spanned<Selector>>,
    /// `users`: names on the destination, `autogroup:nonroot` or `localpart:*@DOMAIN`.
    pub users: Vec<String>,
}

/// One entry of sshTests.
#[derive(Clone, Debug)]
pub struct SshTest {
    /// `src`.
    pub source: Spanned<Selector>,
    /// `dst`.
    pub destinations: Vec<Spanned<Selector>>,
    /// What must be so of each user there.
    pub users: Vec<(Wanted, Spanned<String>)>,
}

/// What a test wants of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Some rule lets in.
    Accept,
    /// No rule does.
    Deny,
    /// A rule that checks does.
    Check,
}

pub(super) fn rules(reader: &mut Reader<'_>, value: &Value<'_>) -> Vec<SshRule> {
    list(reader, value, "ssh", rule).unwrap_or_default()
}

fn rule(reader: &mut Reader<'_>, object: &Object<'_>) -> Option<SshRule> {
    const KNOWN: [&str; 9] = [
        "action",
        "src",
        "dst",
        "users",
        "checkPeriod",
        "acceptEnv",
        "srcPosture",
        "recorder",
        "enforceRecorder",
    ];
    let (mut action, mut sources, mut destinations, mut users) = (None, Vec::new(), Vec::new(), Vec::new());
    for (field, property) in reader.fields(object, "a rule of ssh", &KNOWN) {
        let value = &property.value;
        match field {
            "action" => action = reader.string(value, field),
            "src" => sources = reader.strings(value, field).unwrap_or_default(),
            "dst" => destinations = reader.strings(value, field).unwrap_or_default(),
            "users" => users = reader.strings(value, field).unwrap_or_default(),
            "checkPeriod" => {
                let period = reader.string(value, field);
                let problem = period.as_ref().and_then(|period| check_period(&period.value));
                problem.into_iter().for_each(|problem| reader.error(value.span, problem));
            }
            "acceptEnv" => {
                let names = reader.strings(value, field).unwrap_or_default();
                for name in names.iter().filter(|name| name.value.is_empty()) {
                    reader.error(name.span, "acceptEnv values cannot be empty");
                }
            }
            _ => {}
        }
    }
    let check = match action.as_ref().map(|action| action.value.trim()) {
        Some("accept") => false,
        Some("check") => true,
        None | Some("") => {
            reader.error(object.span, "action must be specified");
            false
        }
        Some(other) => {
            reader.error(object.span, format!("\"{other}\" is not a valid action"));
            false
        }
    };
    if users.is_empty() {
        reader.error(object.span, "users must be specified");
    }
    for user in users.iter().filter(|user| matches!(&*user.value, "" | "*")) {
        reader.error(user.span, format!("user \"{}\" is not valid", user.value));
    }
    let (sources, destinations) = (trimmed(sources), trimmed(destinations));
    let (sources, destinations) =
        (selectors(reader, &sources, THEIRS), selectors(reader, &destinations, THEIRS));
    for to in destinations.iter().filter(|to| matches!(to.value, Selector::Host(_) | Selector::Prefix(_))) {
        reader.error(to.span, format!("invalid dst \"{}\"", to.value));
    }
    for (side, list) in [("source", &sources), ("destination", &destinations)] {
        for star in list.iter().filter(|selector| selector.value == Selector::Any) {
            let problem = Malformed::new(format!("wildcard (*) is not supported as SSH {side}"))
                .help("name tags, users, groups or autogroups");
            complain(reader, star.span, problem);
        }
    }
    let users = users.into_iter().map(|user| user.value).collect();
    Some(SshRule { check, sources, destinations, users })
}

/// Spaces around a name do not count here.
fn trimmed(words: Vec<Spanned<String>>) -> Vec<Spanned<String>> {
    words.into_iter().map(|word| Spanned::new(word.value.trim().to_string(), word.span)).collect()
}

/// What is wrong with how long a check holds.
fn check_period(text: &str) -> Option<String> {
    const MOST: i64 = 168 * 3600;
    if text == "always" {
        return None;
    }
    let Some(seconds) = duration(text) else { return Some(format!("time: invalid duration \"{text}\"")) };
    let sign = if seconds < 0 { "-" } else { "" };
    let (hours, minutes, rest) = (seconds.abs() / 3600, seconds.abs() / 60 % 60, seconds.abs() % 60);
    let words = match (hours, minutes) {
        (0, 0) => format!("{sign}{rest}s"),
        (0, _) => format!("{sign}{minutes}m{rest}s"),
        _ => format!("{sign}{hours}h{minutes}m{rest}s"),
    };
    match seconds {
        ..0 => Some(format!("checkPeriod {words} must be a positive duration")),
        0..=MOST => None,
        _ => Some(format!("checkPeriod {words} is above the max (168h)")),
    }
}

/// A duration as Go writes it, in whole seconds: `1h30m`.
fn duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest.is_empty() {
        return None;
    }
    let mut seconds = 0.0;
    while !rest.is_empty() && rest != "0" {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let unit = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        let factor = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        seconds += number.parse::<f64>().ok()? * factor;
        rest = after;
    }
    let whole = seconds as i64;
    Some(if negative { -whole } else { whole })
}

pub(super) fn tests(reader: &mut Reader<'_>, value: &Value<'_>) -> Vec<SshTest> {
    list(reader, value, "sshTests", test).unwrap_or_default()
}

fn test(reader: &mut Reader<'_>, object: &Object<'_>) -> Option<SshTest> {
    let (mut source, mut words, mut users) = (None, Vec::new(), Vec::new());
    for (field, property) in
        reader.fields(object, "a test of ssh", &["src", "dst", "accept", "deny", "check"])
    {
        let value = &property.value;
        let wanted = match field {
            "src" => {
                source = reader.string(value, field);
                continue;
            }
            "dst" => {
                words = reader.strings(value, field).unwrap_or_default();
                continue;
            }
            "accept" => Wanted::Accept,
            "deny" => Wanted::Deny,
            _ => Wanted::Check,
        };
        users.extend(reader.strings(value, field).unwrap_or_default().into_iter().map(|user| (wanted, user)));
    }
    let known = reader.findings.0.len();
    if users.is_empty() || users.iter().any(|(_, user)| user.value.is_empty()) {
        reader.error(object.span, "a test names users in \"accept\", \"deny\" or \"check\"");
    }
    let source = source.and_then(|source| selector(reader, &source.value, source.span, THEIRS));
    if source.is_none() {
        reader.error(object.span, "a test has a \"src\"");
    }
    let (ranges, words): (Vec<_>, Vec<_>) =
        words.into_iter().partition(|word| word.value == "autogroup:internet" || word.value.contains('/'));
    let (tags, words): (Vec<_>, Vec<_>) = words
        .into_iter()
        .partition(|word| word.value.starts_with("tag:") && Selector::parse(&word.value).is_err());
    // An IPv6 address is taken for a name with ports.
    for word in words.iter().filter(|word| word.value.parse::<std::net::Ipv6Addr>().is_ok()) {
        reader.error(word.span, format!("\"{}\" is no host of a test", word.value));
    }
    let destinations = selectors(reader, &words, THEIRS);
    reader.findings.prefix_errors(known, FAILED);
    for range in ranges {
        let message = format!("SSH tests dst contains disallowed element \"{}\"", range.value);
        complain(reader, range.span, Malformed::new(message));
    }
    for tag in tags {
        complain(reader, tag.span, unknown_tag(&tag.value));
    }
    Some(SshTest { source: source?, destinations, users })
}

/// A tag that is none, in a test.
pub(crate) fn unknown_tag(tag: &str) -> Malformed {
    Malformed::new(format!("SSH tests dst contains unknown tag \"{tag}\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_a_check_holds() {
        for fine in ["0s", "30s", "168h", "12h30m", "always", "1.5h", "0"] {
            assert_eq!(check_period(fine), None, "{fine}");
        }
        for (wrong, wanted) in [
            ("abc", "time: invalid duration \"abc\""),
            ("", "time: invalid duration \"\""),
            ("5", "time: invalid duration \"5\""),
            ("-1m", "checkPeriod -1m0s must be a positive duration"),
            ("168h0m1s", "checkPeriod 168h0m1s is above the max (168h)"),
            ("200h", "checkPeriod 200h0m0s is above the max (168h)"),
        ] {
            assert_eq!(check_period(wrong).as_deref(), Some(wanted));
        }
    }
}
