//! The kernel side: builds generations, attaches and swaps them, pins everything.

mod addresses;
mod answers;
mod attach;
mod batch;
mod bpffs;
mod cgroups;
mod chain;
pub mod conntrack;
mod device;
mod direct;
mod dump;
pub mod fake;
mod fill;
mod flows;
mod generation;
mod grace;
mod group;
mod hashed;
mod hook;
mod interface;
mod kernel;
mod link;
mod links;
mod mapped;
mod migrate;
mod object;
mod orphaned_events;
mod outward;
mod pins;
mod plane;
mod probe;
mod programs;
mod quarantine;
mod read_back;
mod refusal;
mod running;
mod seed;
mod shape;
mod specification;
mod state;
mod support;
mod syscall;
mod tables;
mod value;

pub use answers::Answers;
pub use attach::{attach, attached_hooks, detach};
pub use bulkhead_abi::{Capacity, DEFAULT_NEW_FLOWS, default_timeouts, per_second};
pub use bulkhead_api::hook::{Attached, Fault, Hook, Kind, RunningLink};
pub use bulkhead_api::status::Losses;
pub use cgroups::{
    CgroupFault, CgroupHook, CgroupLinks, CgroupSet, CgroupSpecification, Place, WorkloadAddresses,
};
pub use device::{DEVICE_GROUP, Device, Devices, Port, name_of};
pub use flows::{FlowTable, Importer};
pub use generation::Generation;
pub use grace::wait_for_programs;
pub use group::{Group, Specialisation};
pub use interface::Interface;
pub use kernel::{Kernel, KernelTables};
pub use links::Links;
pub use migrate::Migration;
pub use object::OBJECT;
pub use orphaned_events::{OrphanedEvents, Unreadable};
pub use pins::{CHAIN_MAPS, Pins, STAGED_MAPS, STATE_MAPS, TABLE_MAPS};
pub use plane::{Dataplane, DeviceTable, HookLinks, LoadedTables, Seeded, StateMigration};
pub use probe::is_realtime;
pub use quarantine::{ADMITS_NOTHING, AddressTables, QuarantineError, quarantine_tables, replace_leaves};
pub use read_back::{HeldProgram, Inside, Stranger, held_programs, held_settings, held_tables};
pub use running::running;
pub use seed::{Connection, FORWARDED_GRACE, connections, flow_clock, seed};
pub use shape::check_pinned_state;
pub use specification::{Specification, Staged};
pub use state::{ByReason, State, rewrite_deadlines, rule_counters, staged_counters, tls_counters};
pub use support::check_support;

/// Why the kernel side refused. Nothing has been attached or changed by what failed.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The interface is not there.
    #[error("interface {0}: not found in this network namespace; `ip link` lists what is there")]
    NoInterface(String),
    /// The interface's link layer is one that is not parsed.
    #[error(
        "interface {name}: its link type {link_type} is neither Ethernet nor bare IP; choose a WireGuard, TUN or Ethernet interface"
    )]
    LinkType {
        /// The interface.
        name: String,
        /// `ARPHRD_` number from the kernel.
        link_type: u16,
    },
    /// The process may not use BPF.
    #[error("no privilege to load BPF programs: run as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON")]
    Privilege,
    /// The kernel lacks a feature.
    #[error("this kernel ({release}) lacks {feature}: {needed}")]
    Feature {
        /// `uname -r`.
        release: String,
        /// What is missing.
        feature: &'static str,
        /// Where it can be had.
        needed: &'static str,
    },
    /// The kernel's verifier refuses a program.
    #[error(
        "this kernel ({release}) refuses program {program}: {reason}; docs/guide/kernels.md names kernels that take it, and `RUST_LOG=debug` shows all that the verifier says"
    )]
    Verifier {
        /// `uname -r`.
        release: String,
        /// The program's name in the object.
        program: String,
        /// The verifier's reason, in its words.
        reason: String,
    },
    /// The BPF file system is not usable.
    #[error("{path}: {problem}")]
    BpfFs {
        /// The path tried.
        path: String,
        /// What is wrong and what to do.
        problem: String,
    },
    /// Another XDP program is attached.
    #[error(
        "interface {0}: another XDP program is attached; remove it (`ip link set dev {0} xdp off`) or use --hook tcx"
    )]
    XdpBusy(String),
    /// A TCX hook has no place left.
    #[error(
        "interface {interface}: {hook}: other programs have all of the hook's 63 places; remove one of them (`bpftool net` lists them)"
    )]
    HookFull {
        /// The interface.
        interface: String,
        /// The hook's name.
        hook: &'static str,
    },
    /// Pinned objects are not of this layout.
    #[error("{path}: a pinned map of another shape: {problem}; next: {advice}")]
    PinnedLayout {
        /// The pin.
        path: String,
        /// The difference.
        problem: String,
        /// What to do.
        advice: String,
    },
    /// An agent of another map ABI has attached to a hook that this one does not know.
    #[error(
        "interface {interface}: an agent of layout {version} has attached to {hook}, which this one does not know; what it enforces stays: run that agent, or `bulkhead detach`, which ends enforcement, before this one"
    )]
    OtherLayout {
        /// The other layout's version.
        version: u32,
        /// The interface.
        interface: String,
        /// The hook's name.
        hook: String,
    },
    /// Any other refusal of the kernel.
    #[error("{what}")]
    Refused {
        /// What was tried.
        what: String,
        /// The kernel's or library's words.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl KernelError {
    /// A refusal, with what was tried.
    pub fn refused<E>(what: impl Into<String>) -> impl FnOnce(E) -> Self
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        let what = what.into();
        move |source| Self::Refused { what, source: Box::new(source) }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::KernelError;

    #[test]
    fn the_kernels_words_are_told_once() {
        let refused = KernelError::refused("interface x: asking")(io::Error::from_raw_os_error(libc::EEXIST));
        let told = format!("{:#}", anyhow::Error::from(refused));
        assert_eq!(told, "interface x: asking: File exists (os error 17)");
    }
}
