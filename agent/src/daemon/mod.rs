//! The agent: builds a generation, attaches it, and tells of its drops.

mod api;
mod clock;
mod journal;
mod names;
mod pump;
pub mod status;

use std::collections::HashMap;
use std::fs::{File, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use bulkhead::kernel::{
    Attached, Capacity, Generation, Hook, Interface, Kind, Pins, Specification, attach, attached_hooks,
    check_support,
};
use bulkhead_compiler::compile::Program;
use bulkhead_compiler::inventory::Inventory;
use bulkhead_compiler::resolve::Ruleset;
use bulkhead_engine::layout::{FlowState, TIMEOUTS, Timeouts};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use self::api::Api;
use self::clock::BootClock;
use self::journal::Journal;
use self::names::Names;
use self::pump::Shared;
use self::status::Agent;
use crate::paths::{BPFFS, Paths};

/// What to enforce, and where.
pub struct Plan {
    /// The instance.
    pub instance: String,
    /// Its places.
    pub paths: Paths,
    /// The node.
    pub node: String,
    /// The policy's file.
    pub policy: String,
    /// The inventory's file.
    pub inventory_file: String,
    /// Who exists.
    pub inventory: Inventory,
    /// The rules.
    pub ruleset: Ruleset,
    /// The node's tables.
    pub program: Program,
    /// Interface names.
    pub interfaces: Vec<String>,
    /// Generic XDP at ingress on bare-IP interfaces, not TCX.
    pub xdp: bool,
    /// Report, and let pass.
    pub audit: bool,
}

/// Seconds of silence that end a flow. TCP's is two hours and a bit (RFC 5382 REQ-5 asks for
/// no less), since idle order sessions must live; UDP's are RFC 4787's and conntrack's.
fn timeouts() -> Timeouts {
    let mut seconds = [30; TIMEOUTS];
    for (state, timeout) in [
        (FlowState::TcpSyn, 60),
        (FlowState::TcpEstablished, 43_200),
        (FlowState::TcpClosing, 30),
        (FlowState::UdpUnreplied, 60),
        (FlowState::UdpReplied, 300),
        (FlowState::Echo, 30),
        (FlowState::SctpInit, 60),
        (FlowState::SctpEstablished, 43_200),
        (FlowState::SctpClosing, 30),
    ] {
        seconds[state as usize] = timeout;
    }
    Timeouts(seconds)
}

/// Zones without configuration: overlays share one, Ethernet interfaces another.
fn zone(kind: Kind) -> u16 {
    match kind {
        Kind::BareIp => 1,
        Kind::Ethernet => 2,
    }
}

fn ingress_hooks(kind: Kind, xdp: bool) -> &'static [Hook] {
    match (kind, xdp) {
        (Kind::BareIp, false) => &[Hook::TcxIngress],
        (Kind::BareIp, true) => &[Hook::XdpGeneric],
        (Kind::Ethernet, _) => &[Hook::XdpNative, Hook::XdpGeneric],
    }
}

/// Runs the agent until a signal or `detach`. Enforcement goes on after a signal.
///
/// # Errors
/// If the system refuses; then nothing has been attached or changed.
pub fn run(plan: Plan) -> anyhow::Result<()> {
    let interfaces: Vec<(Interface, u16)> = plan
        .interfaces
        .iter()
        .map(|name| Interface::find(name).map(|interface| (interface.clone(), zone(interface.kind))))
        .collect::<Result<_, _>>()?;
    check_support(Path::new(BPFFS))?;
    std::fs::create_dir_all(&plan.paths.state)
        .with_context(|| format!("{}: creating the state directory", plan.paths.state.display()))?;
    let _lock = lock(&plan.paths.state, &plan.instance)?;
    let listener_runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("starting the agent's threads")?;
    let (number, attached) = enforce(&plan, &interfaces)?;
    listener_runtime.block_on(serve(&plan, number, attached))
}

/// One agent an instance. The file keeps the process number of the one that holds it.
fn lock(state: &Path, instance: &str) -> anyhow::Result<File> {
    let path = state.join("agent.lock");
    let mut file = File::options()
        .create(true)
        .read(true)
        .write(true)
        .truncate(false)
        .open(&path)
        .with_context(|| format!("{}: opening", path.display()))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            let _ = file.read_to_string(&mut pid);
            anyhow::bail!(
                "instance {instance} is run by process {} already; stop it first, or choose another --instance",
                pid.trim()
            );
        }
        Err(TryLockError::Error(error)) => {
            return Err(error).with_context(|| format!("{}: locking", path.display()));
        }
    }
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .with_context(|| format!("{}: writing", path.display()))?;
    Ok(file)
}

