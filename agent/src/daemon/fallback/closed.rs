//! Managed interfaces closed before there is an agent: after a boot, until it enforces.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use bulkhead_dataplane::Dataplane;
use bulkhead_policy::diagnostic::Findings;
use bulkhead_policy::inventory::{self, Inventory};

use crate::config::{Config, Mode};
use crate::daemon::setup::Setup;
use crate::daemon::state::generation::ZONES;
use crate::daemon::store::{Ledger, Store};
use crate::guard::{Fallback, Guard};
use crate::paths::Paths;

/// What became of it.
#[derive(Debug, PartialEq, Eq)]
pub enum Closed {
    /// These names are closed until the agent enforces there.
    Names(BTreeSet<String>),
    /// The same, since it is not known what was enforced: why, and what to do.
    Unread(BTreeSet<String>, String),
    /// A guard is there, and stays as it is.
    Already,
    /// Nothing is closed; why.
    Nothing(&'static str),
}

/// Puts the guard in place for what the last agent enforced, with every managed interface closed. Where nothing was
/// enforced nobody is locked out; where that cannot be known, all are.
///
/// Without a configuration that can be read, the interfaces are those of the last agent: a host that was
/// protected is not open because of what has become of a file.
///
/// # Errors
/// If nothing says which interfaces are managed, or nftables refuses.
pub fn close(
    fallback: &dyn Fallback,
    instance: &str,
    paths: &Paths,
    config: Option<&Config>,
) -> anyhow::Result<Closed> {
    if config.is_some_and(|config| !config.guard) {
        return Ok(Closed::Nothing("agent.toml has `guard = false`"));
    }
    let store = Store::new(&paths.state);
    let ledger = match last(&store) {
        Ok(ledger) => ledger,
        Err(error) if fallback.is_there(instance) => {
            return Err(error.context("the guard is there already, and stays as it is"));
        }
        Err(error) => {
            let names = close_all(fallback, instance, &store, (config, None))?;
            return Ok(Closed::Unread(names, format!("{error:#}")));
        }
    };
    if ledger.enforced == 0 || ledger.goes_back_to_nothing() {
        return Ok(Closed::Nothing("nothing was enforced before"));
    }
    let kept = store.inputs_of(ledger.enforced);
    if kept.as_ref().is_some_and(|(_, made)| made.mode == Mode::Audit) {
        return Ok(Closed::Nothing("the policy is in audit mode"));
    }
    if fallback.is_there(instance) {
        return Ok(Closed::Already);
    }
    let inventory = kept.and_then(|(files, _)| inventory::parse(&files.inventory, &mut Findings::default()));
    close_all(fallback, instance, &store, (config, inventory.as_ref())).map(Closed::Names)
}

/// What the last agent enforced.
///
/// # Errors
/// If that cannot be known.
fn last(store: &Store) -> anyhow::Result<Ledger> {
    let ledger = store.ledger()?;
    // An agent notes its zones once it enforces.
    anyhow::ensure!(
        ledger != Ledger::default() || store.has_ledger() || !store.has(ZONES),
        "the record of what is enforced is gone from the state directory; put it back, or start the agent, which \
         enforces what `run` names"
    );
    Ok(ledger)
}

/// Closes every interface that the last agent or the configuration names.
fn close_all(
    fallback: &dyn Fallback,
    instance: &str,
    store: &Store,
    (config, inventory): (Option<&Config>, Option<&Inventory>),
) -> anyhow::Result<BTreeSet<String>> {
    let zones: anyhow::Result<Option<BTreeMap<String, u16>>> = store.load(ZONES);
    let (zones, unread) = match zones {
        Ok(zones) => (zones.unwrap_or_default(), None),
        Err(error) => (BTreeMap::new(), Some(error)),
    };
    let configured = config.into_iter().flat_map(|config| &config.interfaces);
    let managed: BTreeSet<String> =
        zones.into_keys().chain(configured.map(|managed| managed.name.clone())).collect();
    match (managed.is_empty(), unread) {
        (true, error) => {
            let error = error.unwrap_or_else(|| anyhow::anyhow!("no file names a managed interface"));
            return Err(error.context("managed interfaces are OPEN: which ones are managed is not known"));
        }
        (false, Some(error)) => eprintln!("bulkhead: {error:#}; closing what agent.toml names"),
        (false, None) => {}
    }
    let node = config.and_then(|config| config.node.as_deref());
    fallback
        .install(&guard_of(managed.clone(), inventory, node), instance)
        .context("managed interfaces are OPEN: the guard is not in place")?;
    Ok(managed)
}

/// What a start says that cannot know what was enforced: that nothing passes meanwhile, or why anything does.
pub fn instead_of_enforcing(plane: &impl Dataplane, setup: &Setup, why: anyhow::Error) -> anyhow::Error {
    match plane.running(&setup.paths.pins) {
        Ok(links) if links.iter().any(|link| link.index != 0) => {
            return why
                .context("the agent does not start; what is enforced stays enforced, and nobody watches it");
        }
        Ok(_) => {}
        Err(error) => tracing::error!("{error}; closing managed interfaces"),
    }
    if !setup.config.guard {
        return why.context("the agent does not start, and nothing is enforced: the guard is turned off");
    }
    let store = Store::new(&setup.paths.state);
    match close_all(&*setup.fallback, &setup.instance, &store, (Some(&setup.config), None)) {
        Ok(names) => {
            let names: Vec<_> = names.into_iter().collect();
            why.context(format!(
                "the agent does not start, and the guard closes every managed interface until it does: {}",
                names.join(", ")
            ))
        }
        Err(error) => why.context(format!("the agent does not start, and {error:#}")),
    }
}

/// The guard that lets nothing pass on managed interfaces. Whose overlay addresses are whose is not known without the
/// node's name: then they are not guarded on other interfaces.
fn guard_of(managed: BTreeSet<String>, inventory: Option<&Inventory>, node: Option<&str>) -> Guard {
    let known = inventory.zip(node).map(|(inventory, node)| Guard::of_node(&inventory.nodes, node));
    Guard { managed, ..known.unwrap_or_default() }
}

#[cfg(test)]
mod tests {
    use bulkhead_policy::source::Source;

    use super::{Findings, guard_of, inventory};

    #[test]
    fn it_knows_the_nodes_own_addresses_from_the_others() {
        let text = r#"{"nodes": [{"name": "a", "addresses": ["100.64.0.1"]}, {"name": "b", "addresses": ["100.64.0.2"]}]}"#;
        let inventory = inventory::parse(&Source::new("i", text), &mut Findings::default()).unwrap();
        let guard = guard_of(["wg0".to_owned()].into(), Some(&inventory), Some("a"));
        assert_eq!(guard.own, ["100.64.0.1".parse().unwrap()].into());
        assert_eq!(guard.others, ["100.64.0.2".parse().unwrap()].into());
        assert!(guard.attached.is_empty(), "nothing passes");
        let unknown = guard_of(["wg0".to_owned()].into(), Some(&inventory), None);
        assert!(unknown.own.is_empty() && unknown.others.is_empty() && unknown.managed.contains("wg0"));
    }
}
