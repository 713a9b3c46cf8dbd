//! Tables and flows in memory: what the compiler makes, the loader uploads, and
//! `bulkhead eval` and the tests decide with.

use std::cell::{Cell as Shared, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use bulkhead_abi::{
    Address, BLOCK_SLOTS, CELL_EXEMPT, CELL_REJECT, CELL_TLS, Cell, Direction, FEATURE_AUDIT, FEATURE_EXEMPT,
    FEATURE_GROUPS, FEATURE_IPV6_LPM, FEATURE_LIMITS, FEATURE_LOOPBACK, FEATURE_REJECT, FEATURE_ROUTES,
    FEATURE_TLS, FEATURE_WORKLOADS, FlowKey, FlowValue, FragmentKey, FragmentValue, INTERFACE_ETHERNET, Leaf,
    LpmKey, PORT_BLOCKS, Pair, Rate, RateLimit, Routed, Settings, TIMEOUTS, TRIE_ROOT_BLOCKS, Workload,
};

use crate::change::{Addresses, Unchanged};
use crate::host_table::{Buckets, HostTable};
use crate::parse::Headers;
pub use crate::sender::Sender;
use crate::{
    Answer, Beginning, Calls, End, Environment, Judgement, Metadata, Packet, RateState, Reason, SocketState,
};

/// The compiled tables of one node: everything of one generation that the kernel looks up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tables {
    /// The IPv4 trie; the first [`TRIE_ROOT_BLOCKS`] blocks are the root.
    pub trie: Vec<[Leaf; BLOCK_SLOTS]>,
    /// Single addresses, of IPv4 those that the trie sends there.
    pub hosts: HostTable,
    /// IPv6 prefixes, each once, sorted by (length, address).
    pub prefixes6: Vec<(LpmKey, Leaf)>,
    /// Prefixes that lie behind routers, and nodes in them, each once, sorted by (length, address).
    pub routes: Vec<(LpmKey, Routed)>,
    /// Port classes, [`PORT_BLOCKS`] blocks.
    pub ports: Vec<[u16; BLOCK_SLOTS]>,
    /// (direction, local class, remote class) → row.
    pub pairs: Vec<[Pair; BLOCK_SLOTS]>,
    /// Rows of cells.
    pub cells: Vec<Cell>,
    /// Deadlines in ns since the Unix epoch. Entry 0 is unused. The agent converts them to boot time.
    pub deadlines: Vec<u64>,
    /// Rate limits that cells name. Entry 0 is unused.
    pub limits: Vec<RateLimit>,
    /// Whose each local class is, by its number, 0 included. Which cgroups they are the agent fills in.
    pub workloads: Vec<Workload>,
    /// Some addresses are multicast groups of feeds.
    pub groups: bool,
    /// Number of rules: cells name 0 to this number − 1.
    pub rules: u32,
    /// Local classes: 1 to this number.
    pub locals: u32,
    /// Remote classes, 'unknown' included.
    pub remotes: u32,
    /// Remote classes from this number on are [wide](crate::is_of_known_sender).
    pub wide: u32,
    /// Port classes.
    pub port_classes: u32,
}

impl Tables {
    /// Tables that deny everything.
    #[must_use]
    pub fn deny_all() -> Self {
        Self {
            trie: vec![[Leaf(0); BLOCK_SLOTS]; TRIE_ROOT_BLOCKS as usize],
            hosts: HostTable::default(),
            prefixes6: Vec::new(),
            routes: Vec::new(),
            ports: vec![[0; BLOCK_SLOTS]; PORT_BLOCKS as usize],
            pairs: vec![[Pair(0); BLOCK_SLOTS]],
            cells: vec![Cell::NONE],
            deadlines: vec![0],
            limits: vec![RateLimit::default()],
            workloads: vec![Workload::NONE; 2],
            groups: false,
            rules: 0,
            locals: 1,
            remotes: 1,
            wide: 1,
            port_classes: 1,
        }
    }
}

/// Flows in memory, unbounded.
pub type Flows = HashMap<FlowKey, FlowValue>;

/// TCP sockets by local and remote end, ports in host byte order; of one that listens all of the
/// remote end is zero.
pub type Sockets = HashMap<[(Address, u16); 2], SocketState>;

/// The remote end of one that listens.
const ANYBODY: End<'static> = End(&[0; 4], 0);

