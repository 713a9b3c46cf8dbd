//! One line an event.

use std::io::{self, IsTerminal as _, Write as _};

use anyhow::Context as _;
use bulkhead_api::event::{BindingState, Event, Kind, WorkloadState};
use bulkhead_api::text::plain;
use rustix::termios::tcgetwinsize;

use super::columns::columns;
use super::source::Seen;

/// Columns of a terminal that does not say how many it has.
const WIDTH: usize = 80;

/// How lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Json,
    /// In columns, for a terminal.
    Columns,
    /// As they are, for whatever reads them.
    Plain,
}

/// Writes lines to standard output.
pub struct Lines {
    form: Form,
    color: bool,
    /// The day that was shown last.
    day: String,
}

impl Lines {
    /// Lines in JSON, or for whom standard output is.
    pub fn new(json: bool, color: bool) -> Self {
        let form = match (json, io::stdout().is_terminal()) {
            (true, _) => Form::Json,
            (false, true) => Form::Columns,
            (false, false) => Form::Plain,
        };
        Self { form, color, day: String::new() }
    }

    /// Shows an event; false if nobody reads any more.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn show(&mut self, seen: &Seen) -> anyhow::Result<bool> {
        let text = match seen {
            Seen::Event { event, line, .. } => self.text(event, line),
            Seen::Unknown(line) if self.form == Form::Json => line.clone(),
            Seen::Unknown(line) => plain(line).into_owned(),
            Seen::Note(note) => {
                eprintln!("bulkhead: {note}");
                return Ok(true);
            }
        };
        let mut out = io::stdout();
        match writeln!(out, "{text}").and_then(|()| out.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
            written => written.map(|()| true).context("printing"),
        }
    }

    fn text(&mut self, event: &Event, line: &str) -> String {
        match self.form {
            Form::Json => return line.to_owned(),
            Form::Plain => return self.coloured(event, plain(&event.to_string()).into_owned()),
            Form::Columns => {}
        }
        let width = tcgetwinsize(io::stdout()).map_or(0, |size| size.ws_col.into());
        let line = self.coloured(event, columns(event, if width == 0 { WIDTH } else { width }));
        let day = event.time.milliseconds()[..10].to_owned();
        if day == self.day {
            return line;
        }
        self.day = day;
        format!("{} UTC\n{line}", self.day)
    }

    /// The line in the colour of what it tells of (ECMA-48, SGR).
    fn coloured(&self, event: &Event, line: String) -> String {
        if self.color { format!("\u{1b}[{}m{line}\u{1b}[0m", color(event)) } else { line }
    }
}

fn color(event: &Event) -> u8 {
    const RED: u8 = 31;
    const GREEN: u8 = 32;
    const YELLOW: u8 = 33;
    const MAGENTA: u8 = 35;
    const CYAN: u8 = 36;
    match &event.kind {
        Kind::Drop(drop) if drop.audit => YELLOW,
        Kind::Drop(_) => RED,
        Kind::WouldDiffer(_) => CYAN,
        Kind::Binding(binding) if binding.state == BindingState::Bound => GREEN,
        Kind::Workload(change) if change.state != WorkloadState::Ambiguous => GREEN,
        Kind::Allowed(_) | Kind::Control(_) | Kind::Coverage(_) | Kind::Balance(_) => GREEN,
        Kind::Unenforced(_)
        | Kind::Altered(_)
        | Kind::Binding(_)
        | Kind::Workload(_)
        | Kind::Alarm(_)
        | Kind::Lost(_)
        | Kind::Missed(_) => MAGENTA,
    }
}
