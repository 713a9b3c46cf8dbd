//! Batches from the fleet's servers.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use bulkhead_channel::{Client, EVENTS, Error, Settings, token};
use bulkhead_collect::{FindingKind, Outcome, Store};
use bulkhead_http::Tls;
use bytes::Bytes;
use serde_json::json;
use tokio::runtime::Handle;

use crate::daemon::clock::wall_time;

/// Where the store notes the next message's number.
const POSITION: &str = "servers";

/// Messages after which that is noted. What is read again is passed over.
const NOTE: u64 = 32;

/// Between two looks whether the stream is still the one that was read.
const LOOK: Duration = Duration::from_secs(30);

/// The stream of what all hosts have sent.
pub(super) struct BrokerInbox {
    runtime: Handle,
    client: Client,
    /// The next message's number.
    next: u64,
    noted: u64,
    looked: Option<Instant>,
    /// The first message that was passed over as its node had sent too much that day, and the day, since 1970. What is
    /// noted is that: all from there on is read again.
    passed: Option<(u64, u64)>,
}

impl BrokerInbox {
    /// Goes on where the store was. Connects on the runtime that this is called on.
    ///
    /// # Errors
    /// If the settings are wrong, or the store cannot be read.
    pub(super) fn open(
        servers: &[String],
        credentials: &Path,
        ca: Option<&Path>,
        store: &Store,
    ) -> io::Result<Self> {
        let settings = Settings {
            servers: servers.to_vec(),
            credentials: Some(credentials.to_owned()),
            tls: Tls { ca: ca.map(Path::to_owned), identity: None },
            name: String::new(),
        };
        let client = Client::new(settings).map_err(io::Error::other)?;
        let next = store.noted(POSITION)?.unwrap_or(1);
        Ok(Self { runtime: Handle::current(), client, next, noted: next, looked: None, passed: None })
    }

    /// Takes what is there, some hundreds at most. How many those were.
    ///
    /// # Errors
    /// If no server answers, or the store cannot keep it: then it is read again.
    pub(super) fn turn(&mut self, store: &Store, tell: &dyn Fn(&Path, &Outcome)) -> io::Result<usize> {
        let mut count = 0;
        if let Some((number, _)) = self.passed.take_if(|(_, day)| *day != today()) {
            self.next = number;
        }
        while count < 256 {
            let ask = json!({ "seq": self.next, "next_by_subj": "ev.*" }).to_string();
            let subject = format!("$JS.API.DIRECT.GET.{EVENTS}");
            let asked = self.client.request(&subject, &[], Bytes::from(ask));
            let message = self.runtime.block_on(asked).map_err(io::Error::other)?;
            match message.status {
                None => {}
                Some(404) => break,
                Some(status) => {
                    let words = format!("{subject}: {} (status {status})", message.description);
                    return Err(io::Error::other(words));
                }
            }
            let next = next(message.header("Nats-Sequence"), self.next)?;
            let subject = message.header("Nats-Subject").unwrap_or_default().to_owned();
            let from = subject.strip_prefix("ev.").and_then(node);
            let outcome = store.take(Some(from.as_deref().unwrap_or(&subject)), &message.payload)?;
            tell(Path::new(&subject), &outcome);
            if matches!(outcome, Outcome::Refused { kind: FindingKind::TooMuch, .. }) {
                self.passed.get_or_insert((next - 1, today()));
            }
            self.next = next;
            if self.next.abs_diff(self.noted) >= NOTE {
                self.note(store)?;
            }
            count += 1;
        }
        if self.next != self.noted && count == 0 {
            self.note(store)?;
        }
        if self.looked.is_none_or(|looked| looked.elapsed() >= LOOK) {
            self.look(store)?;
            self.looked = Some(Instant::now());
        }
        Ok(count)
    }

    fn note(&mut self, store: &Store) -> io::Result<()> {
        store.note(POSITION, self.passed.map_or(self.next, |(number, _)| number))?;
        self.noted = self.next;
        Ok(())
    }