/// Decides over [`Tables`] and [`Flows`] in memory, with a clock that the caller sets.
#[derive(Clone, Debug)]
pub struct Memory<'a> {
    /// The tables.
    pub tables: &'a Tables,
    /// The flows.
    pub flows: RefCell<Flows>,
    /// The words of the rate limits, see [`Environment::limit_state`].
    pub limit_states: Vec<Rc<Shared<u64>>>,
    /// The words of the rates at which addresses begin flows.
    pub initiators: RefCell<HashMap<Address, Rc<Shared<u64>>>>,
    /// The host's TCP sockets.
    pub sockets: RefCell<Sockets>,
    /// Packets that were to be answered: how, source and destination, ports in host byte order.
    pub answers: RefCell<Vec<(Answer, [(Address, u16); 2])>>,
    /// The words of the rates of ICMP errors that quote no flow.
    pub miss_states: RefCell<HashMap<u32, Rc<Shared<u64>>>>,
    /// The words of the ends that were answered by a reset last.
    pub answer_states: RefCell<HashMap<u32, Rc<Shared<u64>>>>,
    /// Datagrams in fragments.
    pub fragments: RefCell<HashMap<FragmentKey, FragmentValue>>,
    /// How flows began, by rule: in the order of their counters.
    pub beginnings: RefCell<HashMap<u32, [u64; 3]>>,
    /// Who hands over the packet.
    pub sender: RefCell<Sender>,
    /// The constants that a program would be specialised by.
    pub settings: Settings,
    /// Deadlines in ns of the clock `settings.fixed_clock`, by index.
    pub deadlines: Vec<u64>,
}

impl Tables {
    /// The `FEATURE_` bits of what the tables use.
    #[must_use]
    pub fn features(&self) -> u32 {
        let has = |flag: u8| self.cells.iter().any(|cell| cell.flags & flag != 0);
        let feature = |bit: u32, used: bool| if used { bit } else { 0 };
        feature(FEATURE_IPV6_LPM, !self.prefixes6.is_empty())
            | feature(FEATURE_LIMITS, self.limits.len() > 1)
            | feature(FEATURE_EXEMPT, has(CELL_EXEMPT))
            | feature(FEATURE_REJECT, has(CELL_REJECT))
            | feature(FEATURE_GROUPS, self.groups)
            | feature(FEATURE_TLS, has(CELL_TLS))
            | feature(FEATURE_ROUTES, !self.routes.is_empty())
            | feature(FEATURE_WORKLOADS, self.workloads.iter().any(|workload| workload.is_some()))
    }

    fn prefix6(&self, address: &Address) -> Option<Leaf> {
        longest(&self.prefixes6, address)
    }
}

/// Tables that no program reads yet: the host table grows as it needs.
impl Addresses for Tables {
    type Error = Unchanged;

    fn entry(&self, block: u32, slot: u8) -> Option<Leaf> {
        self.trie.get(block as usize).map(|entries| entries[usize::from(slot)])
    }
    fn publish(&mut self, block: u32, slot: u8, entry: Leaf) {
        self.trie[block as usize][usize::from(slot)] = entry;
    }
    fn host_table(&self, address: &Address) -> Result<Option<Leaf>, Unchanged> {
        crate::host_table::find(&self.hosts, address).map_err(|_| Unchanged::Broken)
    }
    fn set_exact(&mut self, address: &Address, leaf: Leaf) -> Result<(), Unchanged> {
        Ok(self.hosts.set(address, leaf)?)
    }
    fn prefix6(&self, address: &Address) -> Result<Leaf, Unchanged> {
        Ok(self.prefix6(address).unwrap_or_default())
    }
}

impl<'a> Memory<'a> {
    /// An environment without flows. The clock is `settings.fixed_clock`, in ns, for flows and
    /// for expiry alike; [`Tables::deadlines`] are taken to be in the same clock.
    #[must_use]
    pub fn new(tables: &'a Tables, settings: Settings) -> Self {
        let settings =
            Settings { locals: tables.locals, remotes: tables.remotes, wide: tables.wide, ..settings };
        Self {
            tables,
            flows: RefCell::default(),
            limit_states: (0..2 * tables.limits.len()).map(|_| Rc::default()).collect(),
            initiators: RefCell::default(),
            sockets: RefCell::default(),
            answers: RefCell::default(),
            miss_states: RefCell::default(),
            answer_states: RefCell::default(),
            fragments: RefCell::default(),
            beginnings: RefCell::default(),
            sender: RefCell::default(),
            settings,
            deadlines: tables.deadlines.clone(),
        }
    }
}

impl RateState for Rc<Shared<u64>> {
    fn load(&self) -> u64 {
        self.get()
    }
    fn compare_exchange(&self, old: u64, new: u64) -> u64 {
        let found = self.get();
        if found == old {
            self.set(new);
        }
        found
    }
}

