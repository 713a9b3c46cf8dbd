//! `bulkhead audit show`: records, filtered.

use std::io::{self, Write};

use bulkhead_api::text::plain;

use super::source::{Records, Shown, Source};
use crate::commands::filter::{Filter, Meant, Times};
use crate::exit::Answer;
use crate::global::Global;

/// Print records of the event log.
///
/// The oldest first, one a line behind its number, which `bulkhead audit proof` takes; all that is given must hold.
/// Each is checked against what the log's key has signed; what is not signed yet says so, with `--json` on standard
/// error. `--json` prints the records themselves, in their bytes, which are canonical.
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
        let records = Records::open(&self.source, global)?.with_unsigned();
        let mut out = io::BufWriter::new(io::stdout().lock());
        let shown = show(records, &meant, global.json, &mut out);
        // Before an error, what was read until then.
        let flushed = out.flush();
        match shown.and_then(|unsigned| Ok(flushed.map(|()| unsigned)?)) {
            Ok(None) => {}
            Ok(Some((first, last))) if global.json => {
                eprintln!("bulkhead: records {first} to {last} are not signed yet");
            }
            Ok(Some(_)) => {}
            // Nobody reads any more.
            Err(error) if is_broken_pipe(&error) => {}
            Err(error) => return Err(error),
        }
        Ok(Answer::Yes)
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Prints those that are meant; the first and the last of them that are not signed yet.
fn show(
    records: impl Iterator<Item = anyhow::Result<Shown>>,
    meant: &Meant,
    json: bool,
    out: &mut impl Write,
) -> anyhow::Result<Option<(u64, u64)>> {
    let mut unsigned = None;
    for shown in records {
        let Shown { number, bytes, record, is_signed } = shown?;
        if !meant.is_meant(&record.event) {
            continue;
        }
        if !is_signed {
            unsigned = Some((unsigned.map_or(number, |(first, _)| first), number));
        }
        if json {
            out.write_all(&bytes)?;
            out.write_all(b"\n")?;
        } else {
            let mark = if is_signed { "" } else { " (not signed yet)" };
            writeln!(out, "{number:>8} {}{mark}", plain(&record.event.to_string()))?;
        }
    }
    Ok(unsigned)
}
