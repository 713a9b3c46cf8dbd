//! Why a policy that holds cannot be compiled for a node.

/// Why not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// No such node.
    #[error("the inventory has no node \"{name}\"{}", suggestion.as_ref().map(|s| format!(" ({s})")).unwrap_or_default())]
    UnknownNode {
        /// The name asked for.
        name: String,
        /// A name that is close.
        suggestion: Option<String>,
    },
    /// A workload has no tables of its own.
    #[error("{name} is a workload: it has no tables of its own; name {host}, the host that it is on")]
    Workload {
        /// The name asked for.
        name: String,
        /// Its host.
        host: String,
    },
    /// A number that the layouts cannot hold.
    #[error(
        "{what}: {count} are needed for this node, the tables hold {limit}; use fewer distinct selectors, ports or expiry times"
    )]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many are needed, at least.
        count: u64,
        /// How many there can be.
        limit: u64,
    },
    /// The tables would be too large.
    #[error(
        "{what} of this node would take more than the memory budget of {budget} bytes: {detail}; raise table_memory_mib in agent.toml, or use fewer distinct selectors or addresses that lie together"
    )]
    Budget {
        /// Which table.
        what: &'static str,
        /// Its size, worked out.
        detail: String,
        /// The budget.
        budget: u64,
    },
    /// One table would be too large for the programs.
    #[error(
        "{what} of this node would take at least {bytes} bytes, and programs address no more than {limit} of a table; use fewer distinct selectors or addresses that lie together"
    )]
    TableTooLarge {
        /// Which table.
        what: &'static str,
        /// Its size, at least.
        bytes: u64,
        /// The most.
        limit: u64,
    },
    /// Addresses that the hash does not tell apart. By chance it does not happen.
    #[error(
        "{count} single addresses: too many of them have the same hash for any size of their table; was somebody free to choose addresses of the inventory?"
    )]
    Collision {
        /// How many addresses there are.
        count: usize,
    },
    /// Too many expiring rules behind one another.
    #[error(
        "{rule}: more than {limit} expiring rules decide one after another for the same packets; remove expired ones"
    )]
    ExpiryChain {
        /// The rule at which it was found.
        rule: String,
        /// The limit.
        limit: u32,
    },
}
