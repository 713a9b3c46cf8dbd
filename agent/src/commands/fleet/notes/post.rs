//! `bulkhead fleet post`: notes, put where hosts find them.

use std::path::{Path, PathBuf};

use bulkhead_fleet::notes::{LONGEST_NOTE, Notes};
use bulkhead_fleet::{Repository, Tree};
use bulkhead_grants::{Note, Order, OrderKind, Statement, is_of};
use bulkhead_policy::diagnostic::Findings;
use bulkhead_policy::inventory::{self, Inventory};
use bulkhead_policy::policy::{self, Policy};
use bulkhead_policy::source::Source;

use super::{Posted, fleet, line, posted};
use crate::commands::fleet::{now, wrong};
use crate::commands::grants;
use crate::daemon::fleet::signers;
use crate::daemon::grants::approvers;
use crate::exit::{Answer, Usage};
use crate::global::Global;

/// For how long a release without an end is posted, seconds: a host that was away for longer is told by another one.
const YEAR: i64 = 365 * 86_400;

/// Post signed notes for every host.
///
/// Grants, revocations, quarantines and releases. Each is verified as hosts do, by the policy and the inventory that are
/// published. What is over is taken away. Hosts
/// that follow the directory, or a web server that serves it, find the notes there; `bulkhead fleet push` puts them on
/// NATS. Without a file: only take away what is over, and list what is there.
#[derive(Debug, clap::Args)]
pub struct Post {
    /// Notes with their signatures.
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The fleet directory.
    #[arg(long, value_name = "DIRECTORY")]
    fleet: PathBuf,
}

impl Post {
    pub fn run(&self, global: &Global) -> anyhow::Result<Answer> {
        let tree = Tree::new(&self.fleet);
        let _alone = tree.alone().map_err(wrong)?;
        let (policy, inventory) = published(&tree, global)?;
        let (known, of) = (posted(&self.fleet)?, fleet(&self.fleet)?);
        let mut new: Vec<Posted> = Vec::new();
        for path in &self.files {
            let at = |error: String| Usage(format!("{}: {error}", path.display()));
            let note = grants::parse(path, &grants::read(path)?)?;
            let says = Statement::parse(note.text()).map_err(|error| at(error.to_string()))?;
            if !is_of(says.id(), &of) {
                let words = "it is not of this fleet: make it by `bulkhead request --fleet DIRECTORY`, or by \
                             `bulkhead fleet quarantine`, `release` or `revoke`";
                return Err(at(words.to_owned()).into());
            }
            check(&note, &says, (&policy, &inventory), global).map_err(at)?;
            let file = format!("{}-{}", says.kind(), says.id());
            if note.to_string().len() > LONGEST_NOTE {
                return Err(at(format!("it is longer than {LONGEST_NOTE} bytes, which hosts take")).into());
            }
            if known.iter().any(|known| known.file == file && known.note.text() != note.text()) {
                return Err(at(format!("another {} of that id is posted", says.kind())).into());
            }
            if ended(&says, known.iter().map(|known| &known.says)) {
                return Err(at("it was revoked or lifted already, and does not come back".to_owned()).into());
            }
            new.push(Posted { file, note, says });
        }
        let over = over(&known, &new, now());
        let add: Vec<(String, String)> =
            new.iter().map(|posted| (posted.file.clone(), posted.note.to_string())).collect();
        Notes::new(&self.fleet).change(&add, &over).map_err(wrong)?;
        if global.json {
            let files: Vec<&String> = new.iter().map(|posted| &posted.file).collect();
            println!("{}", serde_json::json!({ "posted": files, "over": over }));
        } else {
            new.iter().for_each(|posted| println!("posted {}", line(&posted.says, &posted.note)));
            over.iter().for_each(|file| println!("over: {file}"));
            if self.files.is_empty() && over.is_empty() {
                println!("nothing is over");
            }
        }
        Ok(Answer::Yes)
    }
}

/// Whether a posted note counts.
pub(super) fn verify(posted: &Posted, fleet: &Path, global: &Global) -> Result<(), Usage> {
    let (policy, inventory) = published(&Tree::new(fleet), global)?;
    check(&posted.note, &posted.says, (&policy, &inventory), global).map_err(|why| {
        Usage(format!("{}.note does not count, and nothing is taken from it: {why}", posted.file))
    })
}

