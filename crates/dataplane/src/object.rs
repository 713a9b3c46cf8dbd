//! The BPF object.

use super::KernelError;

/// The BPF object, built with this binary.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/bulkhead-ebpf"));

/// The object of the programs on cgroups.
pub(super) static CGROUP_OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/bulkhead-cgroups"));

/// What the object lacks.
pub(super) fn missing(name: &str) -> KernelError {
    KernelError::Refused { what: format!("generation: {name}"), source: "not in the BPF object".into() }
}