/// Builds the next generation and puts it on every hook.
fn enforce(plan: &Plan, interfaces: &[(Interface, u16)]) -> anyhow::Result<(u32, Vec<Attached>)> {
    let pins = &plan.paths.pins;
    pins.create()?;
    let number = pins.generations()?.last().map_or(1, |last| last + 1);
    let clock = BootClock::now();
    let mut tables = plan.program.tables.clone();
    tables.deadlines.iter_mut().skip(1).for_each(|deadline| *deadline = clock.deadline(*deadline));
    let specification = Specification {
        number,
        tables: &tables,
        audit: plan.audit,
        timeouts: timeouts(),
        capacity: Capacity::default(),
        fixed_clock: None,
    };
    let before = attached_hooks(pins)?;
    let mut generation = Generation::build(&specification, interfaces, Some(pins))?;
    let attached: Result<Vec<_>, _> = interfaces
        .iter()
        .map(|(interface, _)| {
            attach(&mut generation, interface, ingress_hooks(interface.kind, plan.xdp), pins)
        })
        .collect();
    match attached {
        Ok(attached) => {
            retire(pins, number);
            Ok((number, attached))
        }
        Err(error) => {
            undo(pins, &before, number);
            Err(error.into())
        }
    }
}

/// Frees the generations before `number`.
fn retire(pins: &Pins, number: u32) {
    let old = pins.generations().unwrap_or_default().into_iter().filter(|other| *other != number);
    for other in old {
        if let Err(error) = pins.remove_generation(other) {
            tracing::warn!("generation {other} stays in memory: {error}");
        }
    }
}

/// Takes back what an attach that failed half-way has attached. Hooks that were enforced
/// before stay so, by whichever generation they have.
fn undo(pins: &Pins, before: &[(String, Hook)], number: u32) {
    let now = attached_hooks(pins).unwrap_or_default();
    for (interface, hook) in now.iter().filter(|link| !before.contains(link)) {
        let _ = std::fs::remove_file(pins.link(interface, *hook));
    }
    let _ = if before.is_empty() { pins.remove_all() } else { pins.remove_generation(number) };
}

async fn serve(plan: &Plan, number: u32, attached: Vec<Attached>) -> anyhow::Result<()> {
    let by_index: HashMap<u32, String> = attached.iter().map(|a| (a.index, a.interface.clone())).collect();
    let names = Names::new(&plan.ruleset, &plan.program.rules, &plan.inventory, by_index, plan.audit);
    let shared = Arc::new(Shared::new(names));
    let (detach, mut detached) = mpsc::channel(1);
    let listener = api::listen(&plan.paths.socket)?;
    for Attached { interface, index, hooks } in &attached {
        let hooks: Vec<_> = hooks.iter().map(|hook| hook.name()).collect();
        tracing::info!(%interface, index, hooks = hooks.join(", "), generation = number, "enforcing");
    }
    let api = Api {
        instance: plan.instance.clone(),
        pins: plan.paths.pins.clone(),
        agent: Agent {
            pid: std::process::id(),
            node: plan.node.clone(),
            policy: plan.policy.clone(),
            inventory: plan.inventory_file.clone(),
            mode: if plan.audit { "audit" } else { "enforce" }.to_owned(),
            generation: number,
            rules: plan.program.rules.len(),
            interfaces: attached,
            events: pump::Pumped::default(),
        },
        shared: shared.clone(),
        detach,
    };
    let mut terminate = signal(SignalKind::terminate()).context("waiting for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("waiting for SIGINT")?;
    tokio::select! {
        ended = pump::run(&plan.paths.pins, Journal::open(&plan.paths.state), shared) => ended?,
        ended = api::serve(listener, Arc::new(api)) => ended.context("serving the socket")?,
        _ = detached.recv() => {
            // Lets the answer leave.
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            tracing::info!("detached");
        }
        _ = terminate.recv() => still_enforced(&plan.instance),
        _ = interrupt.recv() => still_enforced(&plan.instance),
    }
    let _ = std::fs::remove_file(&plan.paths.socket);
    Ok(())
}

fn still_enforced(instance: &str) {
    tracing::info!("stopped; the policy stays enforced until `bulkhead --instance {instance} detach`");
}
