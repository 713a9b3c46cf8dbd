//! The pack as one page: no script, nothing from elsewhere, and every text escaped.

mod alarms;
mod changes;
mod chart;
mod conversations;
mod coverage;
mod drops;
mod losses;
mod rules;
mod summary;
mod tls;
mod words;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::pack::{Pack, Source};

use self::words::{grouped, text};

const STYLE: &str = include_str!("style.css");

/// The page's HTML.
#[must_use]
pub fn render(pack: &Pack) -> String {
    let title = format!("Access review of {}", pack.head.nodes.join(", "));
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width";
                // Whatever gets into it, no browser runs or fetches anything.
                meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'";
                meta name="color-scheme" content="light dark";
                title { (text(&title)) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                (summary::top(pack, &title))
                (section("coverage", "1", "Coverage", &pack.coverage.source, &coverage::coverage(pack)))
                (section("conversations", "2", "Who talks to whom", &pack.conversations.source, &conversations::matrix(&pack.conversations)))
                (section("drops", "3", "Drops", &pack.drops.source, &drops::drops(&pack.drops)))
                (section("rules", "4", "Rules and who answers for them", &pack.rules.source, &rules::all(&pack.rules)))
                (section("least", "5", "Rules nobody used, and rules wider than their use", &pack.rules.source, &rules::findings(&pack.rules)))
                (section("staged", "6", "What only a staged policy would have stopped", &pack.staged.source, &rules::staged(&pack.staged)))
                (section("changes", "7", "Changes", &pack.changes.source, &changes::changes(&pack.changes)))
                (section("unenforced", "8", "Times without enforcement", &pack.unenforced.source, &changes::unenforced(&pack.unenforced)))
                (section("alarms", "9", "Alarms, and what the agent did", &pack.alarms.source, &alarms::alarms(&pack.alarms)))
                (section("losses", "10", "Losses and open balances", &pack.losses.source, &losses::losses(pack)))
                section id="tls" {
                    h2 { span.number { "11" } " TLS at service ports" }
                    (tls::tls(pack.tls.as_ref()))
                    p.source { "Source: the agent's answer when this was made; it is in no log" }
                }
                (summary::bottom(pack))
            }
        }
    };
    page.into_string()
}

fn section(id: &str, number: &str, title: &str, source: &Source, content: &Markup) -> Markup {
    html! {
        section id=(id) {
            h2 { span.number { (number) } " " (title) }
            (content)
            p.source { "Source: " (from(source)) }
        }
    }
}

/// Where figures are from, in words.
fn from(source: &Source) -> Markup {
    html! {
        @match source.records {
            Some(at) => { "event log, records " span.digits { (grouped(at.first)) "–" (grouped(at.last)) } },
            None if source.histories.is_empty() => { "event log, which has no records of this time" },
            None => {},
        }
        @if !source.histories.is_empty() {
            @if source.records.is_some() { "; " }
            "history database of " (text(&source.histories.join(", ")))
        }
    }
}
