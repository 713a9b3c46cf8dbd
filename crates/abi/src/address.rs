//! Address → leaf: local class, remote class and the per-address switches.

/// Slots in one block of the IPv4 trie and of the other blocked tables: an array map rounds
/// every value up to 8 bytes, so 4-byte entries are stored 256 to a value.
pub const BLOCK_SLOTS: usize = 256;

/// The first 256 blocks of the IPv4 trie are its root: 65,536 entries, indexed by the upper
/// 16 bits of the address. Later blocks have 8-bit strides.
pub const TRIE_ROOT_BLOCKS: u32 = 256;

/// An address in network byte order, as four words loaded from memory. IPv4 is held in its
/// IPv4-mapped form (`::ffff:a.b.c.d`, RFC 4291 section 2.5.5.2).
pub type Address = [u32; 4];

/// The words of an address.
#[must_use]
pub fn from_ip(ip: core::net::IpAddr) -> Address {
    let octets = match ip {
        core::net::IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        core::net::IpAddr::V6(v6) => v6.octets(),
    };
    let mut words = [0; 4];
    for (word, bytes) in words.iter_mut().zip(octets.as_chunks::<4>().0) {
        *word = u32::from_ne_bytes(*bytes);
    }
    words
}

/// The address of four words; an IPv4-mapped one becomes IPv4.
#[must_use]
pub fn to_ip(words: &Address) -> core::net::IpAddr {
    let mut octets = [0; 16];
    for (bytes, word) in octets.chunks_exact_mut(4).zip(words) {
        bytes.copy_from_slice(&word.to_ne_bytes());
    }
    core::net::IpAddr::V6(octets.into()).to_canonical()
}

/// One entry of the address tables.
///
/// | bits | meaning |
/// |---|---|
/// | 31 | the entry is no leaf. Without bit 30 it names the next block of the trie (bits 10..=29, so that they say how many bytes behind the first it begins); with it the address is to be looked up in the host table, and if it is not there, bits 0..=29 are its leaf's |
/// | 30 | of a leaf: quarantined, nothing to or from this address passes |
/// | 29 | own: one of this node's own addresses |
/// | 16..=28 | local class: 0 is 'not local'; own addresses and approved routes have one |
/// | 0..=15 | remote class: 0 is 'unknown' |
///
/// An address may have both classes: on an exit node every address is local (it is in the
/// route `0.0.0.0/0`) and peers are remote as well.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Leaf(pub u32);

impl Leaf {
    const KIND: u32 = 3 << 30;
    const BLOCK: u32 = 1 << 31;
    const HOST_TABLE: u32 = 3 << 30;
    const QUARANTINED: u32 = 1 << 30;
    const OWN: u32 = 1 << 29;
    const LOCAL_SHIFT: u32 = 16;
    /// The highest local class.
    pub const MAX_LOCAL: u32 = (1 << 13) - 1;
    /// The highest remote class.
    pub const MAX_REMOTE: u32 = (1 << 16) - 1;
    /// Where the index of a block lies.
    const BLOCK_SHIFT: u32 = (BLOCK_SLOTS * size_of::<Self>()).trailing_zeros();
    /// The highest index of a block.
    pub const MAX_BLOCK: u32 = !Self::KIND >> Self::BLOCK_SHIFT;

    /// A leaf. `local` and `remote` must not exceed [`Self::MAX_LOCAL`] and [`Self::MAX_REMOTE`].
    #[must_use]
    pub const fn new(local: u32, remote: u32, own: bool) -> Self {
        debug_assert!(local <= Self::MAX_LOCAL && remote <= Self::MAX_REMOTE);
        Self((own as u32 * Self::OWN) | (local << Self::LOCAL_SHIFT) | remote)
    }

    /// An entry that names the next block of the trie. `index` must not exceed [`Self::MAX_BLOCK`].
    #[must_use]
    pub const fn block(index: u32) -> Self {
        debug_assert!(index <= Self::MAX_BLOCK);
        Self(Self::BLOCK | index << Self::BLOCK_SHIFT)
    }

    /// An entry that sends to the host table; `other` is the leaf of what is not there, and must
    /// not be quarantined.
    #[must_use]
    pub const fn host_table(other: Self) -> Self {
        debug_assert!(other.0 & Self::KIND == 0);
        Self(Self::HOST_TABLE | other.0)
    }

    /// Whether the entry is a leaf.
    #[inline(always)]
    #[must_use]
    pub const fn is_leaf(self) -> bool {
        self.0 & Self::BLOCK == 0
    }

    /// The next block's index, if the entry names one.
    #[inline(always)]
    #[must_use]
    pub const fn as_block(self) -> Option<u32> {
        if self.0 & Self::KIND == Self::BLOCK {
            Some((self.0 & !Self::KIND) >> Self::BLOCK_SHIFT)
        } else {
            None
        }
    }

    /// The leaf of what the host table does not have, if the entry sends there.
    #[inline(always)]
    #[must_use]
    pub const fn as_host_table(self) -> Option<Self> {
        if self.0 & Self::KIND == Self::HOST_TABLE { Some(Self(self.0 & !Self::KIND)) } else { None }
    }

    /// Of a leaf: whether the address is cut off.
    #[inline(always)]
    #[must_use]
    pub const fn quarantined(self) -> bool {
        self.0 & Self::QUARANTINED != 0
    }

    /// The same leaf, cut off or not.
    #[must_use]
    pub const fn with_quarantine(self, on: bool) -> Self {
        Self(if on { self.0 | Self::QUARANTINED } else { self.0 & !Self::QUARANTINED })
    }

    /// Whether the address is the node's own.
    #[inline(always)]
    #[must_use]
    pub const fn own(self) -> bool {
        self.0 & Self::OWN != 0
    }

    /// The local class; 0 if the address is neither the node's own nor in an approved route.
    #[inline(always)]
    #[must_use]
    pub const fn local(self) -> u32 {
        (self.0 >> Self::LOCAL_SHIFT) & Self::MAX_LOCAL
    }

    /// The remote class; 0 is 'unknown'.
    #[inline(always)]
    #[must_use]
    pub const fn remote(self) -> u32 {
        self.0 & Self::MAX_REMOTE
    }
}

/// Key of an LPM trie by address: the kernel's `struct bpf_lpm_trie_key`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LpmKey {
    /// Prefix length in bits, 0 to 128.
    pub prefix: u32,
    /// The address, network byte order.
    pub address: Address,
}
const _: () = assert!(size_of::<LpmKey>() == 20 && size_of::<Leaf>() == 4);
