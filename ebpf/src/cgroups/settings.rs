//! The read-only globals, which the loader sets before the verifier sees a program.

use core::ptr::{addr_of, read_volatile};

use bulkhead_abi::{Address, CgroupSettings, WORKLOAD_ADDRESSES};

/// Replaced by the loader. The initial values are never used: the loader refuses to leave them.
#[unsafe(no_mangle)]
static CGROUP_SETTINGS: CgroupSettings = CgroupSettings::UNSET;

macro_rules! setting {
    ($($name:ident: $type:ty;)*) => {
        $(
            #[inline(always)]
            pub(crate) fn $name() -> $type {
                // SAFETY: the field of a static; volatile, since the loader changes it behind the compiler's back.
                unsafe { read_volatile(addr_of!(CGROUP_SETTINGS.$name)) }
            }
        )*
    };
}

setting! {
    netns: u64;
    tells_netns: u64;
    refuses_bypass: u64;
    near4: [u32; 2];
    near6: [Address; 2];
}

/// One of the workload's IPv4 addresses, the first for 0.
#[inline(always)]
pub(crate) fn own4(place: usize) -> u32 {
    let own = addr_of!(CGROUP_SETTINGS.own4).cast::<u32>();
    // SAFETY: the index is within the array; volatile as above.
    unsafe { read_volatile(own.add(place & (WORKLOAD_ADDRESSES - 1))) }
}

/// One of the workload's IPv6 addresses, the first for 0.
#[inline(always)]
pub(crate) fn own6(place: usize) -> Address {
    let own = addr_of!(CGROUP_SETTINGS.own6).cast::<Address>();
    // SAFETY: the index is within the array; volatile as above.
    unsafe { read_volatile(own.add(place & (WORKLOAD_ADDRESSES - 1))) }
}

/// Whether an address is one of the workload's.
#[inline(always)]
pub(crate) fn is_own(address: &Address) -> bool {
    if is_mapped(address) {
        return (0..WORKLOAD_ADDRESSES).any(|place| own4(place) == address[3]);
    }
    (0..WORKLOAD_ADDRESSES).any(|place| own6(place) == *address)
}

/// Whether an address may be one of this host's on the overlay.
#[inline(always)]
pub(crate) fn is_near(address: &Address) -> bool {
    if is_mapped(address) {
        let [prefix, mask] = near4();
        return address[3] & mask == prefix;
    }
    let [prefix, mask] = near6();
    (0..4).all(|word| address[word] & mask[word] == prefix[word])
}

/// An IPv4 address in the form in which IPv6 has it (RFC 4291, section 2.5.5.2).
#[inline(always)]
pub(crate) const fn mapped(address: u32) -> Address {
    [0, 0, 0xffff_u32.to_be(), address]
}

#[inline(always)]
pub(crate) const fn is_mapped(address: &Address) -> bool {
    address[0] == 0 && address[1] == 0 && address[2] == 0xffff_u32.to_be()
}

/// Whether it is the address of no one: what a socket has that is bound to none.
#[inline(always)]
pub(crate) const fn is_wildcard(address: &Address) -> bool {
    let is_zero = address[0] == 0 && address[1] == 0 && address[3] == 0;
    is_zero && (address[2] == 0 || address[2] == 0xffff_u32.to_be())
}
