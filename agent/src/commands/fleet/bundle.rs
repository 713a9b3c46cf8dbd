//! A policy and an inventory of a fleet, checked before anybody signs them.

use bulkhead_policy::Dialect;
use bulkhead_policy::check::{Loaded, Scope};
use bulkhead_policy::enroller;
use bulkhead_policy::source::Source;

use crate::diagnostics;
use crate::global::Global;
use crate::input;

/// Both together, with all that hosts would find wrong with them.
pub fn checked(policy: Source, inventory: Option<Source>, dialect: Dialect) -> Loaded {
    let scope = Scope { dialect, ..Scope::default() };
    let mut loaded = Loaded::new(policy, inventory, &scope);
    loaded.check(input::now());
    let given = loaded.policy.as_ref().zip(loaded.inventory.as_ref()).filter(|_| !loaded.is_placeholder);
    let beyond = given.and_then(|(policy, inventory)| enroller::beyond(policy, inventory));
    beyond.into_iter().for_each(|found| loaded.findings.push(found));
    loaded
}

/// Whether hosts would take both together; if not, why is printed.
pub fn holds(policy: Source, inventory: Option<Source>, global: &Global) -> bool {
    let loaded = checked(policy, inventory, global.dialect);
    let holds = !loaded.findings.has_errors();
    if !holds {
        diagnostics::print(&loaded.findings, &loaded.sources, global.json);
    }
    holds
}
