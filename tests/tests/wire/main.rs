//! What only a real path shows: packets that are too long for it, datagrams in fragments, readers
//! that do not read, packets that no test run takes, programs that are not reached.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

#[path = "../site/mod.rs"]
mod site;

#[path = "../kernel/mod.rs"]
mod kernel;

mod errors;
mod fragments;
mod full;
mod path_mtu;
mod raw;
mod refused;
mod tun;