fn in_block<T: Copy>(blocks: &[[T; BLOCK_SLOTS]], index: u32) -> Option<T> {
    blocks.get((index >> 8) as usize).map(|block| block[(index & 0xff) as usize])
}

/// The value of the longest prefix that holds an address.
fn longest<T: Copy>(prefixes: &[(LpmKey, T)], address: &Address) -> Option<T> {
    let holds = |(key, _): &&(LpmKey, T)| shares_prefix(&key.address, address, key.prefix);
    prefixes.iter().filter(holds).max_by_key(|(key, _)| key.prefix).map(|(_, value)| *value)
}

/// Whether the first `prefix` bits of two addresses are the same.
fn shares_prefix(a: &Address, b: &Address, prefix: u32) -> bool {
    let bits =
        |words: &Address| words.iter().fold(0u128, |bits, word| bits << 32 | u128::from(u32::from_be(*word)));
    prefix == 0 || (bits(a) ^ bits(b)) >> (128 - prefix) == 0
}

impl Environment for Memory<'_> {
    fn trie(&self, block: u32, slot: u8) -> Option<Leaf> {
        self.tables.entry(block, slot)
    }
    fn host_table(&self) -> &impl Buckets {
        &self.tables.hosts
    }
    fn prefix6(&self, address: &Address) -> Option<Leaf> {
        self.tables.prefix6(address)
    }
    fn pair(&self, index: u32) -> Option<Pair> {
        in_block(&self.tables.pairs, index)
    }
    fn port_class(&self, index: u32) -> Option<u32> {
        in_block(&self.tables.ports, index).map(u32::from)
    }
    fn cell(&self, index: u32) -> Option<Cell> {
        self.tables.cells.get(index as usize).copied()
    }
    fn deadline(&self, index: u32) -> Option<u64> {
        self.deadlines.get(index as usize).copied()
    }
    fn limit(&self, index: u32) -> Option<RateLimit> {
        self.tables.limits.get(index as usize).copied()
    }
    fn limit_state(&self, index: u32) -> Option<impl RateState> {
        self.limit_states.get(index as usize).cloned()
    }
    fn initiator_state(&self, address: &Address) -> Option<impl RateState> {
        Some(Rc::clone(self.initiators.borrow_mut().entry(*address).or_default()))
    }
    fn miss_state(&self, word: u32) -> Option<impl RateState> {
        Some(Rc::clone(self.miss_states.borrow_mut().entry(word).or_default()))
    }
    fn answer_state(&self, word: u32) -> Option<impl RateState> {
        Some(Rc::clone(self.answer_states.borrow_mut().entry(word).or_default()))
    }
    fn routed(&self, address: &Address) -> Routed {
        longest(&self.tables.routes, address).unwrap_or_default()
    }
    fn workload(&self, local: u32) -> Option<Workload> {
        self.tables.workloads.get(local as usize).copied()
    }
    fn ancestor(&self, level: u32) -> u64 {
        self.sender.borrow().cgroups.get(level as usize).copied().unwrap_or_default()
    }
    fn is_by_kernel(&self) -> bool {
        self.sender.borrow().is_kernel
    }
    fn is_by_packet_socket(&self) -> bool {
        self.sender.borrow().is_packet_socket
    }
    fn flow_time(&self) -> u64 {
        self.settings.fixed_clock
    }
    fn boot_time(&self) -> u64 {
        self.settings.fixed_clock
    }
    fn ethernet(&self) -> bool {
        self.settings.interface == INTERFACE_ETHERNET
    }
    fn audit(&self) -> bool {
        self.settings.features & FEATURE_AUDIT != 0
    }
    fn has_prefix6(&self) -> bool {
        self.settings.features & FEATURE_IPV6_LPM != 0
    }
    fn has_limits(&self) -> bool {
        self.settings.features & FEATURE_LIMITS != 0
    }
    fn has_exemptions(&self) -> bool {
        self.settings.features & FEATURE_EXEMPT != 0
    }
    fn has_rejects(&self) -> bool {
        self.settings.features & FEATURE_REJECT != 0
    }
    fn has_groups(&self) -> bool {
        self.settings.features & FEATURE_GROUPS != 0
    }
    fn has_routes(&self) -> bool {
        self.settings.features & FEATURE_ROUTES != 0
    }
    fn has_workloads(&self) -> bool {
        self.settings.features & FEATURE_WORKLOADS != 0
    }
    fn is_loopback(&self) -> bool {
        self.settings.features & FEATURE_LOOPBACK != 0
    }
    fn has_tls(&self) -> bool {
        self.settings.features & FEATURE_TLS != 0
    }
    fn read(&self, packet: &Packet, offset: u32, count: u32) -> Option<u64> {
        let byte = |index| packet.byte((offset + index) as usize).map(u64::from);
        (0..count).try_fold(0, |word, index| Some(word | byte(index)? << (index * 8)))
    }
    fn count_beginning(&self, rule: u32, beginning: Beginning) {
        self.beginnings.borrow_mut().entry(rule).or_default()[beginning.counter() as usize] += 1;
    }
    fn link(&self) -> u32 {
        self.settings.link
    }
    fn new_flows(&self) -> Rate {
        self.settings.new_flows
    }
    fn locals(&self) -> u32 {
        self.settings.locals
    }
    fn remotes(&self) -> u32 {
        self.settings.remotes
    }
    fn zone(&self) -> u16 {
        self.settings.zone
    }
    fn generation(&self) -> u32 {
        self.settings.generation
    }
    fn timeout(&self, state: u8) -> u32 {
        self.settings.timeouts.0[usize::from(state) % TIMEOUTS]
    }
    fn socket(&self, _version: u8, local: End, remote: End) -> SocketState {
        let sockets = self.sockets.borrow();
        let of = |remote: End| sockets.get(&[(*local.0, local.1), (*remote.0, remote.1)]).copied();
        of(remote).or_else(|| of(ANYBODY)).unwrap_or_default()
    }
    fn answer(&self, headers: &Headers, answer: Answer) {
        let source = (headers.source, headers.source_port);
        let destination = (headers.destination, headers.destination_port);
        self.answers.borrow_mut().push((answer, [source, destination]));
    }
    fn outward_ports(&self) -> [u16; 2] {
        self.settings.outward_ports
    }
    fn forwarded_until(&self) -> u32 {
        self.settings.forwarded_until
    }
    fn flow(
        &self,
        key: &FlowKey,
        flow: &mut FlowValue,
        seen: impl FnOnce(&FlowValue) -> Option<u64>,
    ) -> bool {
        match self.flows.borrow_mut().get_mut(key) {
            Some(found) => {
                *flow = *found;
                found.last_seen = seen(flow).unwrap_or(found.last_seen);
                true
            }
            None => false,
        }
    }
    fn put_flow(&self, key: &FlowKey, value: &FlowValue) -> Result<(), Reason> {
        self.flows.borrow_mut().insert(*key, *value);
        Ok(())
    }
    fn remove_flow(&self, key: &FlowKey) {
        self.flows.borrow_mut().remove(key);
    }
    fn fragment(&self, key: &FragmentKey, value: &mut FragmentValue) -> bool {
        match self.fragments.borrow().get(key) {
            Some(found) => {
                *value = *found;
                true
            }
            None => false,
        }
    }
    fn put_fragment(&self, key: &FragmentKey, value: &FragmentValue) -> Result<(), Reason> {
        self.fragments.borrow_mut().insert(*key, *value);
        Ok(())
    }
    fn remove_fragment(&self, key: &FragmentKey) {
        self.fragments.borrow_mut().remove(key);
    }
}

