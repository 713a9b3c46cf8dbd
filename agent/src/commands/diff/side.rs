//! One side of a comparison: a policy over an inventory, and what passes on one node's interfaces by its agent's
//! configuration.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use bulkhead_policy::check::{Loaded, Scope};
use bulkhead_policy::diff::{Difference, Side, TooLarge, diff};
use bulkhead_policy::inventory::Inventory;
use bulkhead_policy::resolve::Ruleset;

use crate::commands::network;
use crate::config::{Config, Role};
use crate::exit::Usage;
use crate::global::Global;
use crate::{diagnostics, input};

/// Where the kernel alone knows which addresses the node has beneath the overlay, these stand for them: in no
/// prefix that anybody names but that of everybody (RFC 919 section 7, RFC 6666).
const STAND_INS: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::BROADCAST), IpAddr::V6(Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 1))];

/// Rules over who exists.
type Rules = (Ruleset, Inventory);

/// One side.
pub struct Node {
    overlay: Rules,
    /// Rules of interfaces of other roles, as far as the node has such.
    exchange: Option<Rules>,
    underlay: Option<Rules>,
}

impl Node {
    /// Reads one; `None` if there is an error in it, which has been printed then. What is to be enforced must hold its
    /// tests and proofs; what is fixed by it need not.
    pub fn load(
        (policy, inventory): (&Path, Option<&Path>),
        config: Option<&Config>,
        global: &Global,
        is_new: bool,
    ) -> Result<Option<Self>, Usage> {
        let has_exchange = config.is_some_and(Config::has_exchange);
        let name = config.and_then(|config| config.node.as_deref());
        let mut scope = Scope { dialect: global.dialect, has_exchange, ..Scope::default() };
        if let Some(config) = config {
            scope.exemptions = config.exemptions(name.unwrap_or_default());
        }
        let mut loaded = input::load_for(policy, inventory, &scope)?;
        if let (Some(config), Some(who), false) = (config, &loaded.inventory, loaded.findings.has_errors()) {
            let node = name.and_then(|name| who.node(name)).ok_or_else(|| {
                let name = name.unwrap_or_default();
                Usage(format!("the inventory has no node '{name}'; name one as `node` in each configuration"))
            })?;
            if let Some(underlay) = &mut scope.exemptions.underlay {
                underlay.addresses = network::addresses(config);
                let known = node.underlay.iter().chain(&underlay.addresses);
                let missing =
                    |stand_in: &IpAddr| known.clone().all(|address| address.is_ipv4() != stand_in.is_ipv4());
                let stand_ins: Vec<IpAddr> = STAND_INS.into_iter().filter(missing).collect();
                underlay.addresses.extend(stand_ins);
                loaded = Loaded::over(input::read(policy)?, who, &scope);
            }
        }
        if is_new {
            loaded.check(input::now());
        }
        let Loaded { ruleset, inventory, exchange, underlay, findings, sources, .. } = loaded;
        let (Some(ruleset), Some(inventory), false) = (ruleset, inventory, findings.has_errors()) else {
            diagnostics::print(&findings, &sources, global.json);
            return Ok(None);
        };
        let exchange = exchange.filter(|_| has_exchange).map(|rules| (rules, inventory.clone()));
        let underlay = underlay.map(|rules| (rules.ruleset, rules.inventory));
        Ok(Some(Self { overlay: (ruleset, inventory), exchange, underlay }))
    }

    /// The rules of the policy.
    pub fn ruleset(&self) -> &Ruleset {
        &self.overlay.0
    }

    fn of(&self, role: Role) -> Option<&Rules> {
        match role {
            Role::Overlay => Some(&self.overlay),
            Role::Exchange => self.exchange.as_ref(),
            Role::Underlay => self.underlay.as_ref(),
            Role::Local => None,
        }
    }
}

/// The flows that are added and removed, by the role of the interfaces that they pass.
pub fn differences(old: &Node, new: &Node) -> Result<Vec<(Role, Difference)>, TooLarge> {
    let now = input::now();
    let mut all = Vec::new();
    for role in [Role::Overlay, Role::Exchange, Role::Underlay] {
        let (old, new) = (old.of(role), new.of(role));
        // Without such an interface nothing passes there.
        let none = |(ruleset, inventory): &Rules| {
            (Ruleset { rules: Vec::new(), ..ruleset.clone() }, inventory.clone())
        };
        let (no_old, no_new) = (new.map(none), old.map(none));
        if let (Some(old), Some(new)) = (old.or(no_old.as_ref()), new.or(no_new.as_ref())) {
            let side = |(ruleset, inventory)| Side { ruleset, inventory };
            let (old, new) = (side((&old.0, &old.1)), side((&new.0, &new.1)));
            all.push((role, diff(old, new, now)?));
        }
    }
    Ok(all)
}
