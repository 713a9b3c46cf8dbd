//! `bulkhead fleet collect`: the collector, as a service.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use bulkhead_api::text::plain;
use bulkhead_collect::{Inbox, Limits, Outcome, Settings, Store, router, witness};
use bulkhead_tlog::VerifierKey;
use sd_notify::NotifyState;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use super::broker_inbox::{BrokerInbox, is_passing};
use crate::exit::{Answer, Usage};

/// Where a collector keeps what it has, unless it is told otherwise.
pub const STORE: &str = "/var/lib/bulkhead-collector";

/// Between two looks at the directory.
const LOOK: Duration = Duration::from_millis(200);

/// The same after one that failed.
const PAUSE: Duration = Duration::from_secs(5);

/// Collect the event logs of hosts, and serve the fleet page.
///
/// Each batch must continue what is here of its host's log, by signatures and hashes; what does is cosigned and
/// stored, and what does not is a finding of that host. Ends by a signal. It needs no privilege.
#[derive(Debug, clap::Args)]
pub struct Collect {
    /// The directory where hosts leave batches.
    #[arg(long, value_name = "DIR", required_unless_present = "servers", conflicts_with = "servers")]
    from: Option<PathBuf>,
    /// A server that hosts send batches to, such as tls://nats-1:4222.
    ///
    /// Again for others of the same cluster.
    #[arg(long = "server", value_name = "URL", requires = "credentials")]
    servers: Vec<String>,
    /// The collector's credentials at the servers.
    #[arg(long, value_name = "FILE", requires = "servers")]
    credentials: Option<PathBuf>,
    /// Certificates to trust servers by [default: the system's].
    #[arg(long, value_name = "FILE", requires = "servers")]
    ca: Option<PathBuf>,
    /// Where to keep what comes.
    #[arg(long, value_name = "DIR", default_value = STORE)]
    store: PathBuf,
    /// Where to serve the page.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8480")]
    listen: SocketAddr,
    /// A name by which browsers come to the page; may be repeated.
    #[arg(long = "page-name", value_name = "NAME")]
    names: Vec<String>,
    /// The name of the key to cosign with, when it is made.
    #[arg(long, value_name = "NAME")]
    witness: Option<String>,
    /// A file of nodes and the keys of their logs, one `NODE KEY` a line.
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
    /// Take no node whose key is not in that file.
    #[arg(long, requires = "keys")]
    known_alone: bool,
    /// The most nodes to take.
    #[arg(long, value_name = "COUNT", default_value_t = 200_000)]
    most_nodes: usize,
    /// The most MiB of records to take of a node in a day.
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    daily_mib: u64,
    /// Seconds without a report after which a node is silent.
    #[arg(long, value_name = "SECONDS", default_value_t = Limits::default().silent_seconds)]
    silent_after: u64,
    /// Threads that take batches.
    #[arg(long, value_name = "COUNT", default_value_t = 4)]
    threads: usize,
}

