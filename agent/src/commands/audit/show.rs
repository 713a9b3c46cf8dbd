//! `bulkhead audit show`: records, filtered.

use std::io::{self, Write as _};

use bulkhead_api::text::plain;

use super::source::{Records, Source};
use crate::commands::filter::{Filter, Times};
use crate::exit::Answer;
use crate::global::Global;

/// Print records of the event log.
///
/// The oldest first, one a line behind its number, which `bulkhead audit proof` takes; all that is given must hold.
/// `--json` prints the records themselves, in their canonical bytes.
#[derive(Debug, clap::Args)]
pub struct Show {
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    times: Times,
    #[command(flatten)]
    source: Source,
}

impl Show {
    pub fn run(&self, global: &Global) -> anyhow::Result<Answer> {
        let meant = self.times.of(self.filter.meant()?)?;
        let mut out = io::BufWriter::new(io::stdout().lock());
        for record in Records::open(&self.source, global)? {
            let (number, record) = record?;
            if !meant.is_meant(&record.event) {
                continue;
            }
            let written = if global.json {
                out.write_all(&record.canonical()?).and_then(|()| out.write_all(b"\n"))
            } else {
                writeln!(out, "{number:>8} {}", plain(&record.event.to_string()))
            };
            match written {
                // Nobody reads any more.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(Answer::Yes),
                written => written?,
            }
        }
        match out.flush() {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Answer::Yes),
            flushed => Ok(flushed.map(|()| Answer::Yes)?),
        }
    }
}
