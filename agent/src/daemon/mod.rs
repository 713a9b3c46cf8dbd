//! The agent: enforces, tells of drops, and changes what is enforced when asked to.

mod alarms;
mod answers;
pub mod bindings;
pub mod clock;
mod descriptors;
mod enforcement;
pub mod events;
mod evidence;
mod expiry;
pub mod fallback;
pub mod files;
pub mod fleet;
mod flows;
pub mod grants;
pub mod history;
mod links;
pub mod lock;
mod log;
pub mod quarantine;
pub mod read_back;
mod reconcile;
mod regular;
mod reload;
pub mod residence;
pub mod server;
mod service;
mod setup;
mod sources;
pub mod state;
pub mod store;
mod threads;
pub mod tls;
#[cfg(test)]
mod transitions;
mod trust;
pub mod upstream;
pub mod workloads;

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bulkhead_api::event::{Action, Outcome};
use bulkhead_dataplane::{Attached, Dataplane as _, Kernel, check_support};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use self::enforcement::start::{self, Named, Unfit};
use self::enforcement::timers::Timers;
use self::enforcement::{attach, takeover};
use self::events::Shared;
use self::events::control::{self, Before, Change};
use self::fallback::drops;
use self::grants::Grants;
use self::history::Recorder;
use self::server::Api;
use self::server::budget::Budget;
use self::server::rights::Rights;
use self::server::scrape::{self, Scrapes};
pub use self::setup::Setup;
use self::sources::Sources;
use self::state::Enforcer;
pub use self::state::inputs::CompileOptions;
use self::store::Store;
use crate::daemon::alarms::Alerting;
use crate::exit::Answer;
use crate::guard;
use crate::paths::BPFFS;

/// How long an agent that ends goes on to answer.
const LAST_ANSWERS: Duration = Duration::from_millis(100);

/// Runs the agent until a signal or `detach`. Enforcement goes on after a signal. The result
/// is negative if the policy or the inventory is invalid.
///
/// # Errors
/// If the system refuses; then nothing has been attached or changed.
pub fn run(mut setup: Setup, json: bool) -> anyhow::Result<Answer> {
    let store = Store::new(&setup.paths.state);
    if let Err(error) = start::readable(&store) {
        return Err(fallback::closed::instead_of_enforcing(&Kernel, &setup, error));
    }
    setup.sources = Arc::new(Sources::open(&setup.config.sources, &store));
    setup.options.grants = Arc::new(Grants::open(&store));
    // Where they are not known nothing passes; they are asked for again once the rest is enforced.
    if let Err(error) = setup.options.addresses.look(&Kernel, &setup.config) {
        tracing::error!("addresses of underlay interfaces are not known, and nothing passes there: {error}");
    }
    let mut named = match read(&setup, &store) {
        Ok(named) => named,
        Err(unfit) => return unfit.end(json),
    };
    for managed in setup.config.interfaces.iter().filter(|managed| !managed.is_optional) {
        Kernel.interface(&managed.name)?;
    }
    attach::one_section_each(&Kernel, &setup.config)?;
    descriptors::raise_limit();
    check_support(Path::new(BPFFS), setup.bpffs_is_the_hosts)?;
    if setup.config.guard {
        guard::check()?;
    }
    setup.paths.claim()?;
    let hold = |directory| lock::hold(directory, &setup.instance);
    let _locks = setup.paths.locked().into_iter().map(hold).collect::<anyhow::Result<Vec<_>>>()?;
    // What another agent has taken or revoked while the lock was its own.
    if let Some(grants) = setup.options.grants.reopened(&store) {
        setup.options.grants = Arc::new(grants);
        named = match read(&setup, &store) {
            Ok(named) => named,
            Err(unfit) => return unfit.end(json),
        };
    }
    residence::claim(&setup)?;
    let before = Before::read(&Kernel, &setup, &store);
    if start::goes_back_to_nothing(&Kernel, &setup, &store)? {
        let shared = Shared::open(&setup, store)?;
        before.tell_ended(&shared);
        shared.end();
        return Ok(Answer::No);
    }
    if let Some(warning) = setup.config.lockout() {
        tracing::warn!("{warning}");
    }
    let guard_log = guard_log(&mut setup);
    attach::wait_for_one(&Kernel, &setup, &named.inputs().inventory)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("starting the agent's threads")?;
    let shared = Arc::new(Shared::open(&setup, store)?);
    let enforcer = Arc::new(takeover::start(Kernel, setup, named, shared.clone())?);
    before.tell(&enforcer);
    let ended = runtime.block_on(serve(enforcer, guard_log));
    shared.end();
    ended
}

