//! The programs that others are compared with.

use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::Result;

use super::Hook;
use super::bpf::{self, ARRAY, LPM_TRIE};
use super::code::{Code, LOOK_UP, Label, Operation, Size};

/// Bytes of the key of a flow, of either family, and of what [`keyed`] looks up.
pub const KEY: u32 = 40;

/// The most that a program here reads of a packet behind its link header.
const REACH: i32 = 44;

/// Returns at once.
///
/// # Errors
/// If the kernel refuses.
pub fn nothing(hook: Hook) -> Result<OwnedFd> {
    let mut code = Code::default();
    code.answer(hook.pass());
    bpf::load(hook, &code.finish())
}

/// Drops at once.
///
/// # Errors
/// If the kernel refuses.
pub fn dropping(hook: Hook) -> Result<OwnedFd> {
    let mut code = Code::default();
    code.answer(hook.drop());
    bpf::load(hook, &code.finish())
}

/// A program that counts its look-ups that found nothing.
pub struct Misses {
    program: OwnedFd,
    misses: OwnedFd,
    _maps: Vec<OwnedFd>,
}

impl AsFd for Misses {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.program.as_fd()
    }
}

impl Misses {
    /// How many look-ups found nothing so far.
    #[must_use]
    pub fn count(&self) -> u64 {
        let mut value = [0; 8];
        bpf::has(&self.misses, &[0; 4], &mut value);
        u64::from_ne_bytes(value)
    }
}

/// Starts a program that reads packets behind `link` bytes of link header: r2 is the packet.
fn begin(hook: Hook, link: i16) -> (Code, Label) {
    let mut code = Code::default();
    let failed = code.label();
    let (start, end) = hook.bounds();
    code.load(Size::Four, 2, 1, start);
    code.load(Size::Four, 3, 1, end);
    code.with(Operation::Move, 4, 2);
    code.number(Operation::Add, 4, i32::from(link) + KEY as i32);
    code.if_greater(4, 3, failed);
    (code, failed)
}

/// Ends it: passes, or at `miss` counts and passes.
fn end(mut code: Code, hook: Hook, failed: Label, miss: Option<(Label, &OwnedFd)>) -> Vec<u64> {
    code.answer(hook.pass());
    if let Some((miss, misses)) = miss {
        code.place(miss);
        code.value(1, misses);
        code.load(Size::Eight, 2, 1, 0);
        code.number(Operation::Add, 2, 1);
        code.store(Size::Eight, 1, 0, 2);
        code.answer(hook.pass());
    }
    code.place(failed);
    code.answer(hook.failed());
    code.finish()
}

/// Takes the 40 bytes of an IPv4 and TCP header, or of an IPv6 header, as a key, and looks it up
/// if there is a map. Without, it tells what the copying costs.
///
/// # Errors
/// If the kernel refuses.
pub fn keyed(hook: Hook, link: i16, map: Option<OwnedFd>) -> Result<Misses> {
    let misses = bpf::create(ARRAY, 4, 8, 1)?;
    let (mut code, failed) = begin(hook, link);
    for word in 0..KEY as i16 / 8 {
        code.load(Size::Eight, 5, 2, link + 8 * word);
        code.store(Size::Eight, 10, 8 * word - KEY as i16, 5);
    }
    let miss = code.label();
    if let Some(map) = &map {
        code.map(1, map);
        code.with(Operation::Move, 2, 10);
        code.number(Operation::Add, 2, -(KEY as i32));
        code.call(LOOK_UP);
        code.if_zero(0, miss);
    }
    let instructions = end(code, hook, failed, map.is_some().then_some((miss, &misses)));
    Ok(Misses { program: bpf::load(hook, &instructions)?, misses, _maps: map.into_iter().collect() })
}

