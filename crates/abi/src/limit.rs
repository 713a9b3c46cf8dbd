//! Rates: GCRA, the generic cell rate algorithm (ITU-T I.371), in its virtual scheduling form.

/// One rate: how far apart units come at the rate, and how much earlier than that they may come.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Rate {
    /// ns between two units at the rate; 0: no limit.
    pub interval: u64,
    /// ns that the schedule may run ahead of the clock: the burst, in units of `interval`.
    pub tolerance: u64,
}

/// What a rule allows a second.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RateLimit {
    /// Packets that it admits; a merged packet counts as its segments.
    pub packets: Rate,
    /// Flows that it lets begin.
    pub new_flows: Rate,
}
const _: () = assert!(size_of::<RateLimit>() == 32);
