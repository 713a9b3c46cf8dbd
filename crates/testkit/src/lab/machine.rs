//! What the environment says of the machine.

use std::time::Duration;

use crate::setting;

/// A limit for this machine: `BULKHEAD_SLOWER` times as long, where a machine is emulated. For waits that end
/// as soon as what is waited for is there.
#[must_use]
pub fn slower(limit: Duration) -> Duration {
    limit * u32::try_from(setting("BULKHEAD_SLOWER", 1)).unwrap_or(u32::MAX)
}

/// Whether tunnels are to be the kernel's own WireGuard (`BULKHEAD_WIREGUARD=kernel`), for kernels that have it;
/// else they are `bulkhead tunnel`'s.
pub(super) fn has_wireguard() -> bool {
    std::env::var("BULKHEAD_WIREGUARD").is_ok_and(|value| value == "kernel")
}

/// Whether this kernel must have every kind of interface that is shown (`BULKHEAD_LINKS=all`): a guest whose
/// modules are ours. Else what has none is not shown.
#[must_use]
pub fn has_all_links() -> bool {
    std::env::var("BULKHEAD_LINKS").is_ok_and(|value| value == "all")
}
