//! Who is meant by the numbers of tables.

use std::net::IpAddr;

use bulkhead_abi::{
    BLOCK_SLOTS, CELL_CLOSED, CELL_EXEMPT, CELL_ONE_WAY, CELL_TLS, CELL_TLS_POSTGRES, CELL_TLS_REQUIRED,
    Leaf, NO_RULE, Reason, from_ip, to_ip,
};
use bulkhead_engine::Judgement;
use bulkhead_engine::leaf_of;
use bulkhead_engine::memory::{Memory, Tables};

use super::Whose;
use super::addresses::blocks;

/// Names, by the tables as they should be.
pub(super) struct Names<'a> {
    whose: Whose<'a>,
    /// An address of each local class.
    locals: Vec<Option<IpAddr>>,
    /// Of each remote class.
    remotes: Vec<Option<IpAddr>>,
}

/// The leaf of an address as a packet meets it.
pub(super) fn leaf(memory: &Memory, address: IpAddr) -> Result<Leaf, Reason> {
    leaf_of(memory, if address.is_ipv4() { 4 } else { 6 }, &from_ip(address))
}

impl<'a> Names<'a> {
    pub(super) fn new(expected: &Memory, whose: &Whose<'a>) -> Self {
        let tables = expected.tables;
        let mut names = Self {
            whose: *whose,
            locals: vec![None; tables.locals as usize + 1],
            remotes: vec![None; tables.remotes as usize],
        };
        let nodes = [whose.node].into_iter().chain(&whose.inventory.nodes);
        for address in nodes.flat_map(|node| node.addresses_on(whose.network)) {
            names.learn(*address, leaf(expected, *address).unwrap_or_default());
        }
        names.learn_rest(tables);
        names
    }

    fn learn(&mut self, address: IpAddr, leaf: Leaf) {
        let places = [
            (leaf.local() != 0).then(|| self.locals.get_mut(leaf.local() as usize)).flatten(),
            (leaf.remote() != 0).then(|| self.remotes.get_mut(leaf.remote() as usize)).flatten(),
        ];
        places.into_iter().flatten().for_each(|place| *place = place.or(Some(address)));
    }

    /// Classes of addresses that no node has: routes, prefixes and hosts of the policy.
    fn learn_rest(&mut self, tables: &Tables) {
        let is_known = |places: &[Option<IpAddr>]| places.iter().skip(1).all(Option::is_some);
        if is_known(&self.locals) && is_known(&self.remotes) {
            return;
        }
        for (block, base, width) in blocks(&tables.trie) {
            for (slot, entry) in (0..BLOCK_SLOTS as u32).zip(tables.trie[block as usize]) {
                let other = entry.as_host_table().or(entry.is_leaf().then_some(entry));
                let address = std::net::Ipv4Addr::from_bits(base + (slot << width));
                other.into_iter().for_each(|leaf| self.learn(address.into(), leaf));
            }
        }
        for (key, leaf) in &tables.prefixes6 {
            self.learn(to_ip(&key.address), *leaf);
        }
        for (address, leaf) in tables.hosts.iter() {
            self.learn(to_ip(&address), leaf);
        }
    }

    /// An address with the name of who has it.
    pub(super) fn address(&self, address: IpAddr) -> String {
        match self.whose.inventory.holder(address) {
            Some(node) => format!("{} ({address})", node.name),
            None => address.to_string(),
        }
    }

    /// Whoever is of a local class.
    pub(super) fn local(&self, class: u32) -> String {
        let known = self.locals.get(class as usize).copied().flatten();
        known.map_or_else(|| format!("local class {class}"), |address| self.address(address))
    }

    /// Whoever is of a remote class.
    pub(super) fn remote(&self, class: u32) -> String {
        if class == 0 {
            return "any unknown address".to_owned();
        }
        let known = self.remotes.get(class as usize).copied().flatten();
        known.map_or_else(|| format!("remote class {class}"), |address| self.address(address))
    }

    /// An address of each local, or each remote class that has any.
    pub(super) fn of_each(&self, is_local: bool) -> impl Iterator<Item = IpAddr> {
        let classes = if is_local { &self.locals } else { &self.remotes };
        classes.iter().flatten().copied()
    }

    /// What a cell says.
    pub(super) fn judgement(&self, judgement: &Judgement) -> String {
        let Judgement { reason, flags, limit, rule, .. } = *judgement;
        let mut words = self.reason(reason, (rule != NO_RULE).then_some(rule));
        if limit != 0 {
            words.push_str(&format!(", rate limit {limit}"));
        }
        let first = if reason == Reason::DenyRule {
            (CELL_CLOSED, ", link protocols included")
        } else {
            (CELL_ONE_WAY, ", one-way")
        };
        for (flag, word) in [
            first,
            (CELL_EXEMPT, ", exempt from quarantine"),
            (CELL_TLS, ", compared with TLS"),
            (CELL_TLS_REQUIRED, ", which is required"),
            (CELL_TLS_POSTGRES, ", behind PostgreSQL's request"),
        ] {
            if flags & flag != 0 {
                words.push_str(word);
            }
        }
        words
    }

    /// A reason, and by which rule.
    pub(super) fn reason(&self, reason: Reason, rule: Option<u32>) -> String {
        let name = if reason == Reason::Rule { "allow" } else { reason.name() };
        match rule.map(|rule| (self.whose.title)(rule).unwrap_or_else(|| format!("no rule's number {rule}")))
        {
            Some(title) => format!("{name} by {title}"),
            None => name.to_owned(),
        }
    }

    /// A leaf, or why there is none.
    pub(super) fn leaf(leaf: Result<Leaf, Reason>) -> String {
        let leaf = match leaf {
            Ok(leaf) => leaf,
            Err(reason) => return reason.name().to_owned(),
        };
        let mut words = Vec::new();
        if leaf.local() != 0 {
            words.push(format!("local class {}", leaf.local()));
        }
        words.push(format!("remote class {}", leaf.remote()));
        if leaf.own() {
            words.push("own".to_owned());
        }
        if leaf.quarantined() {
            words.push("quarantined".to_owned());
        }
        words.join(", ")
    }
}
