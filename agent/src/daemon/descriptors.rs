//! How many descriptors the process may have open.

use bulkhead_host::spare;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit of open descriptors to the hard one: the soft one is kept low for programs
/// that use select(2), and this is none. Some are kept in reserve from the first moment on. A refusal is told; what needs more says so itself.
pub fn raise_limit() {
    spare::keep();
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::warn!("the limit of open descriptors stays low: {error}");
    }
}
