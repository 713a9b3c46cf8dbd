//! What comes of one note on this host.

use std::collections::BTreeSet;

use anyhow::Context as _;
use bulkhead_api::event::{Action, Actor, Outcome};
use bulkhead_api::grant::Request as Handed;
use bulkhead_api::quarantine::{FleetOrder, Request};
use bulkhead_fleet::{digest, fleet_of};
use bulkhead_grants::{Error, Grant, Note, Order, OrderKind, Statement, is_of};
use bulkhead_policy::Dialect;
use bulkhead_policy::diagnostic::Findings;
use bulkhead_policy::inventory::{self, Inventory};
use bulkhead_policy::policy::compose::without;
use bulkhead_policy::policy::{self, Policy};
use bulkhead_policy::resolve::grantable::{Wanted, is_end};

use super::verify::signers;
use crate::daemon::clock::wall_time;
use crate::daemon::enforcement::kept;
use crate::daemon::events::control::{Change, generation};
use crate::daemon::quarantine::apply::{quarantine_by_order, release_order};
use crate::daemon::state::{Enforcer, held};
use crate::daemon::{files, grants};

/// A host is early by so much at most, in seconds.
const CLOCKS: i64 = 60;

/// What came of a note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Came {
    /// It was done, or ended by another: there is nothing left to do.
    Settled,
    /// It is about nobody here, by the policy and inventory in force.
    Elsewhere,
    /// It is over since then, in seconds since 1970.
    Over(Option<i64>),
    /// Its time has not come: this is when, in seconds since 1970.
    Waits(i64),
    /// It does not hold by the policy and inventory in force, and why.
    Refused(String),
    /// The system has refused; it is tried again.
    Failed(String),
}

/// How a note is done.
#[derive(Clone, Copy, Debug)]
pub(super) struct How {
    /// What was done is told of here, as nobody has asked who is told.
    pub(super) tells: bool,
    /// It is done once more.
    pub(super) again: bool,
}

/// By what notes are judged.
pub(super) struct Under {
    policy: Policy,
    inventory: Inventory,
    dialect: Dialect,
    /// The fleet's identifier.
    fleet: String,
}

/// What is enforced, but for grants: while it is the same, what was refused is refused.
pub(super) fn key(files: &files::Files) -> String {
    let policy = without(&files.policy);
    let policy = policy.as_ref().map_or(files.policy.text(), |policy| policy.text());
    digest(format!("{}{}", digest(policy.as_bytes()), digest(files.inventory.text().as_bytes())).as_bytes())
}

/// The files that are enforced.
pub(super) fn enforced(enforcer: &Enforcer) -> anyhow::Result<files::Files> {
    let number = enforcer.live().ledger.enforced;
    kept::files(enforcer, number).map(|(files, _)| files)
}

impl Under {
    /// Reads what is enforced.
    pub(super) fn of(enforcer: &Enforcer, files: &files::Files) -> anyhow::Result<Self> {
        let dialect = enforcer.setup.options.dialect;
        let settings = enforcer.setup.config.fleet.as_ref().context("agent.toml has no [fleet]")?;
        let root = std::fs::read(&settings.policy_root)
            .with_context(|| settings.policy_root.display().to_string())?;
        let fleet = fleet_of(&root).map_err(anyhow::Error::msg)?;
        let mut findings = Findings::default();
        let policy = policy::parse(&files.policy, dialect, &mut findings);
        let inventory = inventory::parse(&files.inventory, &mut findings);
        match (policy, inventory) {
            (Some(policy), Some(inventory)) => Ok(Self { policy, inventory, dialect, fleet }),
            _ => anyhow::bail!("what is enforced cannot be read any more: apply it again"),
        }
    }
}

/// The rank of notes that cut somebody off.
pub(super) const CUTS_OFF: u8 = 1;

/// The grant that a note revokes, as it is told of.
pub(super) fn revoked(text: &str) -> Option<String> {
    let statement = Note::parse(text.as_bytes()).and_then(|note| Statement::parse(note.text()));
    let Ok(Statement::Order(order)) = statement else { return None };
    (order.kind == OrderKind::Revocation).then(|| format!("grant {}", order.id))
}

/// What comes first: what ends something, so that what is over does not begin; then who is cut off; then grants.
pub(super) fn rank(text: &str) -> u8 {
    let statement = Note::parse(text.as_bytes()).and_then(|note| Statement::parse(note.text()));
    match statement {
        Ok(Statement::Order(order)) => match order.kind {
            OrderKind::Release | OrderKind::Revocation => 0,
            OrderKind::Quarantine => CUTS_OFF,
        },
        Ok(Statement::Grant(_)) => 2,
        Err(_) => 3,
    }
}