impl Calls for Memory<'_> {
    fn leaf(&self, version: u8, address: &Address) -> Result<Leaf, Reason> {
        crate::leaf_of(self, version, address)
    }
    fn judge(&self, direction: Direction, classes: [u32; 2], protocol: u8, port: u16) -> Judgement {
        crate::judge(self, direction, classes, protocol, port)
    }
    fn admit(&self, meta: &mut Metadata, direction: Direction, rule: u32, limit: u16) {
        crate::admit(self, meta, direction, (rule, limit));
    }
    fn reply(&self, meta: &mut Metadata, direction: Direction) {
        crate::reply(self, meta, direction);
    }
    fn untracked(&self, meta: &mut Metadata, direction: Direction) {
        crate::untracked(self, meta, direction);
    }
    fn look_up_either(&self, meta: &mut Metadata, direction: Direction) {
        crate::look_up_either(self, meta, direction);
    }
    fn begins(&self, packet: &Packet, meta: &mut Metadata, direction: Direction, flags: u8) {
        crate::begins(self, packet, meta, direction, flags);
    }
    fn compare(&self, packet: &Packet, meta: &mut Metadata) {
        crate::compare(self, packet, meta);
    }
    fn forgotten(&self, headers: &Headers) {
        crate::forgotten(self, headers);
    }
    fn rejected(&self, headers: &Headers, direction: Direction) {
        crate::rejected(self, headers, direction);
    }
}
