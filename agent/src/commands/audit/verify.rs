//! `bulkhead audit verify`: whether the log is as it was signed.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use bulkhead_api::text::plain;
use bulkhead_tlog::{Note, Report, Trust, VerifierKey, verify};
use serde_json::json;

use super::keys;
use super::source::{Records, Source};
use crate::exit::Answer;
use crate::global::Global;

/// Verify that the event log is as it was signed.
///
/// Every record, hash and checkpoint anew, from the files alone. Ends with 1 if anything was altered, removed or put
/// in another's place. A key that lies beside the log proves nothing against root of its host: give the key, and
/// checkpoints, that you have kept elsewhere.
#[derive(Debug, clap::Args)]
pub struct Verify {
    /// The log's key, or a file with it; else the log's own is believed.
    #[arg(long, value_name = "KEY")]
    key: Vec<String>,
    /// A witness's key, or a file with it.
    #[arg(long, value_name = "KEY")]
    witness: Vec<String>,
    /// A checkpoint that was kept elsewhere, which the log must continue.
    #[arg(long, value_name = "FILE")]
    anchor: Vec<PathBuf>,
    #[command(flatten)]
    source: Source,
}

/// How often files that are just being replaced are looked at again, and after which time.
const TRIES: usize = 10;
const AGAIN: Duration = Duration::from_millis(300);

impl Verify {
    pub fn run(&self, global: &Global) -> anyhow::Result<Answer> {
        let directory = self.source.directory(global)?;
        let read =
            |texts: &[String]| texts.iter().map(|text| keys::key(text)).collect::<anyhow::Result<Vec<_>>>();
        let mut keys: Vec<VerifierKey> = read(&self.key)?;
        let is_own = keys.is_empty();
        if is_own {
            keys.push(keys::key(&directory.join("vkey").display().to_string())?);
        }
        let witnesses = read(&self.witness)?;
        let anchors: Vec<Note> =
            self.anchor.iter().map(|path| keys::anchor(path)).collect::<anyhow::Result<_>>()?;
        let trust = Trust { keys: &keys, witnesses: &witnesses, anchors: &anchors };
        let look =
            || verify(&directory, &trust).with_context(|| format!("verifying {}", directory.display()));
        let mut report = look()?;
        // A writer that goes on replaces files meanwhile; one that was killed has left some for good.
        for _ in 1..TRIES {
            if report.unfinished.is_empty() {
                break;
            }
            std::thread::sleep(AGAIN);
            report = look()?;
        }
        let misplaced = if report.is_whole() { self.misplaced(global)? } else { Vec::new() };
        let is_well = report.is_whole() && report.unfinished.is_empty() && misplaced.is_empty();
        if global.json {
            println!("{}", to_json(&report, &misplaced, is_own));
        } else {
            show(&report, &misplaced, &keys, is_own, is_well);
        }
        Ok(if is_well { Answer::Yes } else { Answer::No })
    }

    /// What of the records themselves is not as an agent writes them.
    fn misplaced(&self, global: &Global) -> anyhow::Result<Vec<String>> {
        let mut misplaced = Vec::new();
        for record in Records::open(&self.source, global)? {
            match record {
                Ok((number, record)) if record.sequence != number => {
                    misplaced.push(format!("record {number} says that it is record {}", record.sequence));
                }
                Ok(_) => {}
                Err(error) => misplaced.push(format!("{error:#}")),
            }
        }
        Ok(misplaced)
    }
}

fn to_json(report: &Report, misplaced: &[String], is_own: bool) -> serde_json::Value {
    let checkpoint = report.checkpoint.as_ref().map(|checkpoint| {
        json!({"origin": checkpoint.origin, "size": checkpoint.size, "root": checkpoint.root.to_string()})
    });
    let fault = |fault: &bulkhead_tlog::Fault| json!({"file": fault.file, "position": fault.position, "what": fault.what});
    json!({
        "checkpoint": checkpoint,
        "first": report.first,
        "unsigned": report.unsigned,
        "witnesses": report.witnesses,
        "own_key": is_own,
        "faults": report.faults.iter().map(fault).collect::<Vec<_>>(),
        "unfinished": report.unfinished,
        "misplaced": misplaced,
    })
}

/// Faults that are shown.
const SHOWN: usize = 20;

fn show(report: &Report, misplaced: &[String], keys: &[VerifierKey], is_own: bool, is_well: bool) {
    for fault in report.faults.iter().take(SHOWN) {
        println!("{}", plain(&fault.to_string()));
    }
    if report.faults.len() > SHOWN {
        println!("and {} more; `--json` lists all", report.faults.len() - SHOWN);
    }
    misplaced.iter().take(SHOWN).for_each(|what| println!("{}", plain(what)));
    for file in &report.unfinished {
        println!("{}: is no part of what was signed", plain(&file.display().to_string()));
    }
    if let Some(checkpoint) = &report.checkpoint {
        let pruned = if report.first == 0 { String::new() } else { format!(", from {} on", report.first) };
        println!("{} records{pruned}, root {}", checkpoint.size, checkpoint.root);
    }
    if report.unsigned != 0 {
        println!("{} records behind them are not signed yet", report.unsigned);
    }
    for witness in &report.witnesses {
        println!("cosigned by {witness}");
    }
    for key in keys {
        let own =
            if is_own { ", which lies beside the log: keep it elsewhere, and a checkpoint" } else { "" };
        println!("by the key {key}{own}");
    }
    println!("{}", if is_well { "as it was signed" } else { "NOT as it was signed" });
}
