//! What an intruder or a careless operator would try, packet by packet, against the engine
//! over tables made by hand.

#![allow(clippy::unwrap_used)] // helpers of a test are a test

mod ends;
mod fast_path;
mod flows;
mod forgotten;
mod fragments;
mod generations;
mod icmp;
mod packets;
mod rejected;
mod tls;
mod tls_datagrams;
mod tls_ways_around;
mod untracked;
mod workloads;
mod world;
