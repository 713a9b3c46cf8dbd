//! Postures → which devices a rule's sources are cut down to.

use std::collections::HashMap;

use super::directory::Directory;
use super::sets::Unresolved;
use crate::Dialect;
use crate::address::AddressSet;
use crate::frontend::policy::Policy;
use crate::frontend::policy::posture::{Assertion, Attributes};
use crate::frontend::source::Spanned;
use crate::suggest;

/// Index of a filter in its [`Postures`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct FilterId(usize);

/// Devices that meet any of some postures.
struct Filter {
    label: String,
    /// Their addresses.
    meet: AddressSet,
    /// The other devices' addresses.
    fail: AddressSet,
    assumed: bool,
}

/// The postures of a policy, and the filters made of them.
pub(super) struct Postures<'a> {
    assertions: HashMap<&'a str, &'a [Assertion]>,
    dialect: Dialect,
    filters: Vec<Filter>,
    known: HashMap<String, FilterId>,
}

impl<'a> Postures<'a> {
    pub(super) fn new(policy: &'a Policy, dialect: Dialect) -> Self {
        let postures = policy.postures.iter();
        let assertions =
            postures.map(|(name, assertions)| (name.value.as_str(), assertions.as_slice())).collect();
        Self { assertions, dialect, filters: Vec::new(), known: HashMap::new() }
    }

    /// What to say of a posture that the policy does not define.
    pub(super) fn unknown(&self, name: &str) -> Option<Unresolved> {
        (!self.assertions.contains_key(name)).then(|| Unresolved {
            message: format!("posture not found: \"{name}\""),
            help: suggest::did_you_mean(name, self.assertions.keys().copied())
                .or_else(|| Some("name what it asserts in postures".into())),
        })
    }

    /// Whether attributes meet any of the postures: all of its assertions.
    fn meets(&self, names: &[Spanned<String>], attributes: &Attributes) -> bool {
        let mut postures = names.iter().filter_map(|name| self.assertions.get(name.value.as_str()));
        postures.any(|assertions| assertions.iter().all(|assertion| assertion.holds(attributes)))
    }

    /// The filter for any of the postures named; none if none is. `assumed` stands in for the
    /// attributes of every device.
    pub(super) fn filter(
        &mut self,
        names: &[Spanned<String>],
        assumed: Option<&Attributes>,
        directory: &Directory<'_>,
    ) -> Option<FilterId> {
        if names.is_empty() || assumed.is_some_and(|attributes| self.meets(names, attributes)) {
            return None;
        }
        let list: Vec<&str> = names.iter().map(|name| name.value.as_str()).collect();
        let label = list.join(" or ");
        let key = if assumed.is_some() { format!("assumed not {label}") } else { label.clone() };
        if let Some(known) = self.known.get(&key) {
            return Some(*known);
        }
        let filter = Filter {
            label,
            meet: match assumed {
                Some(_) => AddressSet::default(),
                None => directory.devices(|node| self.meets(names, &node.posture)),
            },
            fail: directory.devices(|node| assumed.is_some() || !self.meets(names, &node.posture)),
            assumed: assumed.is_some(),
        };
        self.filters.push(filter);
        let id = FilterId(self.filters.len() - 1);
        self.known.insert(key, id);
        Some(id)
    }

    /// A source cut down by a filter. In our dialect an address that is no device's has no
    /// posture and goes; in Tailscale's it passes, as devices behind a subnet router do there.
    pub(super) fn narrow(&self, FilterId(filter): FilterId, set: &AddressSet) -> AddressSet {
        match self.dialect {
            Dialect::Bulkhead => set.intersection(&self.filters[filter].meet),
            Dialect::Tailscale => set.minus(&self.filters[filter].fail),
        }
    }

    pub(super) fn label(&self, FilterId(filter): FilterId) -> &str {
        &self.filters[filter].label
    }

    pub(super) fn is_assumed(&self, FilterId(filter): FilterId) -> bool {
        self.filters[filter].assumed
    }
}
