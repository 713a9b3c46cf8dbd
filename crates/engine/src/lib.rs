//! Packet → verdict, with no I/O.
//!
//! The same source is built for BPF (by the `ebpf` crate) and for the host (by
//! `bulkhead eval` and the tests). Everything outside a packet — tables, flows, the
//! clock, settings — is reached through the [`Environment`] trait.
#![cfg_attr(not(any(test, feature = "std")), no_std)]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

mod budget;
mod calls;
#[cfg(any(test, feature = "std"))]
pub mod change;
mod decide;
mod environment;
mod errors;
mod fast_path;
mod flow;
pub mod flow_table;
mod forgotten;
mod fragment;
pub mod host_table;
mod judgement;
mod limits;
mod link;
mod membership;
#[cfg(any(test, feature = "std"))]
pub mod memory;
mod metadata;
mod multicast;
mod packet;
pub mod parse;
mod rate;
mod rejected;
mod reply;
pub mod report;
#[cfg(any(test, feature = "std"))]
mod sender;
mod sides;
mod socket;
mod tables;
mod tls;
mod untracked;
mod workload;

pub use bulkhead_abi::{Action, Reason};

pub use budget::{Budget, Fund, Sharer, is_of_known_sender};
pub use calls::Calls;
pub use decide::{decide, decide_parsed};
pub use environment::{Answer, Environment};
pub use errors::MISS_WORDS;
pub use fast_path::{FastPath, Judged, fast_path, plain_ends};
pub use flow::admit;
pub use forgotten::{ANSWER_WORDS, forgotten};
pub use judgement::Judgement;
pub use metadata::{Metadata, Outcome, Sides};
pub use multicast::is_ptp_group;
pub use packet::{Packet, opaque};
pub use rate::RateState;
pub use rejected::rejected;
pub use reply::reply;
pub use sides::local_check;
pub use socket::{End, SocketState, begun};
pub use tables::{judge, leaf_of};
pub use tls::{Beginning, begins, compare, look_up_either};
pub use untracked::untracked;
