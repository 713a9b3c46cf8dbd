//! Row × port class → cell: what the policy says.

/// No rule matches: the default, deny.
pub const CELL_NONE: u8 = 0;
/// An accept rule decides.
pub const CELL_ALLOW: u8 = 1;
/// A deny rule decides.
pub const CELL_DENY: u8 = 2;
/// A venue's default deny decides: the packet is between its addresses and this side, and in none of its lanes.
pub const CELL_DEFAULT_DENY: u8 = 3;

/// Flag of a cell: what it admits is one-way and starts no flow; no reply will pass.
pub const CELL_ONE_WAY: u8 = 1;
/// Flag of a cell: a management exemption, which quarantine does not touch.
pub const CELL_EXEMPT: u8 = 1 << 1;
/// Flag of a cell: how what it admits begins is compared with TLS.
pub const CELL_TLS: u8 = 1 << 2;
/// Flag of a cell: what does not begin as TLS is dropped. Together with [`CELL_TLS`].
pub const CELL_TLS_REQUIRED: u8 = 1 << 3;
/// Flag of a cell: PostgreSQL's SSLRequest may come first. Together with [`CELL_TLS`].
pub const CELL_TLS_POSTGRES: u8 = 1 << 4;
/// Flag of a cell that admits nothing: whoever begins a conversation is told that it is not admitted.
pub const CELL_REJECT: u8 = 1 << 5;
/// Flag of a cell that denies: link protocols between the same addresses are denied as well. What admits nothing is
/// not one-way, so that the bit is free there.
pub const CELL_CLOSED: u8 = CELL_ONE_WAY;

/// The rule number of a cell that no rule decides.
pub const NO_RULE: u32 = u32::MAX;

/// How many expired cells in a row are skipped before the packet is dropped. The compiler
/// refuses policies that would need more.
pub const MAX_EXPIRY_CHAIN: u32 = 8;

/// One cell.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cell {
    /// Number of the deciding rule, from 0, or [`NO_RULE`].
    pub rule: u32,
    /// Index of the cell that decides once this one has expired. Meaningful if `deadline` is not 0.
    pub next: u32,
    /// Index into the table of deadlines (boot time, ns); 0: the cell does not expire.
    pub deadline: u16,
    /// Index into the table of rate limits ([`super::RateLimit`]); 0: none.
    pub limit: u16,
    /// [`CELL_NONE`], [`CELL_ALLOW`], [`CELL_DENY`] or [`CELL_DEFAULT_DENY`].
    pub action: u8,
    /// `CELL_` flags.
    pub flags: u8,
    /// Zero.
    pub reserved: [u8; 2],
}
const _: () = assert!(size_of::<Cell>() == 16);

impl Cell {
    /// The default cell: no rule, deny.
    pub const NONE: Self =
        Self { rule: NO_RULE, next: 0, deadline: 0, limit: 0, action: CELL_NONE, flags: 0, reserved: [0; 2] };

    /// A cell that `rule` decides with `action`, without expiry or limit.
    #[must_use]
    pub const fn new(rule: u32, action: u8) -> Self {
        Self { rule, next: 0, deadline: 0, limit: 0, action, flags: 0, reserved: [0; 2] }
    }
}
