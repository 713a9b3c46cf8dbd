//! Workloads: how they are written, who they are to rules, and what one host's tables make of them.

#![allow(clippy::unwrap_used)] // helpers of a test are a test

#[path = "../common/mod.rs"]
mod common;
mod inventory;
mod packets;
mod rules;
mod tables;
