//! A fleet's broker: real servers, real credentials.
//!
//! How many hosts there are is in the environment (`cargo xtask soak`); by default few, so that all of this takes less
//! than a minute.

#![allow(clippy::unwrap_used)] // helpers of a test are a test

mod answers;
mod deltas;
mod enrolments;
mod evidence;
mod fleet;
mod leaves;
mod outages;
mod raw;
mod rights;
mod site;
mod swarm;
