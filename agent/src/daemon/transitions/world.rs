//! A machine whose kernel is in memory and whose disk is a directory; agents start, change, die and start again.

use std::any::Any;
use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::Arc;

use bulkhead_abi::port_index;
use bulkhead_dataplane::fake::{Crash, Fake, Fault, Faults, generations};
use bulkhead_dataplane::{DEVICE_GROUP, Dataplane as _, DeviceTable as _, Kind, LoadedTables as _};
use bulkhead_policy::Dialect;
use bulkhead_policy::source::Source;
use tempfile::TempDir;

use super::fallback::FakeNft;
use crate::config::{Config, HookChoice, Managed, Role};
use crate::daemon::enforcement::start::{self, Named};
use crate::daemon::enforcement::takeover;
use crate::daemon::enforcement::timers::Timers;
use crate::daemon::events::Shared;
use crate::daemon::events::control::Before;
use crate::daemon::files::Asked;
use crate::daemon::grants::Grants;
use crate::daemon::state::Enforcer;
use crate::daemon::state::addresses::Addresses;
use crate::daemon::store::{Ledger, Store};
use crate::daemon::{CompileOptions, Setup, enforcement, reconcile};
use crate::paths::Paths;

/// An agent on the machine.
pub type Agent = Enforcer<Fake>;

/// The instance.
const INSTANCE: &str = "x";

/// Interfaces: a tunnel, Ethernet with and without native XDP, and one to a venue.
pub const INTERFACES: [&str; 4] = ["wg0", "eth0", "eth1", "x0"];

/// Who there is.
pub const INVENTORY: &str = r#"{"nodes": [
    {"name": "a", "addresses": ["100.64.0.1"], "underlay": ["192.0.2.1"], "tags": ["tag:a"]},
    {"name": "b", "addresses": ["100.64.0.2"], "tags": ["tag:b"]}]}"#;

/// An address of the node that is quarantined.
pub const INTRUDER: &str = "100.64.0.2";

/// The machine.
pub struct World {
    pub fake: Fake,
    pub nft: FakeNft,
    pub faults: Faults,
    pub setup: Setup,
    _directory: TempDir,
}

/// A policy that admits one port.
pub fn policy(port: u16) -> String {
    format!(
        r#"{{"tagOwners": {{"tag:a": [], "tag:b": []}},
            "acls": [{{"action": "accept", "src": ["tag:a"], "dst": ["tag:b:{port}"]}}]}}"#
    )
}

impl World {
    pub fn new() -> Self {
        // Waiting for a real disk would take most of the time.
        let memory = Path::new("/dev/shm");
        let directory = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let directory = directory.unwrap();
        let paths = Paths::below(directory.path(), INSTANCE);
        for made in [&*paths.state, paths.socket.parent().unwrap()] {
            fs::create_dir_all(made).unwrap();
        }
        let fake = Fake::default();
        let faults = fake.faults().clone();
        let nft = FakeNft::new(&faults);
        for name in INTERFACES {
            let index = fake.add_device(name, if name == "wg0" { Kind::BareIp } else { Kind::Ethernet });
            if name == "eth1" {
                fake.refuse_native_xdp(index);
            }
        }
        let interfaces = INTERFACES.map(|name| Managed {
            role: if name == "x0" { Role::Exchange } else { Role::Overlay },
            ..Managed::new(name, HookChoice::Auto)
        });
        let config = Config {
            policy: directory.path().join("policy"),
            inventory: directory.path().join("inventory"),
            interfaces: interfaces.into(),
            ..Config::default()
        };
        fs::write(&config.inventory, INVENTORY).unwrap();
        let setup = Setup {
            instance: INSTANCE.to_owned(),
            paths,
            options: CompileOptions {
                node: "a".to_owned(),
                dialect: Dialect::Bulkhead,
                table_memory: 1 << 20,
                has_exchange: true,
                has_local: false,
                exemptions: config.exemptions("a"),
                addresses: Addresses::default(),
                grants: Arc::default(),
            },
            config,
            fallback: Arc::new(nft.clone()),
            log_group: Err("not asked for".to_owned()),
            bpffs_is_the_hosts: true,
            confirm: None,
            forwarded_until: 0,
            workloads: Arc::default(),
            sources: Arc::default(),
            fleet: Arc::default(),
        };
        let world = Self { fake, nft, faults, setup, _directory: directory };
        world.write_policy(80);
        world
    }