    /// A stream with fewer messages than were read is another one, or was restored: it is read from its beginning.
    fn look(&mut self, store: &Store) -> io::Result<()> {
        let subject = format!("$JS.API.STREAM.INFO.{EVENTS}");
        let asked = self.client.request(&subject, &[], Bytes::new());
        let answer = self.runtime.block_on(asked).map_err(io::Error::other)?;
        let info: serde_json::Value = serde_json::from_slice(&answer.payload)?;
        if let Some(last) = info["state"]["last_seq"].as_u64()
            && last.saturating_add(1) < self.next
        {
            tracing::warn!(
                "the servers have {last} batches, and {} were read: all are read again",
                self.next - 1
            );
            (self.next, self.passed) = (1, None);
            self.note(store)?;
        }
        Ok(())
    }
}

/// Whether an error will pass.
pub(super) fn is_passing(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    inner.is_some_and(Error::is_passing)
}

/// Days since 1970, UTC.
fn today() -> u64 {
    wall_time() / (24 * 60 * 60 * 1_000_000_000)
}

/// The number behind the one that a server says the message has which was asked for, from `asked` on.
fn next(said: Option<&str>, asked: u64) -> io::Result<u64> {
    let number = said.and_then(|number| number.parse().ok()).filter(|number: &u64| *number >= asked);
    let next = number.and_then(|number| number.checked_add(1));
    next.ok_or_else(|| io::Error::other("the server answers with another message"))
}

