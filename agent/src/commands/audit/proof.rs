//! `bulkhead audit proof`: that one record is in the log, for somebody who does not have the log.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use bulkhead_api::text::plain;
use bulkhead_tlog::{Error, Proof as Proven};

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
    #[command(flatten)]
    source: Source,
}

impl Proof {
    pub fn run(&self, global: &Global) -> anyhow::Result<Answer> {
        if let Some(proof) = &self.check {
            return self.check(proof, global);
        }
        let words =
            || Usage(format!("'{}' is no record's number; `bulkhead audit show` has them", self.record));
        let number: u64 = self.record.parse().map_err(|_| words())?;
        let (mut log, _) = self.source.checked(global)?;
        match log.prove(number) {
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

    fn check(&self, proof: &Path, global: &Global) -> anyhow::Result<Answer> {
        let read = |path: &Path| {
            keys::read(path).map_err(|error| Usage(format!("cannot read {}: {error}", path.display())))
        };
        let bytes = read(Path::new(&self.record))?;
        let record = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        let keys = self.source.key.iter().map(|key| keys::key(key)).collect::<anyhow::Result<Vec<_>>>()?;
        let proof = read(proof)?;
        let checked = Proven::parse(&String::from_utf8_lossy(&proof))
            .and_then(|proof| Ok((proof.index, proof.check(record, &keys)?)));
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
                println!("record {index} of {} records of {}", checkpoint.size, plain(&checkpoint.origin));
            }
            Err(error) => println!("NOT proven: {}", plain(&error.to_string())),
        }
        Ok(answer)
    }
}
