//! Times without enforcement, as they are recorded.

use serde_json::Value;

/// A time without enforcement, as it was reported, ms since the Unix epoch.
#[derive(Debug)]
pub(super) struct Recorded {
    pub(super) since: u64,
    pub(super) until: u64,
    pub(super) is_open: bool,
    pub(super) text: String,
}

pub(super) fn recorded(watched: &str) -> Vec<Recorded> {
    let milliseconds = |time: &Value| {
        let time = time.as_str().unwrap();
        let time = time::OffsetDateTime::parse(time, &time::format_description::well_known::Rfc3339).unwrap();
        (time.unix_timestamp_nanos() / 1_000_000) as u64
    };
    let lines = watched.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let unenforced = lines.filter(|line| line["kind"] == "unenforced");
    unenforced
        .map(|line| {
            let (since, until) = (milliseconds(&line["since"]), milliseconds(&line["time"]));
            let told = line["milliseconds"].as_u64().unwrap();
            assert!(told.abs_diff(until - since) <= 2, "{line}");
            Recorded { since, until, is_open: line["effect"] == "open", text: line.to_string() }
        })
        .collect()
}
