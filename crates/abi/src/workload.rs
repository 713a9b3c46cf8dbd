//! Local class → which cgroup may send from its addresses.

/// Whose the addresses of a local class are. The agent changes [`Self::cgroup`] in place, by one store, while programs
/// read; before it changes the level it stores [`Self::NOBODY`] there.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Workload {
    /// 0: the class is no workload's. [`Self::NOBODY`]: a workload that does not run. Else the id of the cgroup (as
    /// `bpf_skb_ancestor_cgroup_id` gives it) whose sockets, and those of cgroups below it, may send.
    pub cgroup: u64,
    /// How far below the root that cgroup lies; the root is at 0.
    pub level: u32,
    /// Which of the node's workloads it is, from 0, in the order of the compiled program; 0 where it is none's.
    pub number: u32,
}
const _: () = assert!(size_of::<Workload>() == 16);

impl Workload {
    /// The class is no workload's.
    pub const NONE: Self = Self { cgroup: 0, level: 0, number: 0 };
    /// Where a cgroup's id would be: nobody may send. No cgroup has this id.
    pub const NOBODY: u64 = u64::MAX;

    /// A workload that does not run, or of which it is not yet known.
    #[must_use]
    pub const fn not_running(number: u32) -> Self {
        Self { cgroup: Self::NOBODY, level: 0, number }
    }

    /// The same, as it is before the agent says which cgroup it is.
    #[must_use]
    pub const fn without_cgroup(self) -> Self {
        if self.is_some() { Self::not_running(self.number) } else { self }
    }

    /// Whether the class is a workload's.
    #[inline(always)]
    #[must_use]
    pub const fn is_some(self) -> bool {
        self.cgroup != 0
    }
}
