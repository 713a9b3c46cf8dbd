//! Who may send from a workload's address, and what is said between workloads of this host on `lo`.

use bulkhead_abi::{Direction, Leaf, Workload, recall};

use crate::metadata::Sides;
use crate::parse::{Headers, Role};
use crate::{Environment, Reason};

/// Who hands over a packet that leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// A socket that is not the kernel's, or nobody of this host: the packet is forwarded.
    Other,
    /// The kernel itself, which answers for sockets that are gone or were never there.
    Kernel,
    /// A packet socket (`AF_PACKET`): it may write any source.
    PacketSocket,
}

/// Whether a packet may leave from the address that it has as its source, whose local class is `local`. What the kernel
/// sends by itself begins nothing: it answers, resets or tells of an error.
///
/// # Errors
/// [`Reason::WorkloadSpoofed`]; [`Reason::LookupFailed`] if the table does not know the class.
#[inline(always)]
pub(crate) fn may_send(env: &impl Environment, local: u32, is_answer: bool) -> Result<(), Reason> {
    let Some(workload) = env.workload(local) else {
        return Err(Reason::LookupFailed);
    };
    // Of packet sockets nobody's cgroup programs look at what they send: not even as the host may a workload speak so.
    if env.sender() == Sender::PacketSocket {
        return Err(Reason::WorkloadSpoofed);
    }
    if !workload.is_some() || env.ancestor(workload.level) == workload.cgroup {
        return Ok(());
    }
    if is_answer && env.sender() == Sender::Kernel { Ok(()) } else { Err(Reason::WorkloadSpoofed) }
}
