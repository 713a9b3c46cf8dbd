//! `bulkhead audit verify`: whether the log is as it was signed.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::Context as _;
use bulkhead_api::text::plain;
use bulkhead_tlog::{Report, Trust, VerifierKey, verify};
use serde_json::json;

use super::keys;
use super::source::{Records, Source};
use crate::exit::{Answer, Usage};
use crate::global::Global;

/// Verify that the event log is as it was signed.
///
/// Every record, hash and checkpoint anew, from the files alone. Ends with 1 if anything was altered, removed or put
/// in another's place, and with 2 if a kept checkpoint is too old to be compared. A key that lies beside the log proves
/// nothing against root of its host: give the key, and checkpoints, that you have kept elsewhere.
#[derive(Debug, clap::Args)]
pub struct Verify {
    /// A witness's key, or a file with it.
    #[arg(long, value_name = "KEY")]
    witness: Vec<String>,
    /// A checkpoint that was kept elsewhere, or a directory of them.
    ///
    /// The log must continue each. Of a directory, what the log's keys have not signed is passed over, and named.
    #[arg(long, value_name = "PATH")]
    anchor: Vec<PathBuf>,
    #[command(flatten)]
    source: Source,
}

/// What is shown.
struct Verified {
    report: Report,
    /// What of the records themselves is not as an agent writes them.
    misplaced: Vec<String>,
    keys: Vec<VerifierKey>,
    /// Whether the key is the one beside the log.
    is_own: bool,
}

/// Records of which it is said that they are none.
const MISPLACED: usize = 1000;

impl Verify {
    pub fn run(&self, global: &Global) -> anyhow::Result<Answer> {
        let directory = self.source.directory(global)?;
        let keys = self.source.keys(&directory)?;
        let witnesses =
            self.witness.iter().map(|text| keys::witness(text)).collect::<anyhow::Result<Vec<_>>>()?;
        let (directories, files): (Vec<_>, Vec<_>) = self.anchor.iter().partition(|path| path.is_dir());
        let anchors = files.into_iter().map(|path| keys::anchor(path)).collect::<anyhow::Result<Vec<_>>>()?;
        let (mut kept, mut malformed) = (Vec::new(), 0);
        for directory in &directories {
            let (notes, others) = keys::anchors(directory)?;
            kept.extend(notes);
            malformed += others;
        }
        let trust = Trust { keys: &keys, witnesses: &witnesses, anchors: &anchors, kept: &kept };
        let mut report =
            verify(&directory, &trust).with_context(|| format!("verifying {}", directory.display()))?;
        report.foreign += malformed;
        if !directories.is_empty() && report.anchors == 0 {
            report.unchecked.push("no checkpoint in the directory shows anything of this log".to_owned());
        }
        let misplaced = if report.is_whole() { self.misplaced(global)? } else { Vec::new() };
        let verified = Verified { report, misplaced, keys, is_own: self.source.key.is_empty() };
        if global.json {
            println!("{}", verified.to_json());
        } else {
            verified.show(&mut io::stdout().lock())?;
        }
        if verified.is_well() && !verified.report.unchecked.is_empty() {
            let words =
                "what is said not to be checkable shows nothing; give a checkpoint that was kept later";
            return Err(Usage(words.to_owned()).into());
        }
        Ok(if verified.is_well() { Answer::Yes } else { Answer::No })
    }

    /// What of the records themselves is not as an agent writes them.
    fn misplaced(&self, global: &Global) -> anyhow::Result<Vec<String>> {
        let wrong = Records::open(&self.source, global)?.filter_map(Result::err).take(MISPLACED);
        Ok(wrong.map(|error| format!("{error:#}")).collect())
    }
}

/// Faults that are shown.
const SHOWN: usize = 20;

impl Verified {
    fn is_well(&self) -> bool {
        self.report.is_whole() && self.misplaced.is_empty()
    }

    fn to_json(&self) -> serde_json::Value {
        let Self { report, misplaced, is_own, .. } = self;
        let checkpoint = report.checkpoint.as_ref().map(|checkpoint| {
            json!({"origin": checkpoint.origin, "size": checkpoint.size, "root": checkpoint.root.to_string()})
        });
        let fault = |fault: &bulkhead_tlog::Fault| json!({"file": fault.file, "position": fault.position, "what": fault.what});
        json!({
            "checkpoint": checkpoint,
            "first": report.first,
            "unsigned": report.unsigned,
            "witnesses": report.witnesses,
            "anchors": report.anchors,
            "foreign_anchors": report.foreign,
            "outlived_anchors": report.outlived,
            "own_key": is_own,
            "faults": report.faults.iter().map(fault).collect::<Vec<_>>(),
            "unchecked": report.unchecked,
            "unfinished": report.unfinished,
            "misplaced": misplaced,
        })
    }

