//! The groups: what is measured, each in a module of its own.

mod compile;
mod decision;
mod drop;
mod events;
mod forward;
mod quarantine;
mod scale;
mod swap;
mod tunnel;

use std::time::Instant;

use anyhow::{Context as _, Result};

use crate::figure::Report;
use crate::machine::Stolen;

/// What is measured together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Group {
    /// What a decision costs, path by path, by BPF_PROG_TEST_RUN.
    Decision,
    /// How many packets a core drops at native XDP.
    Drop,
    /// What a filter adds to a packet that it lets through.
    Forward,
    /// TCP and UDP through a tunnel, with Bulkhead and without.
    Tunnel,
    /// From files to tables.
    Compile,
    /// From a change to its being enforced.
    Swap,
    /// From asking for a quarantine to the first packet cut.
    Quarantine,
    /// A flood of distinct drops, from silent to everything reported.
    Events,
    /// How everything grows.
    Scale,
}

/// How long and how often.
#[derive(Clone, Debug)]
pub struct Effort {
    /// Few and short rounds.
    pub quick: bool,
    /// The `bulkhead` binary, as it ships.
    pub bulkhead: std::path::PathBuf,
}

impl Effort {
    /// One of two numbers.
    #[must_use]
    pub const fn pick<T: Copy>(&self, quick: T, full: T) -> T {
        if self.quick { quick } else { full }
    }
}

impl Group {
    /// Its name, as it is asked for.
    #[must_use]
    pub fn name(self) -> String {
        clap::ValueEnum::to_possible_value(&self)
            .map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// What it measures and how, for the page.
    #[must_use]
    pub const fn about(self) -> &'static str {
        match self {
            Self::Decision => {
                "What a packet costs in the program, by path. BPF_PROG_TEST_RUN of the agent's own programs, a random one of \
                 the addresses in every packet, less the driver's own time with an empty program behind it; nothing is \
                 reported (`event_budget` 0). `lru` is one look-up in an LRU hash of as many entries with a key of 40 bytes, \
                 without making the key. `lpm` is address LPM, then policy LPM, in the layouts that Cilium documents \
                 (ipcache, policy): one look-up in each, no parser, no connection tracking."
            }
            Self::Drop => {
                "Native XDP on a veth, live frames of UDP; one core sends and receives, so the sender's part is in every \
                 figure. The receiving end's counter says how many came."
            }
            Self::Forward => {
                "TCP packets as skbs on a veth, 131,072 senders at random. Behind every filter is the same end, a chain that \
                 counts and drops: what it counts came through the filter. Filters are at the earliest place they have: \
                 Bulkhead at TCX, nftables at the device's ingress, iptables in raw PREROUTING."
            }
            Self::Tunnel => {
                "WireGuard in userspace (boringtun over TUN) between two network namespaces; the programs are put on both \
                 ends and taken off between rounds."
            }
            Self::Compile => "Policy and inventory, as text, to one node's tables.",
            Self::Swap => {
                "A generation of 100,000 identities takes another's place under traffic from known senders and from \
                 strangers, each counted where it ends."
            }
            Self::Quarantine => "One of 100,000 identities is cut off while it sends.",
            Self::Events => {
                "Every drop is of a kind of its own, which is the worst there is; the agent's reader empties the ring \
                 between bursts. Drops = events + aggregates + counted losses."
            }
            Self::Scale => {
                "Growth with identities, rules and flows. Memory is what the kernel says that the maps hold."
            }
        }
    }

    /// Measures it.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn run(self, effort: &Effort, report: &mut Report) -> Result<()> {
        let (start, stolen) = (Instant::now(), Stolen::now());
        match self {
            Self::Decision => decision::run(effort, report),
            Self::Drop => drop::run(effort, report),
            Self::Forward => forward::run(effort, report),
            Self::Tunnel => tunnel::run(effort, report),
            Self::Compile => compile::run(effort, report),
            Self::Swap => swap::run(effort, report),
            Self::Quarantine => quarantine::run(effort, report),
            Self::Events => events::run(effort, report),
            Self::Scale => scale::run(effort, report),
        }
        .with_context(|| format!("group {}", self.name()))?;
        report.compare();
        report.stolen.push((self.name(), Stolen::now().part_since(stolen)));
        report.seconds.push((self.name(), start.elapsed().as_secs_f64()));
        Ok(())
    }
}
