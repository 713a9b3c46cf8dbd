//! What the kernel has of a guard: asked over netlink, since listing by nft costs a process and much text.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};

use super::kind::Kind;
use super::netlink::{
    INET, NFTABLES, Netfilter, Request, UNSPECIFIED, attribute, attributes, long, name, named, number,
};
use super::spec::{Guard, table_name};

/// `NFT_MSG_GET…`.
const GET_TABLE: u8 = 1;
const GET_CHAIN: u8 = 4;
const GET_RULE: u8 = 7;
const GET_SET: u8 = 10;
const GET_ELEMENTS: u8 = 13;
const GET_GENERATION: u8 = 16;
const GET_OBJECT: u8 = 19;

/// `NFT_TABLE_F_DORMANT`.
const DORMANT: u32 = 1;

/// How often what changes while it is read is read again.
const TRIES: usize = 10;

/// Packets and bytes of one kind, and which counter says so: a table that is made anew counts anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Count {
    /// The handles of the table and of the counter in it.
    pub counter: (u64, u64),
    /// Packets since the object was made.
    pub packets: u64,
    /// Bytes of them.
    pub bytes: u64,
}

/// Elements of sets by the set's name, in order.
pub type Contents = BTreeMap<String, Vec<u128>>;

/// A guard's table at one moment, but for what is in its sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outline {
    /// The ruleset's generation at that moment.
    pub generation: u32,
    /// Of the table's flags, the chains, their rules, and what the sets and counters are.
    pub shape: [u8; 32],
    /// Its hooks are off.
    pub is_dormant: bool,
    /// All chains.
    pub chains: Vec<String>,
    /// All sets.
    pub sets: Vec<String>,
}

/// A guard as the kernel has it at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// The table.
    pub outline: Outline,
    /// What is in the sets.
    pub contents: Contents,
}

/// A socket to ask by, in the calling thread's network namespace.
///
/// # Errors
/// If the kernel refuses.
pub fn open() -> anyhow::Result<Netfilter> {
    Netfilter::open().context("asking the kernel for the guard: opening a netlink socket")
}

/// The id of the ruleset's generation: every transaction of anybody, and nothing else, makes another.
///
/// # Errors
/// If the kernel refuses.
pub fn generation(netfilter: &Netfilter) -> io::Result<u32> {
    let request =
        Request { message: (NFTABLES, GET_GENERATION), family: UNSPECIFIED, resource: 0, attributes: &[] };
    let mut found = None;
    // NFTA_GEN_ID
    netfilter.ask(&request, |answer| found = attribute(answer, 1).and_then(number))?;
    found.ok_or_else(|| io::Error::other("no generation in the kernel's answer"))
}

/// Reads the guard of an instance in this network namespace; none if there is no such table.
///
/// # Errors
/// If the kernel refuses, or others change nftables so often that no moment can be read.
pub fn read(instance: &str) -> anyhow::Result<Option<State>> {
    read_by(&open()?, instance)
}

/// The same by a socket that is open.
///
/// # Errors
/// As of [`read`].
pub fn read_by(netfilter: &Netfilter, instance: &str) -> anyhow::Result<Option<State>> {
    at_one_moment(netfilter, instance, |reader, generation| {
        let Some(outline) = reader.outline(generation)? else { return Ok(None) };
        let elements = |set: &String| Ok((set.clone(), reader.elements(set)?));
        let contents = outline.sets.iter().map(elements).collect::<io::Result<_>>()?;
        Ok(Some(State { outline, contents }))
    })
}

/// The same without what is in the sets: it takes as long however many addresses there are.
///
/// # Errors
/// As of [`read`].
pub fn outline(netfilter: &Netfilter, instance: &str) -> anyhow::Result<Option<Outline>> {
    at_one_moment(netfilter, instance, |reader, generation| reader.outline(generation))
}

fn at_one_moment<T>(
    netfilter: &Netfilter,
    instance: &str,
    read: impl Fn(&Reader, u32) -> io::Result<Option<T>>,
) -> anyhow::Result<Option<T>> {
    let reader = Reader { netfilter, table: table_name(instance) };
    for _ in 0..TRIES {
        let before = generation(netfilter)?;
        match read(&reader, before) {
            Ok(found) if generation(netfilter)? == before => return Ok(found),
            // Of two moments.
            Ok(_) => {}
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            Err(error) => return Err(error).context("asking the kernel for the guard"),
        }
    }
    anyhow::bail!("asking the kernel for the guard: others change nftables all the time; trying again")
}

