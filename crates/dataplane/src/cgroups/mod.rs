//! Programs on cgroups, which hold workloads to their own overlay addresses and everybody else off these.
//!
//! One [`CgroupSet`] is for one list of workloads and addresses: programs, specialised for the host and for each
//! workload, and the maps that they share. [`CgroupLinks`] are what is attached. The next set takes a link over by one
//! atomic update, as the next generation does a link of an interface.

mod held;
mod hook;
mod links;
mod load;
mod netns;
mod set;
mod specification;
#[cfg(test)]
mod tests;

pub use hook::CgroupHook;
pub use links::{CgroupFault, CgroupLinks, Place};
pub use set::CgroupSet;
pub use specification::{CgroupSpecification, WorkloadAddresses};
