//! `bulkhead fleet quarantine`, `release` and `revoke`: notes for people to sign.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use bulkhead_fleet::{Repository, Tree};
use bulkhead_grants::{Grant, Note, Order, OrderKind, Statement, new_id_of};
use bulkhead_policy::diagnostic::Findings;
use bulkhead_policy::inventory;
use bulkhead_policy::source::Source;

use super::post::verify;
use super::{fleet, posted};
use crate::commands::fleet::{now, wrong};
use crate::commands::grants;
use crate::daemon::quarantine::list::find;
use crate::duration;
use crate::exit::{Answer, Usage};
use crate::global::Global;

/// Why, and where the note goes.
#[derive(Debug, clap::Args)]
struct Why {
    /// The fleet directory.
    #[arg(long, value_name = "DIRECTORY")]
    fleet: PathBuf,
    /// Where it was asked for, such as a ticket's number.
    #[arg(long, value_name = "TEXT")]
    ticket: String,
    /// Why.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Where to write it [default: KIND-ID.note here].
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Ask for a node to be cut off on every host: a note to sign.
///
/// People sign it with `bulkhead approve`, as many as the policy asks for; `bulkhead fleet post` has hosts find it. On
/// each of them nothing passes from or to the node then, as `bulkhead quarantine` does on one.
#[derive(Debug, clap::Args)]
pub struct Quarantine {
    /// A node's name, its WireGuard public key, or an address.
    #[arg(value_name = "NODE|KEY|ADDRESS")]
    subject: String,
    /// End it by itself after this time, such as 12h.
    #[arg(long = "for", value_name = "TIME", value_parser = duration::parse)]
    seconds: Option<u64>,
    #[command(flatten)]
    why: Why,
}

/// Ask for a quarantine of every host to be lifted: a note to sign.
///
/// As many people sign it as the quarantine. It lifts that one alone.
#[derive(Debug, clap::Args)]
pub struct Release {
    /// The quarantine's id, or how it begins; or whom it cuts off.
    #[arg(value_name = "ID|NODE")]
    subject: String,
    #[command(flatten)]
    why: Why,
}

/// Ask for a grant to be revoked on every host: a note to sign.
///
/// One of the approvers signs it.
#[derive(Debug, clap::Args)]
pub struct Revoke {
    /// The id of a grant that is posted, or how it begins; or a grant's file.
    #[arg(value_name = "ID|FILE")]
    grant: String,
    #[command(flatten)]
    why: Why,
}

impl Why {
    fn write(
        &self,
        (kind, id, subject): (OrderKind, String, String),
        until: Option<i64>,
        global: &Global,
    ) -> anyhow::Result<Answer> {
        let (ticket, reason) = (self.ticket.clone(), self.reason.clone());
        let order = Order { kind, id, subject, from: now(), until, ticket, reason };
        let text = order.text().map_err(|error| Usage(error.to_string()))?;
        let named = || format!("{}-{}.note", kind.name(), &order.id[..8]).into();
        let path = self.output.clone().unwrap_or_else(named);
        grants::write(&path, &Note::new(text.clone()))?;
        if global.json {
            println!("{}", serde_json::json!({ "id": order.id, "file": path, "text": text }));
        } else {
            print!("{text}");
            let path = path.display();
            println!(
                "written to {path}: whoever may sign it runs `bulkhead approve` on it, then `bulkhead fleet post {path}`"
            );
        }
        Ok(Answer::Yes)
    }

    /// The one posted note that is meant. It must count: whoever can write in the directory has no say in what is ended.
    fn one(
        &self,
        meant: impl Fn(&Statement) -> bool,
        (what, given): (&str, &str),
        global: &Global,
    ) -> Result<Statement, Usage> {
        let mut found = posted(&self.fleet)?;
        found.retain(|posted| meant(&posted.says));
        let place = self.fleet.display();
        match (found.pop(), found.len()) {
            (Some(one), 0) => verify(&one, &self.fleet, global).map(|()| one.says),
            (Some(_), more) => Err(Usage(format!(
                "{} of the {what}s in {place} are '{given}': give the id of one, of `bulkhead fleet notes {place}`",
                more + 1
            ))),
            (None, _) => Err(Usage(format!(
                "no {what} in {place} is '{given}'; `bulkhead fleet notes {place}` lists what is posted"
            ))),
        }
    }
}

impl Quarantine {
    pub fn run(&self, global: &Global) -> anyhow::Result<Answer> {
        let bundle = Tree::new(&self.why.fleet).bundle(Repository::Inventory).map_err(wrong)?;
        let (_, text) = bundle.ok_or_else(|| Usage("no inventory is published yet".to_owned()))?;
        let mut findings = Findings::default();
        let inventory = inventory::parse(&Source::new("the published inventory", &text), &mut findings)
            .ok_or_else(|| Usage(format!("the published inventory cannot be read: {findings}")))?;
        let found = find(&self.subject, &inventory, ("", &BTreeSet::new())).map_err(Usage)?;
        eprintln!("cuts off {}", found.title());
        let until = self.seconds.map(|seconds| now().saturating_add_unsigned(seconds));
        let id = new_id_of(&fleet(&self.why.fleet)?).map_err(|error| Usage(error.to_string()))?;
        self.why.write((OrderKind::Quarantine, id, self.subject.clone()), until, global)
    }
}

impl Release {
    pub fn run(&self, global: &Global) -> anyhow::Result<Answer> {
        let meant = |says: &Statement| match says {
            Statement::Order(Order { kind: OrderKind::Quarantine, id, subject, .. }) => {
                *subject == self.subject || is_begun(id, &self.subject)
            }
            _ => false,
        };
        let Statement::Order(order) = self.why.one(meant, ("quarantine", &self.subject), global)? else {
            return Ok(Answer::No);
        };
        self.why.write((OrderKind::Release, order.id, order.subject), order.until, global)
    }
}

impl Revoke {
    pub fn run(&self, global: &Global) -> anyhow::Result<Answer> {
        let path = Path::new(&self.grant);
        let grant = if path.is_file() {
            let note = grants::parse(path, &grants::read(path)?)?;
            Grant::parse(note.text()).map_err(|error| Usage(format!("{}: {error}", path.display())))?
        } else {
            let meant = |says: &Statement| matches!(says, Statement::Grant(grant) if is_begun(&grant.id, &self.grant));
            match self.why.one(meant, ("grant", &self.grant), global)? {
                Statement::Grant(grant) => grant,
                Statement::Order(_) => return Ok(Answer::No),
            }
        };
        let what = format!("{} to {}/{}", grant.source, grant.destination, grant.protocol);
        self.why.write((OrderKind::Revocation, grant.id, what), Some(grant.window.until), global)
    }
}

/// Whether an id is meant by how it begins.
fn is_begun(id: &str, begin: &str) -> bool {
    begin.len() >= 6 && id.starts_with(begin)
}