/// Address LPM, then policy LPM: the layout of Cilium's `cilium_ipcache` (`struct ipcache_key`:
/// prefix length, cluster, padding, family, 16 bytes of address; the value starts with the
/// identity) and `cilium_policy_v2` (`struct policy_key`: prefix length, identity, direction,
/// protocol, port). One look-up in each, though Cilium looks twice into the second (once for any
/// identity), parses, and follows the connection: this is the part that does what the class
/// tables do. The policy admits TCP to `port` (host byte order) for each of 16 identities;
/// address i has identity i mod 16.
///
/// # Errors
/// If the kernel refuses.
pub fn lpm_pair(
    hook: Hook,
    link: i16,
    addresses: impl ExactSizeIterator<Item = IpAddr>,
    port: u16,
) -> Result<Misses> {
    const IDENTITIES: u32 = 16;
    const FIRST: u32 = 256;
    let cache = bpf::create(LPM_TRIE, 24, 24, addresses.len() as u32)?;
    let mut v4 = true;
    for (index, address) in addresses.enumerate() {
        let mut key = [0; 24];
        let (family, bits, octets) = match address {
            IpAddr::V4(address) => (1, 32, address.octets().to_vec()),
            IpAddr::V6(address) => (2, 128, address.octets().to_vec()),
        };
        v4 = address.is_ipv4();
        key[..4].copy_from_slice(&(32_u32 + bits).to_ne_bytes());
        key[7] = family;
        key[8..8 + octets.len()].copy_from_slice(&octets);
        let mut value = [0; 24];
        value[..4].copy_from_slice(&(FIRST + index as u32 % IDENTITIES).to_ne_bytes());
        bpf::update(&cache, &key, &value)?;
    }
    let policy = bpf::create(LPM_TRIE, 12, 16, 16_384)?;
    for identity in FIRST..FIRST + IDENTITIES {
        let mut key = [0; 12];
        key[..4].copy_from_slice(&64_u32.to_ne_bytes());
        key[4..8].copy_from_slice(&identity.to_ne_bytes());
        key[9] = 6;
        key[10..].copy_from_slice(&port.to_be_bytes());
        bpf::update(&policy, &key, &[0; 16])?;
    }
    let misses = bpf::create(ARRAY, 4, 8, 1)?;
    // Offsets behind the link header: source, its length in words, protocol, destination port.
    let (source, words, protocol, port) = if v4 { (12, 1, 9, 22) } else { (8, 4, 6, 42) };
    let (mut code, failed) = begin(hook, link);
    let miss = code.label();
    // The policy key's last four bytes, while r2 is the packet; at -4.
    code.number(Operation::Move, 4, 0);
    code.store(Size::Four, 10, -4, 4);
    code.load(Size::One, 5, 2, link + protocol);
    code.store(Size::One, 10, -3, 5);
    if v4 {
        code.load(Size::Two, 5, 2, link + port);
        code.store(Size::Two, 10, -2, 5);
    } else {
        // Behind what `begin` checked.
        let (start, end) = hook.bounds();
        code.load(Size::Four, 7, 1, start);
        code.load(Size::Four, 8, 1, end);
        code.with(Operation::Move, 9, 7);
        code.number(Operation::Add, 9, i32::from(link) + REACH);
        code.if_greater(9, 8, failed);
        code.load(Size::Two, 5, 7, link + port);
        code.store(Size::Two, 10, -2, 5);
    }
    code.store_number(Size::Four, 10, -40, 32 + if v4 { 32 } else { 128 });
    code.store_number(Size::Four, 10, -36, if v4 { 1 } else { 2 } << 24);
    for word in 0..4 {
        if word < words {
            code.load(Size::Four, 5, 2, link + source + 4 * word);
            code.store(Size::Four, 10, -32 + 4 * word, 5);
        } else {
            code.store(Size::Four, 10, -32 + 4 * word, 4);
        }
    }
    code.map(1, &cache);
    code.with(Operation::Move, 2, 10);
    code.number(Operation::Add, 2, -40);
    code.call(LOOK_UP);
    code.if_zero(0, miss);
    code.load(Size::Four, 5, 0, 0);
    code.store(Size::Four, 10, -8, 5);
    code.store_number(Size::Four, 10, -12, 64);
    code.map(1, &policy);
    code.with(Operation::Move, 2, 10);
    code.number(Operation::Add, 2, -12);
    code.call(LOOK_UP);
    code.if_zero(0, miss);
    let instructions = end(code, hook, failed, Some((miss, &misses)));
    Ok(Misses { program: bpf::load(hook, &instructions)?, misses, _maps: vec![cache, policy] })
}