/// What the guard has dropped by kind; nothing if there is none.
///
/// # Errors
/// If the kernel refuses.
pub fn counts(instance: &str) -> anyhow::Result<BTreeMap<Kind, Count>> {
    let netfilter = open()?;
    let reader = Reader { netfilter: &netfilter, table: table_name(instance) };
    let read = || {
        let Some((table, _)) = reader.table(&mut Shape::default())? else { return Ok(BTreeMap::new()) };
        let mut counts = reader.counters(&mut Shape::default())?;
        counts.values_mut().for_each(|count| count.counter.0 = table);
        Ok(counts)
    };
    read().map_err(|error: io::Error| anyhow::anyhow!("reading the guard's counters: {error}"))
}

/// What a table is, but for what is in it.
#[derive(Default)]
struct Shape(Sha256);

impl Shape {
    /// Adds what is named, each part with its number and its length.
    fn add(&mut self, what: u8, answer: &[u8], numbers: &[u16]) {
        self.0.update([what]);
        for (number, payload) in attributes(answer).filter(|(number, _)| numbers.contains(number)) {
            self.0.update(number.to_ne_bytes());
            self.0.update((payload.len() as u32).to_ne_bytes());
            self.0.update(payload);
        }
    }
}

struct Reader<'a> {
    netfilter: &'a Netfilter,
    table: String,
}

