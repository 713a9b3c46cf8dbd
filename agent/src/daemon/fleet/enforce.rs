//! One policy and one inventory of the fleet, put in force until the host's own check has found them good.

use bulkhead_api::event::{Action, Actor, Outcome};
use bulkhead_dataplane::Dataplane;
use bulkhead_policy::diagnostic::Findings;
use bulkhead_policy::source::Source;
use bulkhead_policy::{enroller, inventory, policy};

use super::Bundles;
use crate::daemon::clock::wall_time;
use crate::daemon::enforcement::{change, kept, origin};
use crate::daemon::events::control::{Change, generation};
use crate::daemon::files::{Asker, Files};
use crate::daemon::grants;
use crate::daemon::state::Enforcer;
use crate::daemon::state::inputs::{CompileOptions, Inputs};
use crate::daemon::store::Pending;
use crate::daemon::store::unsaved::Disk;
use crate::daemon::trust::{self, Signed};

/// What there is to enforce.
pub(super) struct Offer {
    /// Which bundles.
    pub bundles: Bundles,
    /// Their texts.
    pub policy: String,
    /// The inventory's.
    pub inventory: String,
    /// The inventory was good on this host before.
    pub is_known: bool,
    /// Who has signed the policy.
    pub signers: Vec<String>,
}

/// What came of it.
pub(super) enum Came {
    /// It is enforced, until it is confirmed or given up.
    Enforced(u32),
    /// It does not hold on this host.
    Unfit(String),
}

/// Who asks on behalf of the fleet.
pub(super) fn asker(bundles: &Bundles) -> Asker {
    Asker { by: Actor::Fleet { name: bundles.name() }, session: None }
}

/// The files of bundles.
pub(super) fn files(bundles: &Bundles, policy: &str, inventory: &str) -> Files {
    let named =
        |what: &str, version: u64, text: &str| Source::new(&format!("fleet/{what} version {version}"), text);
    Files::new(
        named("policy", bundles.policy.version, policy),
        named("inventory", bundles.inventory.version, inventory),
    )
}

/// Enforces it for so many seconds; without a confirmation what was enforced before returns by itself. None: for good, which
/// is for what is enforced already under another version.
///
/// # Errors
/// If the system refuses; nothing has changed then.
pub(super) fn enforce<D: Dataplane>(
    enforcer: &Enforcer<D>,
    offer: &Offer,
    seconds: Option<u64>,
) -> anyhow::Result<Came> {
    let _one = enforcer.one_change();
    let bundles = &offer.bundles;
    kept::promise_return(enforcer, seconds)?;
    let files = files(bundles, &offer.policy, &offer.inventory);
    if let Err(error) = grants::refuse_section(&files) {
        return Ok(Came::Unfit(error.0));
    }
    let (files, left_out) = match bounded(files, &enforcer.setup.options, offer.is_known) {
        Ok(bounded) => bounded,
        Err(why) => return Ok(Came::Unfit(why)),
    };
    let (before, mode) = (enforcer.live().built.mode, enforcer.setup.config.mode);
    let signed =
        Signed { signers: offer.signers.clone(), audit: false, fleet: Some(bundles.clone()), aside: None };
    if let Err(error) = trust::check_mode(&enforcer.setup.config, &signed, before, mode) {
        return Ok(Came::Unfit(error.0));
    }
    let files = enforcer.setup.sources.add_to(files);
    let mut inputs = match Inputs::check(files, mode, &enforcer.setup.options, wall_time()) {
        Ok(inputs) => inputs,
        Err(refused) => return Ok(Came::Unfit(refused.text())),
    };
    inputs.signed = signed;
    if !left_out.is_empty() {
        tracing::error!("{LEFT_OUT}: {}", left_out.join(", "));
        inputs.problems.push(format!("{LEFT_OUT}: {}", some(&left_out)));
    }
    let asker = asker(bundles);
    origin::note(enforcer, &mut inputs, Action::Apply, &asker);
    let staged = enforcer.live().ledger.staged;
    let number = generation(enforcer);
    let applied = change::change(enforcer, Disk::First, inputs, staged, |ledger, _, is_same| {
        Ok(ledger.succeeded(Pending::within(seconds), is_same))
    })?;
    tell(enforcer, bundles, (Action::Apply, Outcome::Done), number, None);
    Ok(Came::Enforced(applied.generation))
}

/// What is told of nodes of which the inventory says what the policy does not let the enroller say.
const LEFT_OUT: &str =
    "the policy does not let the enroller give what the inventory says of nodes, which are nobody's here";

/// The first names of many.
fn some(names: &[String]) -> String {
    let more = names.len().saturating_sub(10);
    let first = names.iter().take(10).cloned().collect::<Vec<_>>().join(", ");
    if more == 0 { first } else { format!("{first} and {more} more") }
}

/// Files without what the policy does not let the enroller say, and of which nodes that is. Neither keeps the other away: a
/// tag may be one that a newer policy lets the enroller give, which this host may not take yet or has given up, and a policy
/// may take one away. Files that cannot be read are told of by the compiler.
///
/// # Errors
/// What a new inventory may not say by any policy, or not of this host, which would be nobody then.
pub(super) fn bounded(
    files: Files,
    options: &CompileOptions,
    is_known: bool,
) -> Result<(Files, Vec<String>), String> {
    let mut findings = Findings::default();
    let policy = policy::parse(&files.policy, options.dialect, &mut findings);
    let inventory = inventory::parse(&files.inventory, &mut findings);
    let Some((policy, inventory)) = policy.zip(inventory) else { return Ok((files, Vec::new())) };
    let Some(found) = enroller::beyond(&policy, &inventory) else { return Ok((files, Vec::new())) };
    let never = enroller::beyond_any(&inventory);
    let (text, left_out) = enroller::within(&policy, &inventory, &options.node);
    if !is_known && (never.is_some() || left_out.contains(&options.node)) {
        return Err(never.unwrap_or(found).to_string());
    }
    let inventory = Source::new(files.inventory.name(), &text);
    Ok((Files { inventory, ..files }, left_out))
}

/// Puts what came of bundles on record.
pub(super) fn tell<D: Dataplane>(
    enforcer: &Enforcer<D>,
    bundles: &Bundles,
    (action, outcome): (Action, Outcome),
    before: u32,
    detail: Option<String>,
) {
    let by = asker(bundles).by;
    let subject = Some(bundles.name());
    Change { action, by, before, outcome, subject, detail, signers: Vec::new() }.tell(enforcer);
}
