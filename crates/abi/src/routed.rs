//! Address → which routers it lies behind.

/// Who may tell of packets to an address, and for whom the address may tell: groups of routers that share
/// a route, numbered from 1; 0: none.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Routed {
    /// The group that packets to this address go through.
    pub behind: u32,
    /// The group that it is of, or that it lies behind without being a node.
    pub speaks_for: u32,
}
const _: () = assert!(size_of::<Routed>() == 8);
