//! How flows began, counted by rule.

/// Counters of one rule.
pub const TLS_COUNTS: u32 = 3;
/// Flows whose server began as TLS.
pub const TLS_BEGAN: u32 = 0;
/// Flows of which either end began otherwise.
pub const TLS_PLAINTEXT: u32 = 1;
/// Flows whose beginning was not seen, or could not be read.
pub const TLS_UNVERIFIED: u32 = 2;

/// The entry of a counter of a rule in the table of these counters, one an entry and CPU.
#[inline(always)]
#[must_use]
pub const fn tls_index(rule: u32, counter: u32) -> u32 {
    rule.wrapping_mul(TLS_COUNTS).wrapping_add(counter)
}

/// How flows of one rule began, all CPUs together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TlsCounts {
    /// Flows whose server began as TLS.
    pub began: u64,
    /// Flows of which either end began otherwise.
    pub plaintext: u64,
    /// Flows whose beginning was not seen, or could not be read.
    pub unverified: u64,
}