impl Collect {
    pub fn run(self) -> anyhow::Result<Answer> {
        tracing_subscriber::fmt()
            .with_writer(io::stderr)
            .with_ansi(io::IsTerminal::is_terminal(&io::stderr()))
            .with_env_filter(
                tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into()),
            )
            .init();
        if let Some(from) = self.from.as_ref().filter(|from| !from.is_dir()) {
            let words = format!("{}: no directory; make it, and let hosts write there", from.display());
            return Err(Usage(words).into());
        }
        let keys = self.keys.as_deref().map(read_keys).transpose()?.unwrap_or_default();
        let name = self.witness.clone().unwrap_or_else(|| format!("collector.{}", bulkhead_host::name()));
        let key = witness(&self.store, &name).with_context(|| format!("{}", self.store.display()))?;
        tracing::info!("cosigns by the key {}", key.public());
        let settings = Settings {
            witness: Some(key),
            keys,
            known_alone: self.known_alone,
            most_nodes: self.most_nodes,
            most_daily: Some(self.daily_mib.saturating_mul(1 << 20)),
        };
        let store = Store::open(&self.store, settings).context("opening the store")?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .context("starting the collector's threads")?;
        runtime.block_on(self.serve(Arc::new(store)))
    }

    async fn serve(self, store: Arc<Store>) -> anyhow::Result<Answer> {
        let listener = TcpListener::bind(self.listen).await;
        let listener = listener.with_context(|| format!("serving the page at {}", self.listen))?;
        let address = listener.local_addr().context("serving the page")?;
        if !address.ip().is_loopback() {
            tracing::warn!("the page is served at {address} to whoever can connect, without TLS or login");
        }
        tracing::info!("the page is at http://{address}/");
        let ended = Arc::new(AtomicBool::new(false));
        let limits = Limits { silent_seconds: self.silent_after };
        let routes = router(store.clone(), limits, self.names);
        let inbox = match (self.from, self.credentials) {
            (Some(from), _) => From::Directory(Inbox::new(&from), self.threads),
            (None, Some(credentials)) => {
                let opened = BrokerInbox::open(&self.servers, &credentials, self.ca.as_deref(), &store);
                From::Servers(opened.context("connecting to the servers")?)
            }
            (None, None) => {
                return Err(Usage("--from or --server: say where batches come from".to_owned()).into());
            }
        };
        let told = ended.clone();
        let mut take = tokio::task::spawn_blocking(move || take_until(inbox, &store, &told));
        let mut terminate = signal(SignalKind::terminate()).context("waiting for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("waiting for SIGINT")?;
        // Without a service manager nobody hears it.
        let _ = sd_notify::notify(&[NotifyState::Ready]);
        tokio::select! {
            served = async { axum::serve(listener, routes).await } => served.context("serving the page")?,
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            // A page that goes on would hide that nothing is collected any more.
            died = &mut take => {
                died.context("taking batches")?;
                anyhow::bail!("taking batches: it has ended");
            }
        }
        ended.store(true, Ordering::Relaxed);
        // What it is at is finished first.
        take.await.context("taking batches")?;
        Ok(Answer::Yes)
    }
}

/// Where batches come from.
enum From {
    /// A directory, by so many threads.
    Directory(Inbox, usize),
    /// Servers.
    Servers(BrokerInbox),
}

impl From {
    fn turn(&mut self, store: &Store) -> io::Result<usize> {
        match self {
            Self::Directory(inbox, threads) => inbox.turn(store, *threads, &tell),
            Self::Servers(inbox) => inbox.turn(store, &tell),
        }
    }
}

/// Takes batches until it is told to end.
fn take_until(mut inbox: From, store: &Store, ended: &AtomicBool) {
    let mut problem = None;
    while !ended.load(Ordering::Relaxed) {
        match inbox.turn(store) {
            Ok(taken) => {
                if problem.take().is_some() {
                    tracing::info!("takes batches again");
                }
                if taken == 0 {
                    std::thread::sleep(LOOK);
                }
            }
            Err(error) => {
                let words = error.to_string();
                if problem.as_ref() != Some(&words) {
                    tracing::error!("batches stay where they are: {words}");
                }
                problem = Some(words);
                std::thread::sleep(if is_passing(&error) { LOOK } else { PAUSE });
            }
        }
    }
}

fn tell(path: &Path, outcome: &Outcome) {
    match outcome {
        Outcome::Taken { node, records, new } => {
            tracing::debug!(node = %plain(node), records, new, "taken");
        }
        Outcome::Refused { node, kind, detail, .. } => {
            let node = plain(node.as_deref().unwrap_or_default()).into_owned();
            let file = path.display().to_string();
            tracing::warn!(node, kind = kind.name(), "refused {}: {}", plain(&file), plain(detail));
        }
    }
}

/// Reads keys of nodes, a `NODE KEY` a line.
fn read_keys(path: &Path) -> anyhow::Result<BTreeMap<String, VerifierKey>> {
    let text =
        std::fs::read_to_string(path).map_err(|error| Usage(format!("{}: {error}", path.display())))?;
    let mut keys = BTreeMap::new();
    for (number, line) in (1..).zip(text.lines()) {
        let at = |what: &str| Usage(format!("{}:{number}: {what}", path.display()));
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let (node, key) = line.trim().rsplit_once(' ').ok_or_else(|| at("no `NODE KEY`"))?;
        let key = VerifierKey::parse(key).map_err(|error| at(&error.to_string()))?;
        if keys.insert(node.trim().to_owned(), key).is_some() {
            return Err(at("this node is there twice").into());
        }
    }
    Ok(keys)
}
