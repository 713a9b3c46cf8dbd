//! What is enforced, by the files that the generation on the hooks was made from: with an agent or without.

use std::collections::BTreeMap;

use bulkhead_api::hook::{Fault, Hook, RunningLink};
use bulkhead_api::status::Status;
use bulkhead_policy::address::AddressSet;
use bulkhead_policy::check::Loaded;

use super::links::Interface;
use super::reach::{Enforced, Standing};
use crate::config::Mode;
use crate::daemon::read_back::record::{Built, BuiltInterface};
use crate::daemon::store::Store;
use crate::input;

/// What is enforced, and what it was built with; none while nothing is.
///
/// # Errors
/// If what was kept of it is gone or damaged.
pub fn read(store: &Store, status: &Status) -> anyhow::Result<Option<(Enforced, Built)>> {
    let number = store.ledger()?.enforced;
    if number == 0 || status.links.is_empty() {
        return Ok(None);
    }
    let kept = store.built_of(number)?.zip(store.inputs_of(number));
    let (built, (files, _)) = kept.ok_or_else(|| {
        anyhow::anyhow!(
            "what generation {number} was made from is gone or damaged; `bulkhead apply` enforces files that are known"
        )
    })?;
    let loaded = Loaded::new(files.policy, Some(files.inventory), &built.options().scope());
    let (Some(overlay), Some(inventory), false) =
        (loaded.ruleset, loaded.inventory, loaded.findings.has_errors())
    else {
        anyhow::bail!(
            "the files of generation {number} do not hold for this version; `bulkhead check` says why"
        );
    };
    let exchange = loaded.exchange.filter(|_| built.has_exchange);
    let underlay = loaded.underlay;
    let cut_off = status.quarantined.iter().flat_map(|quarantined| quarantined.entry.addresses.clone());
    let cut_off = AddressSet::from_addresses(cut_off);
    let node = built.node.clone();
    Ok(Some((Enforced { node, inventory, overlay, exchange, underlay, cut_off, now: input::now() }, built)))
}

/// What becomes of packets that come in by each interface.
pub(super) fn standings(
    interfaces: Vec<Interface>,
    status: &Status,
    built: Option<&Built>,
) -> Vec<(Interface, Standing)> {
    let known: BTreeMap<&str, &BuiltInterface> = built
        .into_iter()
        .flat_map(|built| &built.interfaces)
        .map(|interface| (interface.name.as_str(), interface))
        .collect();
    let standing = |interface: &Interface| {
        let ingress = |link: &&RunningLink| link.index == interface.index && link.hook != Hook::TcxEgress;
        let Some(link) = status.links.iter().find(ingress) else {
            // Under its name the guard lets nothing pass, but who knows what else took the programs away.
            let is_named = known.contains_key(interface.name.as_str());
            return if is_named {
                Standing::Open("no program is attached".to_owned())
            } else {
                Standing::Unmanaged
            };
        };
        match (&link.fault, known.get(link.interface.as_str())) {
            (Some(fault), _) if fault.is_open() => Standing::Open(fault.to_string()),
            (Some(Fault::NoDevice), _) => Standing::Open("no program is attached".to_owned()),
            _ if status.mode == Some(Mode::Audit) => Standing::Open("audit mode drops nothing".to_owned()),
            (_, Some(known)) => Standing::Judged(known.role, known.link.clone()),
            (_, None) => Standing::Open("what its program admits is not known".to_owned()),
        }
    };
    interfaces
        .into_iter()
        .map(|interface| {
            let standing = standing(&interface);
            (interface, standing)
        })
        .collect()
}