/// The node that a word of a subject stands for.
fn node(word: &str) -> Option<String> {
    let (mut bytes, mut rest) = (Vec::new(), word.bytes());
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'=' => u8::from_str_radix(str::from_utf8(&[rest.next()?, rest.next()?]).ok()?, 16).ok()?,
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok().filter(|name| token(name) == word)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::time::Duration;

    use bulkhead_channel::{Account, Client, Settings, prepare, token};
    use bulkhead_collect::{Given, Outcome, Report, Store, seal};
    use bulkhead_http::Tls;
    use bulkhead_testkit::nats::{Cluster, Plan};
    use bulkhead_tlog::{Log, Options};

    use super::{BrokerInbox, next, node};
    use crate::config::{Fleet, FleetFrom};
    use crate::daemon::upstream::broker::Broker;
    use crate::daemon::upstream::carrier::Carrier as _;

    #[test]
    fn a_subject_names_one_node() {
        for name in ["db-1", "db.1", "a b", "\u{fc}", "=", "a=2e"] {
            assert_eq!(node(&token(name)).as_deref(), Some(name));
        }
        for word in ["a.b", "=4", "=zz", "=41"] {
            assert_eq!(node(word), None, "{word}");
        }
    }

    #[test]
    fn a_server_cannot_say_any_number() {
        assert_eq!(next(Some("7"), 7).unwrap(), 8);
        for said in [None, Some("6"), Some("x"), Some("18446744073709551615"), Some("18446744073709551616")] {
            next(said, 7).unwrap_err();
        }
    }

    /// A host with a log, and its way to the servers.
    struct Host {
        name: &'static str,
        log: Log,
        broker: Broker,
        next: u64,
        made: u64,
    }

    impl Host {
        fn open(name: &'static str, root: &Path, fleet: &Fleet) -> Self {
            let state = root.join(name);
            fs::create_dir_all(&state).unwrap();
            let log = Log::open(&state.join("log"), &Options::new(format!("bulkhead/{name}"))).unwrap().0;
            Self { name, log, broker: Broker::open(fleet, &state, name).unwrap(), next: 0, made: 1 }
        }

        /// Writes records and sends them, from `next` on.
        fn send(&mut self, records: u64) {
            for _ in 0..records {
                self.log.append(format!("{{\"sequence\":{}}}", self.log.size()).as_bytes()).unwrap();
            }
            self.log.checkpoint().unwrap();
            self.made += 1;
            let sealed =
                seal(self.log.directory(), self.name, self.made, self.next, &Report::default()).unwrap();
            self.broker.give(self.made, &sealed).unwrap();
            for _ in 0..100 {
                if self.broker.look().unwrap() != Given::Waits {
                    self.next = sealed.end;
                    return;
                }
                std::thread::sleep(Duration::from_millis(100));
            }
            panic!("{}: the servers take nothing", self.name);
        }
    }

    /// Two hosts with credentials of their own, one server with TLS: what they send arrives once, over new processes at
    /// both ends, and one cannot speak as the other.
    #[test]
    fn batches_go_over_the_fleets_servers() {
        let root = tempfile::tempdir().unwrap();
        let account = Account::create(&root.path().join("account")).unwrap();
        let include = Some(account.server_configuration().unwrap());
        let cluster = Cluster::start(Plan { is_tls: true, include, ..Plan::open(1) }, None).unwrap();
        let service = |name: &str| root.path().join(format!("account/{name}.creds"));
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let tls = Tls { ca: cluster.ca(), identity: None };
            let settings = Settings {
                servers: cluster.urls(),
                credentials: Some(service("streams")),
                tls,
                name: String::new(),
            };
            let maker = Client::new(settings).unwrap();
            maker.connected(Duration::from_secs(20)).await.unwrap();
            prepare(&maker, 1).await.unwrap();
        });
        let fleet = |name: &str| {
            let credentials = root.path().join(format!("{name}.creds"));
            account.agent_credentials(name).unwrap().write(&credentials).unwrap();
            let from = FleetFrom::Servers { servers: cluster.urls(), credentials, ca: cluster.ca() };
            Fleet {
                policy_root: "".into(),
                inventory_root: "".into(),
                from,
                every: Duration::from_secs(30),
                confirm_seconds: 30,
                health: Vec::new(),
            }
        };
        let (first, second) = (fleet("db.1"), fleet("web-1"));
        let mut hosts = [Host::open("db.1", root.path(), &first), Host::open("web-1", root.path(), &second)];
        let settings = || bulkhead_collect::Settings { most_nodes: 10, ..Default::default() };
        let stored = root.path().join("store");
        let told = std::cell::RefCell::new(Vec::new());
        let collect = || {
            let store = Store::open(&stored, settings()).unwrap();
            let ca = cluster.ca();
            let _on = runtime.enter();
            let mut inbox =
                BrokerInbox::open(&cluster.urls(), &service("collector"), ca.as_deref(), &store).unwrap();
            runtime.block_on(inbox.client.connected(Duration::from_secs(20))).unwrap();
            let tell = |_: &Path, outcome: &Outcome| told.borrow_mut().push(outcome.clone());
            while inbox.turn(&store, &tell).unwrap() != 0 {}
        };
        for round in 0..3 {
            for host in &mut hosts {
                host.send(40);
                host.send(300);
            }
            collect();
            // An agent that starts again, and does not know what came of the last batch.
            let [one, _] = &mut hosts;
            one.next = one.next.saturating_sub(50);
            fs::remove_file(root.path().join("db.1/upstream-last")).unwrap();
            one.broker = Broker::open(&first, &root.path().join("db.1"), "db.1").unwrap();
            assert_eq!(told.borrow().len(), 4 * (round + 1));
        }
        assert!(told.borrow().iter().all(|outcome| matches!(outcome, Outcome::Taken { .. })), "{told:?}");
        for host in &hosts {
            let records = stored.join("nodes").join(host.name).join("records");
            let lines = fs::read_dir(records).unwrap().map(|found| found.unwrap().path());
            let lines = lines.filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
            let count: usize = lines.map(|path| fs::read_to_string(path).unwrap().lines().count()).sum();
            assert_eq!(count as u64, 3 * 340, "{}", host.name);
        }
        // As another node nothing goes through: the broker refuses it, and the collector would.
        let mut thief = Broker::open(&second, &root.path().join("web-1"), "db.1").unwrap();
        let sealed = seal(hosts[1].log.directory(), "db.1", 99, 0, &Report::default()).unwrap();
        thief.give(99, &sealed).unwrap();
        assert!(!matches!(thief.look(), Ok(Given::Taken(_))));
    }
}