    /// The index of a device.
    pub fn index(&self, name: &str) -> u32 {
        self.fake.devices().unwrap().by_name(name).unwrap().unwrap().index
    }

    pub fn write_policy(&self, port: u16) {
        fs::write(&self.setup.config.policy, policy(port)).unwrap();
    }

    /// A policy besides the one that `run` names.
    pub fn other_policy(&self, port: u16) -> Source {
        Source::new("other-policy", &policy(port))
    }

    pub fn store(&self) -> Store {
        Store::with_faults(&self.setup.paths.state, &self.faults)
    }

    /// Starts an agent, in the steps of [`crate::daemon::run`]; `None` if it goes back to nothing.
    pub fn start(&self) -> anyhow::Result<Option<Agent>> {
        self.start_as(self.setup.clone())
    }

    /// The same with another configuration.
    pub fn start_as(&self, mut setup: Setup) -> anyhow::Result<Option<Agent>> {
        let store = self.store();
        setup.options.grants = Arc::new(Grants::open(&store).with_clock_of(&setup.options.grants));
        let named = match start::read(&setup) {
            Ok(inputs) => Named::Holds(inputs),
            Err(unfit) => match start::instead(&setup, &store, &unfit) {
                Some(kept) => kept,
                None => anyhow::bail!("invalid policy or inventory"),
            },
        };
        let before = Before::read(&self.fake, &setup, &store);
        if start::goes_back_to_nothing(&self.fake, &setup, &store)? {
            before.tell_ended(&Shared::open(&setup, store)?);
            return Ok(None);
        }
        let shared = Arc::new(Shared::open(&setup, store)?);
        let agent = takeover::start(self.fake.clone(), setup, named, shared)?;
        before.tell(&agent);
        Ok(Some(agent))
    }

    /// An agent that has started.
    pub fn started(&self) -> Agent {
        self.start().unwrap().unwrap()
    }

    /// An agent that has started and goes on with what was enforced, since `run` names nothing new.
    pub fn started_without_news(&self) -> Agent {
        let store = self.store();
        if let Some((files, _)) = store.last_requested(&store.ledger().unwrap()) {
            fs::write(&self.setup.config.policy, files.policy.text()).unwrap();
        }
        self.started()
    }

    /// The port that the generation enforced admits, by the policy that was kept of it.
    pub fn port(&self, ledger: &Ledger) -> u16 {
        let (files, _) = self.store().inputs_of(ledger.enforced).unwrap();
        let ports = [80, 81, 82].into_iter();
        ports.into_iter().find(|port| policy(*port) == files.policy.text()).unwrap()
    }

    /// Whether every hook of every interface runs some generation of ours.
    pub fn is_covered(moment: &bulkhead_dataplane::fake::Moment) -> bool {
        moment.len() == 2 * INTERFACES.len()
    }

    /// One generation is on all hooks, the ledger on disk says so, and nothing else is pinned; which port it admits.
    pub fn settled(&self, agent: &Agent) -> u16 {
        let port = self.enforced(agent);
        let pinned = self.fake.pinned(&self.setup.paths.pins);
        let version = format!("v{}/", self.setup.paths.pins.version());
        let number = agent.live().ledger.enforced;
        let expected: BTreeSet<_> =
            [format!("{version}generation-{number}"), format!("{version}state")].into();
        let (links, others): (Vec<_>, BTreeSet<_>) = (
            pinned.iter().filter(|pin| pin.contains("/links/")).cloned().collect(),
            pinned.iter().filter(|pin| !pin.contains("/links/")).cloned().collect(),
        );
        assert_eq!((others, links.len()), (expected, 2 * INTERFACES.len()), "{pinned:?}");
        port
    }