    /// Nothing of a log is believed to be fit for a terminal.
    fn show(&self, out: &mut impl Write) -> io::Result<()> {
        let Self { report, misplaced, keys, is_own } = self;
        for fault in report.faults.iter().take(SHOWN) {
            writeln!(out, "{}", plain(&fault.to_string()))?;
        }
        misplaced.iter().take(SHOWN).try_for_each(|what| writeln!(out, "{}", plain(what)))?;
        let more = report.faults.len().saturating_sub(SHOWN) + misplaced.len().saturating_sub(SHOWN);
        if more != 0 {
            writeln!(out, "and {more} more; `--json` lists all")?;
        }
        for what in &report.unchecked {
            writeln!(out, "cannot be checked any more: {}", plain(what))?;
        }
        if let [file, others @ ..] = &report.unfinished[..] {
            let more = if others.is_empty() { String::new() } else { format!(" and {} more", others.len()) };
            let file = file.display().to_string();
            writeln!(out, "not looked at, since no checkpoint covers it: {}{more}", plain(&file))?;
        }
        if let Some(checkpoint) = &report.checkpoint {
            let pruned =
                if report.first == 0 { String::new() } else { format!(", from {} on", report.first) };
            writeln!(out, "{} records{pruned}, root {}", checkpoint.size, checkpoint.root)?;
        }
        if report.unsigned != 0 {
            writeln!(out, "{} records behind them are not signed yet", report.unsigned)?;
        }
        match report.anchors {
            0 => {}
            1 => writeln!(out, "continues a kept checkpoint")?,
            many => writeln!(out, "continues {many} kept checkpoints")?,
        }
        if report.outlived != 0 {
            let (count, first) = (report.outlived, report.first);
            writeln!(out, "{count} kept checkpoints are of before record {first} and show nothing any more")?;
        }
        if report.foreign != 0 {
            writeln!(out, "{} kept checkpoints are not signed by this log's key", report.foreign)?;
        }
        for witness in &report.witnesses {
            writeln!(out, "cosigned by {}", plain(witness))?;
        }
        for key in keys {
            let beside = ", which lies beside the log: keep it elsewhere, and a checkpoint";
            let own = if *is_own { beside } else { "" };
            writeln!(out, "by the key {}{own}", plain(&key.to_string()))?;
        }
        writeln!(
            out,
            "{}",
            match self.is_well() {
                true if report.unchecked.is_empty() => "as it was signed",
                true => "as it was signed, as far as that can be checked",
                false => "NOT as it was signed",
            }
        )
    }
}

#[cfg(test)]
mod tests {
    use bulkhead_api::text::is_plain;
    use bulkhead_tlog::{Fault, Report, VerifierKey};

    use super::Verified;

    #[test]
    fn nothing_of_a_log_reaches_the_terminal() {
        let evil = "\u{1b}]0;pwned\u{7}\u{202e}\r\u{9b}2J";
        // A name has no control character, and may turn the direction of writing.
        let name = "bulkhead/\u{202e}tsoh";
        let key = format!("{name}+{}", "00000000+ATXQsCdcqdLXlBmPxnJPLkFzpGZsZ8fbBUhm0ZvAhyGt");
        let id = VerifierKey::parse(&key).unwrap_err().to_string();
        let id = id.rsplit(' ').next().unwrap().to_owned();
        let key = VerifierKey::parse(&key.replace("00000000", &id)).unwrap();
        let report = Report {
            witnesses: vec![name.to_owned()],
            faults: vec![Fault { file: evil.into(), position: None, what: evil.to_owned() }],
            unchecked: vec![evil.to_owned()],
            unfinished: vec![evil.into(), evil.into()],
            unsigned: 1,
            ..Report::default()
        };
        let verified = Verified { report, misplaced: vec![evil.to_owned()], keys: vec![key], is_own: true };
        let mut shown = Vec::new();
        verified.show(&mut shown).unwrap();
        let shown = String::from_utf8(shown).unwrap();
        assert!(shown.lines().all(is_plain), "{shown:?}");
        assert_eq!((shown.lines().count(), shown.matches(r"\u{202e}").count()), (8, 7), "{shown}");
    }
}
