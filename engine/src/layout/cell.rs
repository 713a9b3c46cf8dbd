//! Row × port class → cell: what the policy says.

/// No rule matches: the default, deny.
pub const CELL_NONE: u8 = 0;
/// An accept rule decides.
pub const CELL_ALLOW: u8 = 1;
/// A deny rule decides.
pub const CELL_DENY: u8 = 2;

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
    /// Index into the table of rate limits; 0: none.
    pub limit: u16,
    /// [`CELL_NONE`], [`CELL_ALLOW`] or [`CELL_DENY`].
    pub action: u8,
    /// Zero.
    pub reserved: [u8; 3],
}
const _: () = assert!(size_of::<Cell>() == 16);

impl Cell {
    /// The default cell: no rule, deny.
    pub const NONE: Self =
        Self { rule: NO_RULE, next: 0, deadline: 0, limit: 0, action: CELL_NONE, reserved: [0; 3] };

    /// A cell that `rule` decides with `action`, without expiry or limit.
    #[must_use]
    pub const fn new(rule: u32, action: u8) -> Self {
        Self { rule, next: 0, deadline: 0, limit: 0, action, reserved: [0; 3] }
    }
}