impl Reader<'_> {
    /// All but what is in the sets; none if there is no such table.
    fn outline(&self, generation: u32) -> io::Result<Option<Outline>> {
        let mut shape = Shape::default();
        let Some((_, is_dormant)) = self.table(&mut shape)? else { return Ok(None) };
        let chains = self.chains(&mut shape)?;
        let sets = self.sets(&mut shape)?;
        self.counters(&mut shape)?;
        Ok(Some(Outline { generation, shape: shape.0.finalize().into(), is_dormant, chains, sets }))
    }

    /// Lists what belongs to the table: its number among attributes is 1 in all messages.
    fn list(&self, message: u8, mut each: impl FnMut(&[u8])) -> io::Result<()> {
        let table = named(&self.table);
        let request =
            Request { message: (NFTABLES, message), family: INET, resource: 0, attributes: &[(1, &table)] };
        let is_ours = |answer: &[u8]| attribute(answer, 1).is_some_and(|found| found == table);
        // Not every kernel leaves out other tables' by itself.
        let is_whole = self.netfilter.dump(&request, |answer| {
            if is_ours(answer) {
                each(answer);
            }
        })?;
        if is_whole { Ok(()) } else { Err(changed()) }
    }

    /// Its handle, and whether its hooks are off.
    fn table(&self, shape: &mut Shape) -> io::Result<Option<(u64, bool)>> {
        let table = named(&self.table);
        let request =
            Request { message: (NFTABLES, GET_TABLE), family: INET, resource: 0, attributes: &[(1, &table)] };
        let mut found = (0, false);
        let asked = self.netfilter.ask(&request, |answer| {
            // NFTA_TABLE_NAME, _FLAGS
            shape.add(GET_TABLE, answer, &[1, 2]);
            let is_dormant = attribute(answer, 2).and_then(number).is_some_and(|flags| flags & DORMANT != 0);
            // NFTA_TABLE_HANDLE
            found = (attribute(answer, 4).and_then(long).unwrap_or_default(), is_dormant);
        });
        match asked {
            Ok(()) => Ok(Some(found)),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The chains' names.
    fn chains(&self, shape: &mut Shape) -> io::Result<Vec<String>> {
        let mut chains = Vec::new();
        self.list(GET_CHAIN, |answer| {
            // NFTA_CHAIN_NAME, _HOOK, _POLICY, _TYPE, _FLAGS
            shape.add(GET_CHAIN, answer, &[3, 4, 5, 7, 10]);
            chains.extend(attribute(answer, 3).map(|chain| name(chain).to_owned()));
        })?;
        // NFTA_RULE_CHAIN, _EXPRESSIONS
        self.list(GET_RULE, |answer| shape.add(GET_RULE, answer, &[2, 4]))?;
        Ok(chains)
    }

    /// The sets' names.
    fn sets(&self, shape: &mut Shape) -> io::Result<Vec<String>> {
        let mut sets = Vec::new();
        self.list(GET_SET, |answer| {
            // NFTA_SET_NAME, _FLAGS, _KEY_TYPE, _KEY_LEN, _TIMEOUT
            shape.add(GET_SET, answer, &[2, 3, 4, 5, 11]);
            sets.extend(attribute(answer, 2).map(|set| name(set).to_owned()));
        })?;
        Ok(sets)
    }

    fn elements(&self, set: &str) -> io::Result<Vec<u128>> {
        let (table, set) = (named(&self.table), named(set));
        let request = Request {
            message: (NFTABLES, GET_ELEMENTS),
            family: INET,
            resource: 0,
            attributes: &[(1, &table), (2, &set)],
        };
        let mut elements = Vec::new();
        let is_whole = self.netfilter.dump(&request, |answer| {
            // NFTA_SET_ELEM_LIST_ELEMENTS
            let list = attribute(answer, 3).unwrap_or_default();
            elements.extend(attributes(list).map(|(_, element)| element_key(element)));
        })?;
        elements.sort_unstable();
        if is_whole { Ok(elements) } else { Err(changed()) }
    }

    fn counters(&self, shape: &mut Shape) -> io::Result<BTreeMap<Kind, Count>> {
        let mut counts = BTreeMap::new();
        self.list(GET_OBJECT, |answer| {
            // NFTA_OBJ_NAME, _TYPE
            shape.add(GET_OBJECT, answer, &[2, 3]);
            if let Some(kind) = attribute(answer, 2).and_then(|object| Kind::of_object(name(object))) {
                counts.insert(kind, count(answer));
            }
        })?;
        Ok(counts)
    }
}

/// Treated as what is not there any more: it is read again.
fn changed() -> io::Error {
    io::Error::from_raw_os_error(libc::ENOENT)
}

/// `NFTA_OBJ_HANDLE`, and `NFTA_COUNTER_BYTES` and `_PACKETS` in `NFTA_OBJ_DATA`.
fn count(answer: &[u8]) -> Count {
    let data = attribute(answer, 4).unwrap_or_default();
    let value = |bytes: Option<&[u8]>| bytes.and_then(long).unwrap_or_default();
    Count {
        counter: (0, value(attribute(answer, 6))),
        bytes: value(attribute(data, 1)),
        packets: value(attribute(data, 2)),
    }
}

/// `NFTA_DATA_VALUE` in `NFTA_SET_ELEM_KEY`.
fn element_key(element: &[u8]) -> u128 {
    let value = attribute(element, 1).and_then(|key| attribute(key, 1)).unwrap_or_default();
    key(value)
}

/// A key of up to 16 bytes, as a number that can be compared.
fn key(bytes: &[u8]) -> u128 {
    let mut wide = [0; 16];
    wide.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    u128::from_be_bytes(wide)
}

impl Guard {
    /// What its sets are to hold.
    #[must_use]
    pub fn contents(&self) -> Contents {
        let addresses = |set: &std::collections::BTreeSet<IpAddr>, is_v4: bool| {
            let of_family = set.iter().filter(|ip| ip.is_ipv4() == is_v4);
            sorted(of_family.map(|ip| match ip {
                IpAddr::V4(ip) => key(&ip.octets()),
                IpAddr::V6(ip) => key(&ip.octets()),
            }))
        };
        [
            ("managed", sorted(self.managed.iter().map(|name| key(name.as_bytes())))),
            ("attached", attached_contents(&self.attached)),
            ("own4", addresses(&self.own, true)),
            ("own6", addresses(&self.own, false)),
            ("others4", addresses(&self.others, true)),
            ("others6", addresses(&self.others, false)),
        ]
        .map(|(set, elements)| (set.to_owned(), elements))
        .into()
    }
}

/// What the set of attached interfaces is to hold.
pub fn attached_contents(devices: &std::collections::BTreeSet<(u32, u32)>) -> Vec<u128> {
    let bytes = |(index, group): &(u32, u32)| [index.to_ne_bytes(), group.to_ne_bytes()].concat();
    sorted(devices.iter().map(|device| key(&bytes(device))))
}

fn sorted(elements: impl Iterator<Item = u128>) -> Vec<u128> {
    let mut elements: Vec<u128> = elements.collect();
    elements.sort_unstable();
    elements
}
