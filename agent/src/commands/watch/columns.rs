//! Columns that stay where they are from line to line.

use bulkhead_api::event::{Drop, Event};
use bulkhead_api::text::plain;

use super::label::{self, fit};

/// From so many columns on there is room for milliseconds and the interface, and for the rule.
const WIDE: usize = 120;
const WIDER: usize = 150;

/// Columns of the rule.
const RULE: usize = 24;

/// An event in a terminal of so many columns.
pub fn columns(event: &Event, width: usize) -> String {
    let Some((what, drop)) = label::packets(event) else {
        let text = event.to_string();
        let words = text.split_once(' ').map_or(text.as_str(), |(_, words)| words);
        return format!("{} {}", time(event, width), plain(words));
    };
    format!("{} {} {}", time(event, width), fit(what, 7), packets(drop, width))
}

fn time(event: &Event, width: usize) -> String {
    let text = event.time.milliseconds();
    text[11..if width >= WIDE { 23 } else { 19 }].to_owned()
}

fn packets(drop: &Drop, width: usize) -> String {
    let port = fit(&label::port(drop), 10);
    let reason = fit(&drop.reason.to_string(), if width >= WIDE { 20 } else { 15 });
    let count = fit(&format!("×{}", drop.count), 6);
    let mut tail = format!("{port} {reason} {count}");
    if width >= WIDE {
        let interface = plain(drop.interface.as_deref().unwrap_or("any")).into_owned();
        tail = format!("{tail} {}", fit(&interface, 10));
    }
    if width >= WIDER {
        tail = format!("{tail} {}", fit(&drop.rule.as_ref().map(label::rule).unwrap_or_default(), RULE));
    }
    // Before the ends: the time, what, the direction; between them an arrow.
    let taken = if width >= WIDE { 12 } else { 8 } + 1 + 7 + 1 + 3 + 1 + 3 + 1 + tail.chars().count();
    let end = (width.saturating_sub(taken) / 2).max(8);
    let [source, destination] = [label::source(drop), label::destination(drop)].map(|text| fit(&text, end));
    format!("{} {source} → {destination} {tail}", fit(label::direction(drop), 3))
}

#[cfg(test)]
mod tests {
    use bulkhead_api::event::Event;

    use super::columns;

    fn drop(name: &str, port: u16, count: u64) -> Event {
        let line = format!(
            r#"{{"time":"2026-11-28T08:53:14.926Z","node":"n","kind":"drop","direction":"ingress",
            "source":{{"address":"10.0.0.1","name":"{name}"}},
            "destination":{{"address":"fd7a:115c:a1e0::5"}},"destination_port":{port},"protocol":"tcp",
            "interface":"wg0","rule":{{"number":5,"name":"no-ssh"}},
            "reason":"no_rule","count":{count},"bytes":60,"generation":1,"audit":false}}"#
        );
        Event::read(line.as_bytes()).unwrap()
    }

    #[test]
    fn columns_do_not_jump() {
        for width in [60, 80, 100, 119, 120, 149, 150, 200] {
            let lines = [drop("a", 1, 1), drop(&"long-name-".repeat(30), 65_535, 123_456_789)]
                .map(|event| columns(&event, width));
            let place = |line: &str, what: char| line.chars().position(|letter| letter == what).unwrap();
            for mark in ['→', '×'] {
                assert_eq!(place(&lines[0], mark), place(&lines[1], mark), "{width}: {lines:#?}");
            }
            for line in &lines {
                assert!(width < 80 || line.chars().count() <= width, "{width}: {line}");
            }
            assert!(width < 150 || lines[0].contains("no-ssh") && lines[0].contains("wg0"), "{}", lines[0]);
        }
    }

    #[test]
    fn a_terminal_is_not_told_what_to_do() {
        let event = drop("\\u001b[2J\\u202e", 1, 1);
        for width in [80, 160] {
            let line = columns(&event, width);
            assert!(bulkhead_api::text::is_plain(&line), "{line:?}");
        }
    }
}
