//! What tests, the demo and the benchmarks stand in: a laboratory of hosts in network namespaces, packets, how
//! the cost of a packet is measured, and workloads for the compiler.

pub mod lab;
pub mod measure;
pub mod nats;
pub mod packets;
pub mod workload;

mod setting;
mod ssh_agent;

pub use setting::setting;
pub use ssh_agent::SshAgent;