/// What `run` names, or what was kept.
fn read(setup: &Setup, store: &Store) -> Result<Named, Unfit> {
    // Once a host follows a fleet, what `run` names is what it began with.
    if let Some(named) = start::of_fleet(setup, store) {
        return named;
    }
    // A host that was protected does not come up unprotected because of what has become of a file.
    start::read(setup).map(Named::Holds).or_else(|unfit| start::instead(setup, store, &unfit).ok_or(unfit))
}

/// Listens to what the guard drops before there is a guard, which is to log to the group that is found.
fn guard_log(setup: &mut Setup) -> Option<guard::Log> {
    if !setup.config.guard {
        return None;
    }
    match guard::Log::open(&setup.instance) {
        Ok(log) => {
            setup.log_group = Ok(log.group);
            Some(log)
        }
        Err(error) => {
            tracing::warn!("the guard's drops are only counted: {error:#}");
            setup.log_group = Err(format!("{error:#}"));
            None
        }
    }
}

async fn serve(enforcer: Arc<Enforcer>, guard_log: Option<guard::Log>) -> anyhow::Result<Answer> {
    let paths = enforcer.setup.paths.clone();
    let (detach, mut detached) = mpsc::channel(1);
    let mut rights = Rights::new(&enforcer.setup.config.control);
    let listener = server::listen(&paths, &mut rights)?;
    rights.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    tell_attached(&enforcer);
    service::ready(&enforcer);
    let shared = enforcer.shared.clone();
    let reconciling = reconcile::start(enforcer.clone()).context("watching what is enforced")?;
    let instance = &enforcer.setup.instance;
    drops::collect(instance, enforcer.store.clone(), guard_log, shared.clone())?;
    let (of_guard, store) = (instance.clone(), enforcer.store.clone());
    let guard = move || drops::totals(&of_guard, &store);
    let half = enforcer.setup.config.capacity.aggregates as usize / 2;
    let mut failures = events::start(&paths.pins, &shared, half, guard)?;
    answers::start(&paths.pins)?;
    bindings::start(enforcer.clone()).context("watching whose keys identities have")?;
    workloads::start(enforcer.clone()).context("watching which cgroups workloads are")?;
    sources::start(&enforcer)?;
    fleet::start(&enforcer)?;
    tls::start(enforcer.clone()).context("watching certificates")?;
    read_back::start(enforcer.clone()).context("reading back what the kernel holds")?;
    let recorder = Recorder::start(&enforcer)?;
    let alerting = Alerting::start(&enforcer)?;
    let attesting = evidence::start(&enforcer)?;
    let upstream = upstream::start(&enforcer).context("starting what tells the collector")?;
    let scrapes = Arc::default();
    let metrics = match enforcer.setup.config.metrics {
        Some(address) => Some(scrape::listen(address).await?),
        None => None,
    };
    let metrics = serve_metrics(metrics, Arc::clone(&scrapes), enforcer.clone());
    let api = Arc::new(Api {
        enforcer: enforcer.clone(),
        detach,
        scrapes,
        changes: tokio::sync::Mutex::default(),
        budget: Budget::default(),
        rights,
    });
    let mut terminate = signal(SignalKind::terminate()).context("waiting for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("waiting for SIGINT")?;
    let mut answer = Answer::Yes;
    tokio::select! {
        failure = failures.recv() => {
            let failure = failure.unwrap_or_else(|| anyhow::anyhow!("a thread has ended"));
            return Err(failure.context("telling of drops has ended; start the agent again"));
        }
        never = server::serve(listener, api) => match never {},
        never = metrics => match never {},
        ended = reload::on_hangup(enforcer.clone()) => match ended? {},
        ended = reload::on_change(enforcer.clone()) => match ended? {},
        ended = service::keep_alive(enforcer.clone()) => match ended? {},
        // What is enforced stays; an agent that does not watch it is none.
        _ = reconciling => anyhow::bail!("watching what is enforced has ended; start the agent again"),
        ended = keep_up(enforcer.clone()) => {
            ended?;
            start::tell_nothing_is_enforced();
            answer = Answer::No;
        }
        _ = detached.recv() => tracing::info!("detached"),
        _ = terminate.recv() => still_enforced(&enforcer, "SIGTERM"),
        _ = interrupt.recv() => still_enforced(&enforcer, "SIGINT"),
    }
    service::stopping();
    attesting.end(events::LAST_EVENTS);
    // Lets the last answer leave, and whoever watches see the last event.
    tokio::time::sleep(LAST_ANSWERS).await;
    if let Some(recorder) = recorder {
        // Events of the last moment are on their way to it by now.
        recorder.end();
    }
    if let Some(alerting) = alerting {
        // The recorder may just have raised some.
        alerting.end();
    }
    if let Some(upstream) = upstream {
        shared.hub.sign(events::LAST_EVENTS);
        upstream.end(events::LAST_EVENTS);
    }
    let _ = std::fs::remove_file(&paths.socket);
    Ok(answer)
}

/// Serves metrics until the process ends, if agent.toml has an address for them.
async fn serve_metrics(
    listener: Option<TcpListener>,
    scrapes: Arc<Scrapes>,
    enforcer: Arc<Enforcer>,
) -> Infallible {
    match listener {
        Some(listener) => scrape::serve(listener, scrapes, enforcer).await,
        None => std::future::pending().await,
    }
}

fn tell_attached(enforcer: &Enforcer) {
    let live = enforcer.live();
    for Attached { interface, index, hooks, .. } in &live.attached {
        if *index == 0 {
            tracing::warn!(%interface, "is not there; it is enforced when it comes");
            continue;
        }
        let hooks: Vec<_> = hooks.iter().map(|hook| hook.name()).collect();
        let mode = live.built.mode.name();
        tracing::info!(%interface, index, hooks = hooks.join(", "), generation = live.built.number, mode, "enforcing");
    }
    if let Some(pending) = &live.ledger.pending {
        let seconds = pending.seconds_left();
        tracing::warn!(
            "`bulkhead confirm` within {seconds} s keeps it; else what was enforced before returns"
        );
    }
}

/// Ends only if the first policy was not confirmed.
async fn keep_up(enforcer: Arc<Enforcer>) -> anyhow::Result<()> {
    let mut timers = Timers::default();
    loop {
        tokio::time::sleep(timers.interval()).await;
        let enforcer = enforcer.clone();
        let work = move || {
            timers.run(&enforcer);
            timers
        };
        timers = tokio::task::spawn_blocking(work).await.context("the agent's timers")?;
        if timers.has_ended {
            return Ok(());
        }
    }
}

fn still_enforced(enforcer: &Enforcer, signal: &str) {
    let (instance, before) = (&enforcer.setup.instance, control::generation(enforcer));
    Change::by_signal(Action::Stop, before, signal, Outcome::Done).tell(enforcer);
    tracing::info!("stopped; the policy stays enforced until `bulkhead --instance {instance} detach`");
}
