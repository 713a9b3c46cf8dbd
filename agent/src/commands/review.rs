//! `bulkhead review`: the pack that whoever answers for the rules signs.

use std::path::PathBuf;

use anyhow::Context as _;
use bulkhead_api::event::{Actor, Timestamp};
use bulkhead_api::history::Entry;
use bulkhead_history::answer::Question;
use bulkhead_policy::source::Source as Text;
use bulkhead_review::log::OfLog;
use bulkhead_review::pack::{File, Head, Log};
use bulkhead_review::{Gather, Pack, of_history, page};
use bulkhead_tlog::{Checkpoint, Trust, verify};

use super::audit::source::{Records, Source};
use super::{history, tls};
use crate::daemon::files::sha256;
use crate::exit::{Answer, Usage};
use crate::global::Global;
use crate::input;
use crate::paths::Paths;
use crate::usage::Asked;
use crate::version::LONG;

/// Make the review pack: what was enforced, used, dropped and changed.
///
/// One page of HTML that needs nothing else, or the same as JSON (--json), from the event log and the history, with
/// or without an agent. Each figure says where it is from. The log is verified anew, and read up to its last
/// checkpoint.
#[derive(Debug, clap::Args)]
pub struct Review {
    #[command(flatten)]
    asked: Asked,
    #[command(flatten)]
    source: Source,
    /// Write it to a new file; else it goes to standard output.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Review {
    pub fn run(self, global: &Global) -> anyhow::Result<Answer> {
        let now = input::now();
        if let Some(path) = self.output.as_ref().filter(|path| path.exists()) {
            let message = format!("{} is there already; name a new file", path.display());
            return Err(Usage(message).into());
        }
        let Some(question) = self.asked.read(global, now / 1_000_000_000)? else {
            return Ok(Answer::No);
        };
        let kept = history::ask(&Paths::of(&global.instance)?).unwrap_or_default();
        let since = Timestamp::from_unix(question.since.saturating_mul(1_000_000_000));
        let made = Timestamp::from_unix(now);
        let (log, of_log) = read_log(&self.source, global, &kept, [since, made])?;
        let head = head(&question, self.asked.is_enforced(), [since, made], log, &of_log)?;
        // Of another host's files an agent here knows nothing.
        let asked = self.asked.is_enforced().then(|| tls::coverage::ask(&Paths::of(&global.instance)?));
        let tls = asked.transpose().unwrap_or_default().flatten();
        let pack = Pack::new(head, of_log, of_history(&question), tls);
        let text = if global.json { serde_json::to_string(&pack)? + "\n" } else { page::render(&pack) };
        match &self.output {
            None => print!("{text}"),
            Some(path) => {
                std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
            }
        }
        Ok(Answer::Yes)
    }
}

fn head(
    question: &Question,
    is_enforced: bool,
    [since, made]: [Timestamp; 2],
    log: Log,
    of_log: &OfLog,
) -> anyhow::Result<Head> {
    let file = |text: &Text| File { name: text.name().to_string(), sha256: sha256(text) };
    let policy = question.loaded.policy.as_ref().context("a policy")?;
    let inventory = question.loaded.inventory.as_ref().context("an inventory")?;
    Ok(Head {
        host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        nodes: question.hosts.iter().map(|host| host.node.clone()).collect(),
        version: LONG.to_owned(),
        made,
        since,
        policy: file(&policy.source),
        inventory: file(&inventory.source),
        is_enforced,
        enforced: of_log.enforced.clone(),
        log,
    })
}

/// Verifies the log, and reads it up to its checkpoint.
fn read_log(
    source: &Source,
    global: &Global,
    kept: &[Entry],
    [since, until]: [Timestamp; 2],
) -> anyhow::Result<(Log, OfLog)> {
    let (checked, keys) = source.checked(global)?;
    let reader = checked.reader();
    let Checkpoint { origin, size, root, .. } = reader.checkpoint().clone();
    let signers = reader.note().signers(&keys).unwrap_or_default();
    let signed_by = signers.into_iter().map(ToString::to_string).collect();
    let trust = Trust { keys: &keys, ..Trust::default() };
    let report = verify(reader.directory(), &trust)
        .with_context(|| format!("reading the event log in {}", reader.directory().display()))?;
    let mut faults: Vec<String> = report.faults.iter().map(ToString::to_string).collect();
    let mut gather = Gather::new(since, until);
    for record in Records::of(checked, keys) {
        match record {
            Ok(shown) => gather.take(shown.number, &shown.record),
            Err(error) => faults.push(format!("{error:#}")),
        }
    }
    let of_log = gather.end(kept, who);
    let log = Log {
        origin,
        size,
        root: root.to_string(),
        signed_by,
        faults,
        read: of_log.read,
        unsynchronized: of_log.unsynchronized,
        begins: of_log.begins,
    };
    Ok((log, of_log))
}

/// Who asked for a change.
fn who(by: &Actor) -> String {
    let words = history::who(by);
    match by {
        Actor::Socket { comm: Some(comm), .. } => format!("{words} ({comm})"),
        _ => words,
    }
}
