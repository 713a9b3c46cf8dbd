//! `bulkhead audit proof`: that one record is in the log, for somebody who does not have the log.

use std::path::PathBuf;

use anyhow::Context as _;
use bulkhead_tlog::{Error, Proof as Proven, Reader};

use super::keys;
use super::source::Source;
use crate::exit::{Answer, Usage};
use crate::global::Global;

/// Print the proof that a record is in the log, or check one.
///
/// The proof (C2SP tlog-proof) and the record's bytes, as `bulkhead audit show --json` prints them, are all that
/// somebody needs who has the log's key. With `--check`, RECORD is a file with these bytes.
#[derive(Debug, clap::Args)]
pub struct Proof {
    /// The record's number; with --check, a file with its bytes.
    #[arg(value_name = "RECORD")]
    record: String,
    /// Check this proof instead of making one.
    #[arg(long, value_name = "PROOF", requires = "key")]
    check: Option<PathBuf>,
    /// The log's key, or a file with it.
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    #[command(flatten)]
    source: Source,
}

impl Proof {
    pub fn run(&self, global: &Global) -> anyhow::Result<Answer> {
        if let (Some(proof), Some(key)) = (&self.check, &self.key) {
            return self.check(proof, key, global);
        }
        let words =
            || Usage(format!("'{}' is no record's number; `bulkhead audit show` has them", self.record));
        let number: u64 = self.record.parse().map_err(|_| words())?;
        let directory = self.source.directory(global)?;
        let reader = Reader::open(&directory).context("reading the event log")?;
        match reader.prove(number) {
            Ok(proof) => print!("{proof}"),
            Err(error @ (Error::Beyond { .. } | Error::Pruned { .. })) => {
                let next = "a record is signed within a second of its writing";
                return Err(Usage(format!("{error}; {next}")).into());
            }
            Err(error) => {
                return Err(error).context("`bulkhead audit verify` says what is wrong with the log");
            }
        }
        Ok(Answer::Yes)
    }

    fn check(&self, proof: &PathBuf, key: &str, global: &Global) -> anyhow::Result<Answer> {
        let read = |path: &PathBuf| {
            std::fs::read(path).map_err(|error| Usage(format!("cannot read {}: {error}", path.display())))
        };
        let bytes = read(&PathBuf::from(&self.record))?;
        let record = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        let text = String::from_utf8_lossy(&read(proof)?).into_owned();
        let checked = Proven::parse(&text).and_then(|proof| {
            let checkpoint =
                proof.check(record, &[keys::key(key).map_err(|error| Error::Key(error.to_string()))?])?;
            Ok((proof.index, checkpoint))
        });
        let answer = if checked.is_ok() { Answer::Yes } else { Answer::No };
        match checked {
            Ok((index, checkpoint)) if global.json => {
                let size = checkpoint.size;
                println!(
                    "{}",
                    serde_json::json!({"index": index, "origin": checkpoint.origin, "size": size})
                );
            }
            Ok((index, checkpoint)) => {
                println!("record {index} of {} records of {}", checkpoint.size, checkpoint.origin);
            }
            Err(error) => println!("NOT proven: {error}"),
        }
        Ok(answer)
    }
}
