//! TLS at this host's service ports: what rules want there, who listens, and what was seen. Pure, but for cgroups.

mod admitted;
mod cgroups;
mod coverage;
mod listening;

#[cfg(test)]
mod tests;

pub use self::admitted::Admitted;
pub use self::coverage::{Counts, ports};
pub use self::listening::{Host, Listening, Workload, listening, name};
