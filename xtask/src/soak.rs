//! `cargo xtask soak`: the long forms of tests that are short in `cargo xtask test`.

use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::process::run_within;
use crate::{cargo, demo, setup};

/// Bound on compiling, on the slowest machine the project knows (two cores).
const BUILD_LIMIT: Duration = Duration::from_secs(30 * 60);

/// Bound on one proof.
const RUN_LIMIT: Duration = Duration::from_secs(3 * 60 * 60);

/// Hosts of a fleet that are measured, unless the environment has another number.
const HOSTS: u8 = 50;

/// Arguments of `soak`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// What to run; all, one after the other, if none is named. Sizes are in the environment:
    /// BULKHEAD_SWAPS, BULKHEAD_KILLS, BULKHEAD_MEDDLINGS, BULKHEAD_CONVERSATIONS, BULKHEAD_FLOWS,
    /// BULKHEAD_PACKETS, BULKHEAD_FEED, BULKHEAD_BITS, BULKHEAD_DENIED, BULKHEAD_ATTEST, BULKHEAD_BYPASSES,
    /// BULKHEAD_AGENTS, BULKHEAD_PLAIN_AGENTS, BULKHEAD_NODES, BULKHEAD_SENDERS, BULKHEAD_OUTAGE, BULKHEAD_HOSTS;
    /// BULKHEAD_SEED repeats a failure.
    proofs: Vec<Proof>,
}

/// What is proven.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Proof {
    /// 1,000 swaps of the generation under traffic.
    Swaps,
    /// 200 times the agent is killed, most within a change.
    Kills,
    /// 1,000 times what is enforced is meddled with, under traffic.
    Meddlings,
    /// 1,000 open conversations of each of four kinds, whose flows are lost.
    Conversations,
    /// 10 million new flows beside 10,000 idle conversations.
    Flows,
    /// 10 million packets, in the kernel as on the host.
    Differential,
    /// Ten minutes of a feed by multicast beside hundreds of groups of no feed.
    Feed,
    /// 10,000 single bits of live maps, each found or shown to mean nothing.
    Bits,
    /// 10 million denied packets of 100,000 sources.
    Flood,
    /// 10,000 attempts of 20 workloads to be somebody else, judged by what their peer gets.
    Workloads,
    /// 1,000 hosts with TLS and 5,000 without on three NATS servers, which are gone for ten minutes; 100,000 nodes;
    /// evidence of 500.
    Broker,
    /// 50 hosts of a fleet with an agent each: from `publish` to the first packet that each drops.
    Latency,
}

impl Proof {
    const ALL: [Self; 12] = [
        Self::Swaps,
        Self::Kills,
        Self::Meddlings,
        Self::Conversations,
        Self::Flows,
        Self::Differential,
        Self::Feed,
        Self::Bits,
        Self::Flood,
        Self::Workloads,
        Self::Broker,
        Self::Latency,
    ];

    /// The test binary, and the filter of its tests; none for what is no test.
    fn test(self) -> Option<(&'static str, &'static str)> {
        Some(match self {
            Self::Latency => return None,
            Self::Swaps => ("lifecycle", "endurance::swaps"),
            Self::Kills => ("lifecycle", "endurance::kills"),
            Self::Meddlings => ("lifecycle", "endurance::meddling"),
            Self::Conversations => ("lifecycle", "conversations"),
            Self::Flows => ("flows", ""),
            Self::Feed => ("lifecycle", "feed::"),
            Self::Bits => ("lifecycle", "read_back::bits"),
            Self::Flood => ("lifecycle", "flood::sources"),
            Self::Workloads => ("lifecycle", "workloads::random"),
            Self::Broker => ("broker", ""),
            Self::Differential => ("differential", "the_kernel_decides_as_the_engine_does"),
        })
    }

    /// The package of the test binary.
    fn package(self) -> &'static str {
        match self {
            Self::Broker => "bulkhead-channel",
            _ => "bulkhead-tests",
        }
    }

    /// Sizes, unless the environment has others.
    fn sizes(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Swaps => &[("BULKHEAD_SWAPS", "1000"), ("BULKHEAD_PAUSE", "20")],
            Self::Kills => &[("BULKHEAD_KILLS", "200"), ("BULKHEAD_PAUSE", "20")],
            Self::Meddlings => &[("BULKHEAD_MEDDLINGS", "1000")],
            Self::Conversations => &[("BULKHEAD_CONVERSATIONS", "1000")],
            Self::Flows => &[("BULKHEAD_FLOWS", "10000000"), ("BULKHEAD_IDLE", "10000")],
            Self::Feed => &[("BULKHEAD_FEED", "600")],
            Self::Bits => &[("BULKHEAD_BITS", "10000")],
            // A tenth of a core.
            Self::Flood => {
                &[("BULKHEAD_DENIED", "10000000"), ("BULKHEAD_CORE", "100"), ("BULKHEAD_ATTEST", "30")]
            }
            Self::Workloads => &[("BULKHEAD_BYPASSES", "10000")],
            Self::Broker => &[
                ("BULKHEAD_AGENTS", "1000"),
                ("BULKHEAD_PLAIN_AGENTS", "5000"),
                ("BULKHEAD_NODES", "100000"),
                ("BULKHEAD_SENDERS", "500"),
                ("BULKHEAD_OUTAGE", "600"),
            ],
            Self::Differential => &[("BULKHEAD_PACKETS", "10000000")],
            Self::Latency => &[],
        }
    }
}

/// Sets the machine up, builds agent and tests as they ship, proves.
pub fn run(arguments: &Arguments) -> Result<()> {
    setup::require_root("soak")?;
    setup::ensure()?;
    // The end-to-end tests start the `bulkhead` binary, which `cargo test` alone does not build.
    run_within(BUILD_LIMIT, cargo::command().args(["build", "--release", "--package", "bulkhead"]))?;
    let proofs = if arguments.proofs.is_empty() { &Proof::ALL[..] } else { &arguments.proofs };
    for proof in proofs {
        let Some((test, filter)) = proof.test() else {
            let hosts = std::env::var("BULKHEAD_HOSTS").map_or(Ok(HOSTS), |hosts| hosts.parse())?;
            demo::latency(&cargo::workspace().join("target/release/bulkhead"), hosts)
                .with_context(|| format!("{proof:?} is not proven"))?;
            continue;
        };
        let command = || {
            let mut command = cargo::command();
            command.args(["test", "--release", "--package", proof.package(), "--test", test]);
            command
        };
        run_within(BUILD_LIMIT, command().arg("--no-run"))?;
        let mut command = command();
        for (name, size) in proof.sizes().iter().filter(|(name, _)| std::env::var_os(name).is_none()) {
            command.env(name, size);
        }
        // One after the other, so that each has the machine.
        command.args(["--", filter, "--nocapture", "--test-threads=1"]);
        run_within(RUN_LIMIT, &mut command).with_context(|| format!("{proof:?} is not proven"))?;
    }
    Ok(())
}
