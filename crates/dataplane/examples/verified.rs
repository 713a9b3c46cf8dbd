//! Loads every specialisation of the programs and prints how many instructions the verifier
//! followed for it, of the million that it allows. Needs root. Run by `cargo xtask build --stats`.
//! `RUST_LOG=debug` shows what a verifier says that refuses one.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use bulkhead_abi::{
    CELL_EXEMPT, CELL_TLS, LINK_IGMP, Leaf, LpmKey, Rate, RateLimit, Routed, TIMEOUTS, Timeouts, Workload,
};
use bulkhead_dataplane::{
    CgroupSet, CgroupSpecification, Generation, Hook, KernelError, Kind, Pins, Specialisation, Specification,
    Staged, WorkloadAddresses,
};
use bulkhead_engine::memory::Tables;

/// What a policy uses.
#[derive(Clone, Copy)]
struct Uses {
    name: &'static str,
    everything: bool,
    staged: bool,
    audit: bool,
    realtime: bool,
}

const PLAIN: Uses = Uses { name: "plain", everything: false, staged: false, audit: false, realtime: false };

const USES: [Uses; 7] = [
    PLAIN,
    Uses { name: "audit", audit: true, ..PLAIN },
    Uses { name: "everything", everything: true, ..PLAIN },
    Uses { name: "everything, audit", everything: true, audit: true, ..PLAIN },
    Uses { name: "everything, staged", everything: true, staged: true, ..PLAIN },
    Uses { name: "real time", everything: true, realtime: true, ..PLAIN },
    Uses { name: "real time, staged", everything: true, staged: true, realtime: true, ..PLAIN },
];

fn tables(everything: bool) -> Tables {
    let mut tables = Tables::deny_all();
    if everything {
        tables.prefixes6.push((LpmKey { prefix: 64, address: [1, 0, 0, 0] }, Leaf::default()));
        tables.routes.push((LpmKey { prefix: 120, address: [0; 4] }, Routed::default()));
        tables.limits.push(RateLimit::default());
        tables.cells[0].flags = CELL_EXEMPT | CELL_TLS;
        tables.groups = true;
        tables.workloads[1] = Workload::not_running(0);
    }
    tables
}

/// The programs on cgroups, of a host with one workload.
fn on_cgroups() -> Result<Vec<(String, u32)>, KernelError> {
    let base = PathBuf::from(format!("/sys/fs/bpf/bulkhead-verified-{}", std::process::id()));
    let address = |text: &str| text.parse().expect("an address");
    let addresses = vec![address("100.64.9.1"), address("fd7a::9:1")];
    let specification = CgroupSpecification {
        workloads: vec![WorkloadAddresses { name: "host/engine".to_owned(), addresses }],
        host: vec![address("100.64.0.1")],
        overlay: vec![(address("100.64.0.0"), 10)],
        refuse_bypass_to_all: true,
        ..CgroupSpecification::default()
    };
    let set = CgroupSet::load(specification, &Pins::new(&base, "verified"));
    let _ = std::fs::remove_dir_all(base);
    set.map(|set| set.verified())
}

fn main() -> ExitCode {
    let level = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt().with_env_filter(level).with_writer(std::io::stderr).init();
    let mut refused = false;
    println!("{:<10} {:<20} {:<12} {:>12} {:>8}", "interface", "uses", "program", "verified", "ms");
    for kind in [Kind::BareIp, Kind::Ethernet] {
        for uses in USES {
            let tables = tables(uses.everything);
            let specification = Specification {
                audit: uses.audit,
                realtime: uses.realtime,
                staged: uses.staged.then_some(Staged { number: 2, tables: &tables }),
                new_flows: Rate { interval: u64::from(uses.everything) * 1_000_000, tolerance: 1 },
                forwarded_until: uses.everything.into(),
                ..Specification::new(1, &tables, Timeouts([60; TIMEOUTS]))
            };
            let mut specialisation = Specialisation::new(kind, 0);
            if uses.everything {
                // All but what lets reports pass unread.
                specialisation.link = !LINK_IGMP;
                specialisation.is_loopback = kind == Kind::Ethernet;
            }
            let wanted = (specialisation, Hook::ALL.to_vec());
            let name = match kind {
                Kind::BareIp => "bare IP",
                Kind::Ethernet => "Ethernet",
            };
            let started = Instant::now();
            let built = Generation::build(&specification, &[wanted], None);
            match built.and_then(|mut generation| generation.importer().map(drop).map(|()| generation)) {
                Ok(generation) => {
                    let ms = started.elapsed().as_millis();
                    for (program, verified) in generation.verified() {
                        println!("{name:<10} {:<20} {program:<12} {verified:>12} {ms:>8}", uses.name);
                    }
                }
                Err(error) => {
                    refused = true;
                    println!("{name:<10} {:<20} refused: {error}", uses.name);
                }
            }
        }
    }
    let started = Instant::now();
    match on_cgroups() {
        Ok(verified) => {
            let ms = started.elapsed().as_millis();
            for (program, verified) in verified {
                println!("{:<10} {:<20} {program:<19} {verified:>5} {ms:>8}", "cgroup", "");
            }
        }
        Err(error) => {
            refused = true;
            println!("{:<10} {:<20} refused: {error}", "cgroup", "");
        }
    }
    if refused { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