/// What hosts verify notes by, once they follow what is published.
fn published(tree: &Tree, global: &Global) -> Result<(Policy, Inventory), Usage> {
    let mut findings = Findings::default();
    let source = |repository: Repository| {
        let bundle = tree.bundle(repository).map_err(wrong)?;
        let (version, text) = bundle.ok_or_else(|| {
            Usage(format!("no {repository} is published yet, by which hosts would verify a note"))
        })?;
        Ok(Source::new(&format!("{repository} version {version}"), &text))
    };
    let (policy, inventory) = (source(Repository::Policy)?, source(Repository::Inventory)?);
    let policy = policy::parse(&policy, global.dialect, &mut findings);
    let inventory = inventory::parse(&inventory, &mut findings);
    policy.zip(inventory).ok_or_else(|| Usage(format!("what is published cannot be read: {findings}")))
}

/// What a host would say of it.
fn check(
    note: &Note,
    says: &Statement,
    (policy, inventory): (&Policy, &Inventory),
    global: &Global,
) -> Result<(), String> {
    says.check_time(now()).map_err(|error| error.to_string())?;
    match says {
        Statement::Grant(_) => approvers(note, (policy, inventory, global.dialect), crate::input::now()),
        Statement::Order(order) => signers(note, order, policy),
    }
    .map(drop)
}

/// Whether another note has ended what one begins.
fn ended<'s>(says: &Statement, mut others: impl Iterator<Item = &'s Statement>) -> bool {
    let by = match says {
        Statement::Grant(_) => OrderKind::Revocation,
        Statement::Order(Order { kind: OrderKind::Quarantine, .. }) => OrderKind::Release,
        Statement::Order(_) => return false,
    };
    others.any(|other| matches!(other, Statement::Order(order) if order.kind == by && order.id == says.id()))
}

/// What need not be posted any more: what is over, and what another note has ended.
fn over(known: &[Posted], new: &[Posted], now: i64) -> Vec<String> {
    let is_over = |posted: &&Posted| {
        let is_old = match &posted.says {
            Statement::Order(order) if order.kind == OrderKind::Release && order.until.is_none() => {
                order.from.saturating_add(YEAR) <= now
            }
            says => says.until().is_some_and(|until| until <= now),
        };
        is_old || ended(&posted.says, known.iter().chain(new).map(|other| &other.says))
    };
    known.iter().filter(is_over).map(|posted| posted.file.clone()).collect()
}

#[cfg(test)]
mod tests {
    use bulkhead_grants::{Note, Order, OrderKind, Statement};

    use super::{Posted, YEAR, over};

    fn posted(kind: OrderKind, id: u8, until: Option<i64>) -> Posted {
        let (subject, ticket, reason) = ("a".to_owned(), "t".to_owned(), "r".to_owned());
        let order = Order { kind, id: format!("{id:032x}"), subject, from: 1_000, until, ticket, reason };
        let note = Note::new(order.text().unwrap());
        Posted { file: format!("{}-{id}", kind.name()), note, says: Statement::Order(order) }
    }

    #[test]
    fn what_is_over_or_lifted_is_posted_no_more_and_its_lifting_is() {
        let known = [
            posted(OrderKind::Quarantine, 1, None),
            posted(OrderKind::Quarantine, 2, Some(2_000)),
            posted(OrderKind::Quarantine, 3, None),
            posted(OrderKind::Release, 3, None),
            posted(OrderKind::Revocation, 4, Some(2_000)),
        ];
        let new = [posted(OrderKind::Release, 1, None)];
        assert_eq!(over(&known, &[], 1_500), ["quarantine-3"]);
        assert_eq!(over(&known, &new, 1_500), ["quarantine-1", "quarantine-3"]);
        assert_eq!(over(&known, &[], 2_000), ["quarantine-2", "quarantine-3", "revocation-4"]);
        let late = over(&known, &[], 1_000 + YEAR);
        assert_eq!(late, ["quarantine-2", "quarantine-3", "release-3", "revocation-4"]);
    }
}