    /// The same, but for tables that may be freed later.
    pub fn enforced(&self, agent: &Agent) -> u16 {
        let ledger = agent.live().ledger.clone();
        assert_eq!(self.store().ledger().unwrap(), ledger, "the ledger is what the agent goes by");
        assert_eq!(ledger.target, None);
        let now = self.fake.now();
        assert!(Self::is_covered(&now), "{now:?}");
        assert_eq!(generations(&now), [ledger.enforced].into(), "{now:?}");
        assert_eq!(agent.live().built.number, ledger.enforced);
        let table = self.nft.table().clone().expect("the fallback table is in place");
        assert_eq!(table.attached.len(), INTERFACES.len());
        assert!(table.attached.iter().all(|(_, group)| *group == DEVICE_GROUP), "{table:?}");
        let port = self.port(&ledger);
        let mut live = agent.live();
        // What a change takes away ahead is given back if it is not made.
        let class = live.built.any_tables().unwrap().port_class(port_index(6, port)).unwrap();
        assert_ne!(class, 0, "port {port} is in no service");
        port
    }

    /// No moment since the last call had less than all hooks enforced.
    pub fn never_less(&self) {
        for (what, moment) in self.fake.take_history() {
            assert!(Self::is_covered(&moment), "after \"{what}\": {moment:?}");
        }
    }
}

/// Applies the file that `run` names.
pub fn apply(agent: &Agent) -> anyhow::Result<()> {
    enforcement::apply(agent, &Asked::default()).map(|applied| assert!(applied.applied, "{applied:?}"))
}

/// What the agent does by itself within the next seconds.
pub fn keep_up(agent: &Agent) {
    let mut upkeep = Timers::default();
    for _ in 0..3 {
        let _ = reconcile::reconcile(agent, true);
        upkeep.run(agent);
    }
}

/// Runs `operate` with a refusal at each of its steps; `after` looks at each machine that is left, with what it
/// answered.
pub fn refuse_everywhere<T: 'static, R: 'static>(
    faults: &[Fault],
    prepare: impl Fn(&World) -> T,
    operate: impl Fn(&World, &mut T) -> R,
    after: impl Fn(&World, T, R),
) {
    for fault in faults {
        for at in 0.. {
            let world = World::new();
            let mut prepared = prepare(&world);
            let _ = world.fake.take_history();
            world.faults.arm(at, *fault);
            let answer = operate(&world, &mut prepared);
            let taken = world.faults.taken();
            world.faults.clear();
            let looked = catch_unwind(AssertUnwindSafe(|| after(&world, prepared, answer)));
            if let Err(error) = looked {
                eprintln!("{fault:?} at step {at}, {:?}, of {taken:?}", taken.get(at));
                resume_unwind(error);
            }
            if at >= taken.len() {
                break;
            }
        }
    }
}

/// Runs `operate` with a crash at each of its steps, and once without; `after` looks at each machine that is left.
pub fn crash_everywhere<T>(
    prepare: impl Fn(&World) -> T,
    operate: impl Fn(&World, T),
    after: impl Fn(&World, &str),
) -> usize {
    for at in 0.. {
        let world = World::new();
        let prepared = prepare(&world);
        let _ = world.fake.take_history();
        world.faults.arm(at, Fault::Crash);
        let ended = catch_unwind(AssertUnwindSafe(|| operate(&world, prepared)));
        let is_crash = |error: &Box<dyn Any + Send>| error.is::<Crash>();
        if let Err(error) = &ended
            && !is_crash(error)
        {
            resume_unwind(ended.unwrap_err());
        }
        let taken = world.faults.taken();
        world.faults.clear();
        let place = format!("killed before step {at} of {taken:?}");
        let looked = catch_unwind(AssertUnwindSafe(|| after(&world, &place)));
        if let Err(error) = looked {
            eprintln!("{place}");
            resume_unwind(error);
        }
        if ended.is_ok() {
            assert!(at == taken.len(), "every step was the last once");
            return at;
        }
    }
    0
}
