//! `bulkhead watch`: events as they come.

mod columns;
mod label;
mod lines;
mod source;
mod top;

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use bulkhead_api::event::{Event, Kind};
use clap::ColorChoice;

use self::lines::Lines;
use self::source::{Seen, Watching};
use crate::client;
use crate::commands::filter::{Filter, Meant, time};
use crate::exit::{Answer, Usage};
use crate::global::Global;
use crate::paths::Paths;

/// Print events as they come.
///
/// Drops, the first of a kind at once and its repetitions in one line a second; what a staged policy would decide
/// otherwise; times without enforcement; and who changed what is enforced. All that is given must hold. In columns
/// where a terminal shows them, else in lines. What was missed on the way here is always told.
#[derive(Debug, clap::Args)]
pub struct Watch {
    #[command(flatten)]
    filter: Filter,
    /// Begin with what the event log has since a time, such as 10m ago.
    ///
    /// A time (RFC 3339), or so long ago. What comes follows without a gap, and nothing is told twice. Needs root.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Show rates, top drops and top rules on the whole screen.
    ///
    /// Keys: q ends it, p holds it still, s sorts by another column, / sets a filter.
    #[arg(long)]
    top: bool,
    /// Colour what a terminal shows; NO_COLOR is heeded.
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    color: ColorChoice,
}

impl Watch {
    pub fn run(&self, global: &Global) -> anyhow::Result<Answer> {
        let mut meant = self.filter.meant()?;
        meant.since = self.since.as_deref().map(time::read).transpose()?;
        let paths = Paths::of(&global.instance)?;
        let color = is_coloured(self.color, io::stdout().is_terminal());
        if self.top {
            if global.json {
                return Err(Usage("--top is for people: leave --json out".to_owned()).into());
            }
            if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
                let words = "--top needs a terminal: leave it out to have lines";
                return Err(Usage(words.to_owned()).into());
            }
            return top::run(global, &paths, &self.filter, meant, color);
        }
        let shows_all = self.filter.is_empty();
        let mut lines = Lines::new(global.json, color);
        // As long as the agent says that it is alive.
        let watch = client::while_alive(&paths, Duration::MAX, async {
            let mut watching = Watching::open(global, &paths, meant.since).await?;
            while let Some(seen) = watching.next().await? {
                let is_shown = match &seen {
                    Seen::Event { event, .. } => is_shown(&meant, event),
                    Seen::Unknown(_) => shows_all,
                    Seen::Note(_) => true,
                };
                if is_shown && !lines.show(&seen)? {
                    break;
                }
            }
            Ok(Answer::Yes)
        });
        client::block_on(watch)
    }
}

/// Whether an event is shown: whatever is asked for, what was lost on the way here is.
fn is_shown(meant: &Meant, event: &Event) -> bool {
    matches!(event.kind, Kind::Missed(_) | Kind::Lost(_)) || meant.is_meant(event)
}

/// Whether to colour what is shown: as asked for, else where a terminal shows it and nobody minds (no-color.org).
fn is_coloured(asked: ColorChoice, is_terminal: bool) -> bool {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    match asked {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        ColorChoice::Auto => {
            is_terminal && !is_set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
        }
    }
}