/// What a note is called where it is told of: its kind and id, or the beginning of its digest.
pub(super) fn name(text: &str) -> String {
    let statement = Note::parse(text.as_bytes()).and_then(|note| Statement::parse(note.text()));
    match statement {
        Ok(statement) => format!("{} {}", statement.kind(), statement.id()),
        Err(_) => format!("note {}…", &digest(text.as_bytes())[..12]),
    }
}

/// Verifies a note, and does what it says.
pub(super) fn act(enforcer: &Enforcer, text: &str, under: &Under, how: How) -> Came {
    let read = Note::parse(text.as_bytes()).and_then(|note| Ok((Statement::parse(note.text())?, note)));
    let (statement, note) = match read {
        Ok(read) => read,
        Err(error) => return Came::Refused(error.to_string()),
    };
    let now = (enforcer.setup.options.grants.known(wall_time()) / 1_000_000_000).cast_signed();
    match statement.check_time(now) {
        Ok(()) => {}
        Err(Error::Early { .. }) => return Came::Waits(statement.from() - CLOCKS),
        // It is passed over, whoever has signed it; a clock may be ahead.
        Err(_) => return Came::Over(statement.until()),
    }
    if !is_of(statement.id(), &under.fleet) {
        let why = "it is of another fleet: its id does not begin as this fleet's do";
        return Came::Refused(why.to_owned());
    }
    match statement {
        Statement::Grant(grant) => self::grant(enforcer, text, &grant, (under, how)),
        Statement::Order(order) => match signers(&note, &order, &under.policy) {
            Ok(signers) => {
                let teller = Teller { enforcer, signers, how };
                self::order(&teller, &order, under)
            }
            Err(why) => Came::Refused(why),
        },
    }
}

fn grant(enforcer: &Enforcer, text: &str, grant: &Grant, (under, how): (&Under, How)) -> Came {
    if grants::is_known(enforcer, &grant.id) {
        return Came::Settled;
    }
    let wanted = Wanted {
        source: &grant.source,
        destination: &grant.destination,
        protocol: &grant.protocol,
        seconds: grant.seconds(),
        break_glass: grant.break_glass,
    };
    // Whoever is neither end has no rule to make of it. What is wrong with it is said by whoever takes it.
    let node = &enforcer.setup.options.node;
    let is_end = is_end(&under.policy, &under.inventory, under.dialect, wanted, node);
    if is_end.is_ok_and(|is_end| !is_end) {
        return Came::Elsewhere;
    }
    let before = generation(enforcer);
    let answer = match grants::grant(enforcer, &Handed { note: text.to_owned() }) {
        Ok(answer) => answer,
        Err(error) => return Came::Failed(format!("{error:#}")),
    };
    let Some(entry) = answer.grant.filter(|_| answer.done) else {
        let why = answer.notes.join("; ");
        // There is room once another ends.
        return if grants::is_full(enforcer) { Came::Failed(why) } else { Came::Refused(why) };
    };
    let action = if grant.break_glass { Action::BreakGlass } else { Action::Grant };
    let teller = Teller { enforcer, signers: entry.approvers.clone(), how };
    teller.tell((action, before), grant.id.clone(), entry.words());
    Came::Settled
}

fn order(teller: &Teller<'_>, order: &Order, under: &Under) -> Came {
    let done = match order.kind {
        OrderKind::Revocation => revoke(teller, order),
        OrderKind::Quarantine => quarantine(teller, order, under),
        OrderKind::Release => release(teller, order),
    };
    done.unwrap_or_else(|error| Came::Failed(format!("{error:#}")))
}

fn revoke(teller: &Teller<'_>, order: &Order) -> anyhow::Result<Came> {
    let enforcer = teller.enforcer;
    if grants::is_over(enforcer, &order.id) {
        return Ok(Came::Settled);
    }
    let before = generation(enforcer);
    let until = order.until.unwrap_or(i64::MAX);
    let answer = grants::revoke_by_order(enforcer, &order.id, until, &order.reason)?;
    // There is room once another is over.
    if !answer.done {
        return Ok(Came::Failed(answer.notes.join("; ")));
    }
    // Of one that has not come here there is nothing to tell.
    if answer.grant.is_some() {
        teller.tell((Action::Revoke, before), order.id.clone(), order.words());
    }
    Ok(Came::Settled)
}

