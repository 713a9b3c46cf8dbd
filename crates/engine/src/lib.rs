//! Packet → verdict, with no I/O.
//!
//! The same source is built for BPF (by the `ebpf` crate) and for the host (by
//! `bulkhead eval` and the tests). Everything outside a packet — tables, flows, the
//! clock, settings — is reached through the [`Environment`] trait.
#![cfg_attr(not(any(test, feature = "std")), no_std)]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

mod budget;
mod case;
#[cfg(any(test, feature = "std"))]
pub mod change;
mod decide;
mod errors;
pub mod exact;
mod flow;
pub mod flow_table;
mod forgotten;
mod fragment;
mod link;
mod membership;
#[cfg(any(test, feature = "std"))]
pub mod memory;
mod packet;
pub mod parse;
mod plain;
mod rate;
pub mod report;
mod tables;
mod untracked;

pub use bulkhead_abi::{Action, Reason};

pub use budget::{Budget, Fund, Sharer, is_of_known_sender};
pub use case::{Case, Outcome, Sides};
pub use decide::{decide, decide_parsed, local_check, reply};
pub use errors::MISS_WORDS;
pub use flow::admit;
pub use forgotten::{ANSWER_WORDS, forgotten};
pub use link::is_ptp_group;
pub use packet::{Packet, opaque};
pub use plain::{Judged, Short, judge_plain, plain_ends};
pub use rate::RateState;
pub use tables::{Environment, Judgement, judge, leaf_of};
pub use untracked::{End, SocketState, untracked};
