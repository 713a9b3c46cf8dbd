//! What the screen shows, and what keys do to it.

use std::time::Instant;

use bulkhead_api::status::Status;
use clap::Parser as _;
use ratatui::crossterm::event::{Event as Typed, KeyCode, KeyEventKind, KeyModifiers};

use super::polled::Polled;
use super::tally::{Pair, Row, Tally};
use crate::commands::filter::{Filter, Meant};
use crate::commands::watch::is_shown;
use crate::commands::watch::source::Seen;

/// By which column drops are sorted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// The most a second first.
    #[default]
    Rate,
    /// The most in all first.
    Total,
    /// The last first.
    Last,
    /// By source.
    Source,
}

impl Sort {
    /// Its name, for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Total => "total",
            Self::Last => "last",
            Self::Source => "source",
        }
    }

    fn next(self) -> Self {
        match self {
            Self::Rate => Self::Total,
            Self::Total => Self::Last,
            Self::Last => Self::Source,
            Self::Source => Self::Rate,
        }
    }
}

/// What is shown at one moment.
#[derive(Clone, Debug, Default)]
pub struct Picture {
    /// What came.
    pub tally: Tally,
    /// What the agent says.
    pub polled: Polled,
    /// When, seconds since the Unix epoch.
    pub now: u64,
}

/// The screen's state.
#[derive(Debug, Default)]
pub struct State {
    /// What goes on.
    pub live: Picture,
    /// What is held still.
    pub held: Option<Box<Picture>>,
    /// The order of drops.
    pub sort: Sort,
    /// The filter's words.
    pub words: String,
    /// What is typed of a new one.
    pub typed: Option<String>,
    /// What was wrong with it.
    pub wrong: Option<String>,
    /// What is missing, said until it is said otherwise.
    pub gap: Option<String>,
    meant: Meant,
}

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// To go on.
    Nothing,
    /// To end.
    End,
}

/// The filter's words, as the command line has them.
#[derive(clap::Parser)]
#[command(name = "filter", no_binary_name = true, disable_help_flag = true)]
struct Words {
    #[command(flatten)]
    filter: Filter,
}

impl State {
    /// Shows what is meant, which these words of the command line say.
    pub fn new(filter: &Filter, meant: Meant) -> Self {
        Self { words: filter.words(), meant, ..Self::default() }
    }

    /// What is to be shown.
    pub fn picture(&self) -> &Picture {
        self.held.as_deref().unwrap_or(&self.live)
    }

    /// Takes what was seen in a second.
    pub fn see(&mut self, seen: &Seen, now: u64) {
        match seen {
            Seen::Event { event, is_past, .. } if is_shown(&self.meant, event) => {
                let second = if *is_past { event.time.unix() / 1_000_000_000 } else { now };
                self.live.tally.add(event, second);
            }
            Seen::Note(note) => self.gap = Some(note.clone()),
            _ => {}
        }
    }

    /// Takes an answer of the agent, if there is one.
    pub fn poll(&mut self, status: Option<&Status>) {
        match status {
            Some(status) => self.live.polled.take(status, Instant::now()),
            None => self.live.polled.silent(),
        }
    }

    /// Drops in their order.
    pub fn pairs(&self) -> Vec<(&Pair, &Row)> {
        let Picture { tally, now, .. } = self.picture();
        let mut rows: Vec<_> = tally.pairs.rows().collect();
        rows.sort_unstable_by(|(one, a), (other, b)| {
            let rate = |row: &Row| row.rate.per_second(*now, super::tally::WINDOW);
            let order = match self.sort {
                Sort::Rate => rate(b).total_cmp(&rate(a)),
                Sort::Total => b.rate.total().cmp(&a.rate.total()),
                Sort::Last => b.last.cmp(&a.last),
                Sort::Source => one.source.cmp(&other.source),
            };
            order.then_with(|| b.rate.total().cmp(&a.rate.total())).then_with(|| one.cmp(other))
        });
        rows
    }

    /// Does what a key asks for.
    pub fn key(&mut self, typed: &Typed) -> Asked {
        let Typed::Key(key) = typed else { return Asked::Nothing };
        if key.kind == KeyEventKind::Release {
            return Asked::Nothing;
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c') {
            return Asked::End;
        }
        if let Some(text) = &mut self.typed {
            match key.code {
                KeyCode::Char(letter) => text.push(letter),
                KeyCode::Backspace => drop(text.pop()),
                KeyCode::Esc => self.typed = None,
                KeyCode::Enter => self.set_filter(),
                _ => {}
            }
            return Asked::Nothing;
        }
        match key.code {
            KeyCode::Char('q') => return Asked::End,
            KeyCode::Char('p' | ' ') => {
                self.held = if self.held.is_none() { Some(Box::new(self.live.clone())) } else { None };
            }
            KeyCode::Char('s') => self.sort = self.sort.next(),
            KeyCode::Char('/') => {
                self.typed = Some(self.words.clone());
                self.wrong = None;
            }
            _ => {}
        }
        Asked::Nothing
    }

    /// Takes the filter that was typed; counts of pairs begin anew with it.
    fn set_filter(&mut self) {
        let text = self.typed.take().unwrap_or_default();
        // `port=22` and `--port 22` are the same.
        let words = text.split_whitespace().map(|word| match word.strip_prefix("--") {
            None if word.contains('=') => format!("--{word}"),
            _ => word.to_owned(),
        });
        let first = |text: String| text.lines().next().unwrap_or_default().to_owned();
        let filter = Words::try_parse_from(words).map_err(|error| first(error.to_string()));
        let meant = filter.and_then(|words| {
            let meant = words.filter.meant().map_err(|error| error.to_string())?;
            Ok((words.filter.words(), meant))
        });
        match meant {
            Ok((words, meant)) => {
                (self.words, self.meant, self.wrong, self.held) = (words, meant, None, None);
                let missed = self.live.tally.missed;
                self.live.tally = Tally { missed, ..Tally::default() };
            }
            Err(wrong) => self.wrong = Some(bulkhead_api::text::plain(&wrong).into_owned()),
        }
    }
}