fn quarantine(teller: &Teller<'_>, order: &Order, under: &Under) -> anyhow::Result<Came> {
    let enforcer = teller.enforcer;
    if held(&enforcer.setup.fleet.lifted).has(order) {
        return Ok(Came::Settled);
    }
    let is_here = |of: &FleetOrder| of.id == order.id;
    // One that the system has refused is in the list, and may not be in the tables.
    if !teller.how.again
        && enforcer.live().quarantined.0.iter().filter_map(|entry| entry.fleet.as_ref()).any(is_here)
    {
        return Ok(Came::Settled);
    }
    let known = crate::daemon::quarantine::list::find(
        &order.subject,
        &under.inventory,
        (&enforcer.setup.options.node, &BTreeSet::new()),
    );
    if known.is_err() {
        return Ok(Came::Elsewhere);
    }
    let by =
        FleetOrder { id: order.id.clone(), ticket: order.ticket.clone(), signers: teller.signers.clone() };
    let nanoseconds = |until: i64| u64::try_from(until).unwrap_or(0).saturating_mul(1_000_000_000);
    let request =
        Request { subject: order.subject.clone(), seconds: None, reason: Some(order.reason.clone()) };
    let before = generation(enforcer);
    let answer = quarantine_by_order(enforcer, &request, (&by, order.until.map(nanoseconds)))?;
    if !answer.done {
        return Ok(Came::Refused(answer.notes.join("; ")));
    }
    answer.notes.iter().for_each(|note| tracing::warn!(id = order.id, "{note}"));
    teller.tell((Action::Quarantine, before), order.subject.clone(), detail(order));
    Ok(Came::Settled)
}

fn release(teller: &Teller<'_>, order: &Order) -> anyhow::Result<Came> {
    let enforcer = teller.enforcer;
    let before = generation(enforcer);
    // What people have read is whom it names: another's quarantine under that id is none of it.
    let running = enforcer.live().quarantined.of_order(&order.id).cloned();
    if let Some(running) = running {
        let until = running.until.map(|until| (until / 1_000_000_000).cast_signed());
        if running.subject != order.subject || !order.outlasts(until) {
            let (id, subject) = (&order.id, &order.subject);
            return Ok(Came::Refused(format!("{id} is no quarantine of {subject} that ends by then")));
        }
    }
    // On disk first: a start after the one and before the other must not let it come back.
    let kept = {
        let mut lifted = held(&enforcer.setup.fleet.lifted);
        let is_new = lifted.add(order);
        let now = (wall_time() / 1_000_000_000).cast_signed();
        lifted.forget(now, enforcer.setup.options.grants.is_in_time());
        is_new.then(|| lifted.clone())
    };
    let saved = kept.map_or(Ok(()), |kept| kept.save(&enforcer.store));
    let answer = release_order(enforcer, &order.id)?;
    if answer.done {
        answer.notes.iter().for_each(|note| tracing::warn!(id = order.id, "{note}"));
        teller.tell((Action::Release, before), order.subject.clone(), detail(order));
    }
    // What is not remembered on disk is tried again.
    saved.inspect_err(|_| held(&enforcer.setup.fleet.lifted).drop_one(&order.id))?;
    Ok(Came::Settled)
}

fn detail(order: &Order) -> String {
    format!("{} {}", order.id, order.words())
}

/// Who asks for what a note says.
pub(super) fn actor() -> Actor {
    Actor::Fleet { name: "notes".to_owned() }
}

/// Puts what was done on record.
struct Teller<'e> {
    enforcer: &'e Enforcer,
    signers: Vec<String>,
    how: How,
}

impl Teller<'_> {
    fn tell(&self, (action, before): (Action, u32), subject: String, detail: String) {
        if !self.how.tells {
            return;
        }
        let (subject, detail, signers) = (Some(subject), Some(detail), self.signers.clone());
        Change { action, by: actor(), before, outcome: Outcome::Done, subject, detail, signers }
            .tell(self.enforcer);
    }
}

/// What a refused note was to do.
pub(super) fn action(text: &str) -> Action {
    let statement = Note::parse(text.as_bytes()).and_then(|note| Statement::parse(note.text()));
    match statement {
        Ok(Statement::Order(order)) => match order.kind {
            OrderKind::Revocation => Action::Revoke,
            OrderKind::Quarantine => Action::Quarantine,
            OrderKind::Release => Action::Release,
        },
        Ok(Statement::Grant(grant)) if grant.break_glass => Action::BreakGlass,
        Ok(Statement::Grant(_)) | Err(_) => Action::Grant,
    }
}
