//! Managed interfaces closed before there is an agent: after a boot, until it enforces.

use std::collections::{BTreeMap, BTreeSet};

use bulkhead_policy::diagnostic::Findings;
use bulkhead_policy::inventory::{self, Inventory};

use crate::config::{Config, Mode};
use crate::daemon::state::generation::ZONES;
use crate::daemon::store::Store;
use crate::guard::{self, Guard};
use crate::paths::Paths;

/// What became of it.
#[derive(Debug, PartialEq, Eq)]
pub enum Closed {
    /// These names are closed until the agent enforces there.
    Names(BTreeSet<String>),
    /// A guard is there, and stays as it is.
    Already,
    /// Nothing is closed; why.
    Nothing(&'static str),
}

/// Puts the guard in place for what the last agent enforced, with every managed interface closed. Where nothing was
/// enforced nobody is locked out.
///
/// Without a configuration that can be read, the interfaces are those of the last agent: a host that was
/// protected is not open because of what has become of a file.
///
/// # Errors
/// If the state cannot be read, or nftables refuses.
pub fn close(instance: &str, paths: &Paths, config: Option<&Config>) -> anyhow::Result<Closed> {
    if config.is_some_and(|config| !config.guard) {
        return Ok(Closed::Nothing("agent.toml has `guard = false`"));
    }
    let store = Store::new(&paths.state);
    let ledger = store.ledger()?;
    if ledger.enforced == 0 || ledger.goes_back_to_nothing() {
        return Ok(Closed::Nothing("nothing was enforced before"));
    }
    let kept = store.inputs_of(ledger.enforced);
    if kept.as_ref().is_some_and(|(_, made)| made.mode == Mode::Audit) {
        return Ok(Closed::Nothing("the policy is in audit mode"));
    }
    if guard::is_there(instance) {
        return Ok(Closed::Already);
    }
    let zones: BTreeMap<String, u16> = store.load(ZONES)?.unwrap_or_default();
    let configured = config.into_iter().flat_map(|config| &config.interfaces);
    let managed: BTreeSet<String> =
        zones.into_keys().chain(configured.map(|managed| managed.name.clone())).collect();
    let inventory = kept.and_then(|(files, _)| inventory::parse(&files.inventory, &mut Findings::default()));
    let node = config.and_then(|config| config.node.as_deref());
    guard_of(managed.clone(), inventory.as_ref(), node).install(instance)?;
    Ok(Closed::Names(managed))
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
