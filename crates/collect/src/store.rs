//! What a collector keeps: a directory for each node.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bulkhead_tlog::{SignerKey, VerifierKey, pinned};
use rustix::fs::{FlockOperation, flock};

use crate::batch::{Batch, check_node};
use crate::finding::{self, FindingKind, Findings};
use crate::node::{self, Failure, LOG, Node, day, now};
use crate::standing::Standing;

const NODES: &str = "nodes";
const LOCK: &str = "lock";
/// What came from nobody that is known.
const STRANGERS: &str = "strangers";

/// Nodes that are open at once: a file and some 100 KB each.
const MOST_OPEN: usize = 512;

/// How a collector treats what comes.
#[derive(Debug, Default)]
pub struct Settings {
    /// The key that it cosigns with; none: it does not.
    pub witness: Option<SignerKey>,
    /// Keys of nodes' logs, by node, that are known from elsewhere.
    pub keys: BTreeMap<String, VerifierKey>,
    /// Take no node whose key is not among them. Otherwise the key that a node comes with first is its own from then
    /// on.
    pub known_alone: bool,
    /// The most nodes.
    pub most_nodes: usize,
    /// Bytes of records of one node after which no more are taken that day, UTC; none: whatever comes. A collector that
    /// starts again counts anew.
    pub most_daily: Option<u64>,
}

/// What came of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is there: the node, how many of its records are there, and how many of them are new.
    Taken {
        /// The node.
        node: String,
        /// Records that are there.
        records: u64,
        /// New ones.
        new: u64,
    },
    /// It is refused, which was noted. It would be again.
    Refused {
        /// The node that it came from, if that can be said.
        node: Option<String>,
        /// Why.
        kind: FindingKind,
        /// The same in words.
        detail: String,
        /// Records that are there of that node.
        records: Option<u64>,
    },
}

/// A store, open for its one collector.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
    _lock: File,
    settings: Settings,
    open: Mutex<Open>,
    standings: Mutex<BTreeMap<String, Standing>>,
    /// The last day that a node has sent records on, and how many bytes then.
    sent: Mutex<HashMap<String, (String, u64)>>,
}

/// A node, unless it is closed, for one at a time.
type Slot = Arc<Mutex<Option<Node>>>;

/// Nodes that are open, and when each was used.
#[derive(Debug, Default)]
struct Open {
    nodes: HashMap<String, (u64, Slot)>,
    turn: u64,
}

impl Store {
    /// Opens the store in a directory, or makes one.
    ///
    /// # Errors
    /// If the system refuses, or another collector has it open.
    pub fn open(directory: &Path, settings: Settings) -> io::Result<Self> {
        fs::create_dir_all(directory.join(NODES))?;
        let lock = lock(directory)?;
        let standings = read(directory)?.into_iter().map(|standing| (standing.node.clone(), standing));
        Ok(Self {
            directory: directory.to_owned(),
            _lock: lock,
            settings,
            open: Mutex::default(),
            standings: Mutex::new(standings.collect()),
            sent: Mutex::default(),
        })
    }

    /// How all nodes stand, by their names.
    #[must_use]
    pub fn standings(&self) -> Vec<Standing> {
        held(&self.standings).values().cloned().collect()
    }

    /// Takes a batch that came as `from`'s, if whoever carried it says so. When this returns it is durable.
    ///
    /// What fails with this one node's files alone is a finding of that node, and stops nobody else.
    ///
    /// # Errors
    /// If this host cannot keep what any node sends: then it is to be given again.
    pub fn take(&self, from: Option<&str>, bytes: &[u8]) -> io::Result<Outcome> {
        let batch = match Batch::read(bytes) {
            Ok(batch) => batch,
            Err(error) => return self.refuse(from, FindingKind::Malformed, error.to_string()),
        };
        if let Some(from) = from.filter(|from| *from != batch.node) {
            let what = format!("it says that it is of `{}`", batch.node);
            return self.refuse(Some(from), FindingKind::OtherNode, what);
        }
        let node = batch.node.clone();
        match self.take_batch(batch) {
            Err(error) if !is_of_all(&error) => {
                let what = format!("the collector failed at what it has of the node: {error}");
                self.refuse(Some(&node), FindingKind::Failed, what)
            }
            taken => taken,
        }
    }

    /// Notes that something of this host's fails with one node alone.
    pub(crate) fn note_failed(&self, node: &str, what: String) -> io::Result<()> {
        self.refuse(Some(node), FindingKind::Failed, what).map(drop)
    }

    fn take_batch(&self, batch: Batch) -> io::Result<Outcome> {
        let directory = self.directory_of(&batch.node);
        let key = match self.key_of(&directory, &batch)? {
            Ok(key) => key,
            Err(what) => return self.refuse(Some(&batch.node), FindingKind::UnknownNode, what),
        };
        let slot = self.slot(&batch.node);
        let mut open = held(&slot);
        let taken = {
            let node = match open.as_mut() {
                Some(node) => node,
                None => open.insert(Node::open(&directory, &batch.node, &key)?),
            };
            let cost = node.cost(&batch);
            match node.take(&batch, self.settings.witness.as_ref(), self.may_send(&batch.node)) {
                Err(Failure::Own(error)) => {
                    // What it holds in memory may be ahead of the disk.
                    *open = None;
                    return Err(error);
                }
                Err(Failure::Found(kind, detail)) => {
                    self.note_heard(node);
                    Err((kind, detail, node.size()))
                }
                Ok(new) => {
                    self.note_heard(node);
                    if new != 0 {
                        held(&self.sent).entry(batch.node.clone()).or_default().1 += cost;
                    }
                    Ok((node.size(), new))
                }
            }
        };
        match taken {
            Ok((records, new)) => {
                if new != 0 {
                    self.close_gap(&batch.node, &directory)?;
                }
                Ok(Outcome::Taken { node: batch.node, records, new })
            }
            Err((kind, detail, records)) => {
                self.refuse(Some(&batch.node), kind, detail.clone())?;
                Ok(Outcome::Refused { node: Some(batch.node), kind, detail, records: Some(records) })
            }
        }
    }

    /// Whether a node may send more today.
    fn may_send(&self, node: &str) -> bool {
        let today = day(now());
        let mut sent = held(&self.sent);
        let (of, bytes) = sent.entry(node.to_owned()).or_default();
        if *of != today {
            (*of, *bytes) = (today, 0);
        }
        self.settings.most_daily.is_none_or(|most| *bytes < most)
    }

    /// Forgets that records were missing: those that came now follow those that are here, so none is any more.
    fn close_gap(&self, node: &str, directory: &Path) -> io::Result<()> {
        let mut standings = held(&self.standings);
        if let Some(standing) = standings.get_mut(node)
            && standing.findings.remove(&FindingKind::Gap).is_some()
        {
            node::keep_findings(directory, &standing.findings)?;
        }
        Ok(())
    }

    /// Notes what a node has said last. One that has said nothing is none.
    fn note_heard(&self, node: &Node) {
        if !node.heard.node.is_empty() {
            let mut standings = held(&self.standings);
            let standing = standings.entry(node.heard.node.clone()).or_default();
            (standing.node, standing.records) = (node.heard.node.clone(), node.size());
            standing.heard = Some(node.heard.clone());
        }
    }

    /// Notes a finding; beside those of strangers if it cannot be in the node's directory.
    fn refuse(&self, from: Option<&str>, kind: FindingKind, detail: String) -> io::Result<Outcome> {
        let known = from.filter(|from| self.directory_of(from).join(LOG).exists());
        match self.note_finding(known, from, kind, detail.clone()) {
            Err(error) if known.is_some() && !is_of_all(&error) => {
                self.note_finding(None, from, kind, detail)
            }
            noted => noted,
        }
    }

    fn note_finding(
        &self,
        known: Option<&str>,
        from: Option<&str>,
        kind: FindingKind,
        detail: String,
    ) -> io::Result<Outcome> {
        let directory = known.map_or_else(|| self.directory.join(STRANGERS), |node| self.directory_of(node));
        let mut standings = held(&self.standings);
        let mut findings = node::findings(&directory)?;
        let told = match (known, from) {
            (None, Some(from)) => format!("{from}: {detail}"),
            _ => detail.clone(),
        };
        finding::note(&mut findings, kind, now(), told);
        node::keep_findings(&directory, &findings)?;
        let name = known.unwrap_or("");
        let standing = standings.entry(name.to_owned()).or_default();
        name.clone_into(&mut standing.node);
        standing.findings = findings;
        Ok(Outcome::Refused { node: from.map(str::to_owned), kind, detail, records: None })
    }

    /// The key of a node: the one that is pinned, or the one that is to be.
    fn key_of(&self, directory: &Path, batch: &Batch) -> io::Result<Result<VerifierKey, String>> {
        if let Some(known) = pinned(&directory.join(LOG)).map_err(io::Error::other)? {
            return Ok(Ok(known));
        }
        if let Some(key) = self.settings.keys.get(&batch.node) {
            return Ok(Ok(key.clone()));
        }
        if self.settings.known_alone {
            return Ok(Err("no key is known of it, and only nodes whose key is known are taken".to_owned()));
        }
        if held(&self.standings).len() >= self.settings.most_nodes {
            return Ok(Err(format!("there are {} nodes already", self.settings.most_nodes)));
        }
        Ok(Ok(batch.key.clone()))
    }

    fn slot(&self, node: &str) -> Slot {
        let mut open = held(&self.open);
        open.turn += 1;
        let turn = open.turn;
        if open.nodes.len() >= MOST_OPEN && !open.nodes.contains_key(node) {
            // Whoever is in use stays open until it is not.
            let idle = open.nodes.iter().filter(|(_, (_, slot))| Arc::strong_count(slot) == 1);
            if let Some(oldest) = idle.min_by_key(|(_, (used, _))| *used).map(|(name, _)| name.clone()) {
                open.nodes.remove(&oldest);
            }
        }
        let slot = open.nodes.entry(node.to_owned()).or_default();
        slot.0 = turn;
        slot.1.clone()
    }

    fn directory_of(&self, node: &str) -> PathBuf {
        self.directory.join(NODES).join(file_name(node))
    }

    /// What stands in a file of the store's own, such as how far a transport was read.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn noted(&self, name: &str) -> io::Result<Option<u64>> {
        match node::read(&self.directory.join(name).with_extension("json")) {
            // What is read again is passed over.
            Err(error) if node::is_malformed(&error) => Ok(None),
            read => read,
        }
    }

    /// Puts a number there.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn note(&self, name: &str, number: u64) -> io::Result<()> {
        node::write(&self.directory.join(name).with_extension("json"), &number)
    }
}

/// Whether what fails, fails with all nodes: the disk is full or broken, or this process has no more of something.
fn is_of_all(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, OutOfMemory, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    use rustix::io::Errno;
    let kinds = [Interrupted, OutOfMemory, QuotaExceeded, ReadOnlyFilesystem, StorageFull];
    let numbers = [Errno::IO, Errno::MFILE, Errno::NFILE, Errno::NOBUFS];
    match error.get_ref().and_then(|inner| inner.downcast_ref::<bulkhead_tlog::Error>()) {
        Some(bulkhead_tlog::Error::Io { source, .. }) => is_of_all(source),
        Some(_) => false,
        None => {
            kinds.contains(&error.kind())
                || error
                    .raw_os_error()
                    .is_some_and(|raw| numbers.iter().any(|number| number.raw_os_error() == raw))
        }
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn lock(directory: &Path) -> io::Result<File> {
    let path = directory.join(LOCK);
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let words = format!("{}: a collector runs here; a store has one", directory.display());
            Err(io::Error::new(io::ErrorKind::WouldBlock, words))
        }
        Err(error) => Err(error.into()),
    }
}

/// A file's name for a node: what could be anything but a part of one name is written as its bytes.
pub(crate) fn file_name(node: &str) -> String {
    let mut name = String::new();
    for (at, byte) in node.bytes().enumerate() {
        let is_plain = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') || byte == b'.' && at > 0;
        if is_plain {
            name.push(char::from(byte));
        } else {
            name.push_str(&format!("%{byte:02X}"));
        }
    }
    name
}

/// The name of the node that a file is named after; none: it is named after none.
pub(crate) fn node_name(file: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = file.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(str::from_utf8(&digits).ok()?, 16).ok()?
            }
            byte => byte,
        });
    }
    let name = String::from_utf8(bytes).ok()?;
    (file_name(&name) == file).then_some(name)
}

/// How all nodes in a store stand, by their names. A collector may run there.
///
/// # Errors
/// If it cannot be read.
pub fn read(directory: &Path) -> io::Result<Vec<Standing>> {
    let mut all = Vec::new();
    for found in fs::read_dir(directory.join(NODES))? {
        let path = found?.path();
        let mut findings = node::findings(&path).unwrap_or_else(|error| unreadable(&error));
        let heard = node::heard(&path).unwrap_or_else(|error| {
            findings.extend(unreadable(&error));
            None
        });
        if heard.is_none() && findings.is_empty() {
            continue;
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let name = node_name(&name).unwrap_or(name);
        all.push(Standing {
            node: heard.as_ref().map_or(name, |heard| heard.node.clone()),
            records: heard.as_ref().map_or(0, |heard| heard.records),
            heard,
            findings,
        });
    }
    let strangers = node::findings(&directory.join(STRANGERS))?;
    if !strangers.is_empty() {
        all.push(Standing { findings: strangers, ..Standing::default() });
    }
    all.sort_by(|one, other| one.node.cmp(&other.node));
    Ok(all)
}

/// The finding that what is kept of a node cannot be read.
fn unreadable(error: &io::Error) -> Findings {
    let mut findings = Findings::new();
    finding::note(&mut findings, FindingKind::Failed, now(), error.to_string());
    findings
}

/// Forgets what was found of a node, or with an empty name of strangers; with `anew` its log is set aside, and another
/// one is taken in its place. Returns where it is then.
///
/// # Errors
/// If there is no such node, if a collector runs there, or the system refuses.
pub fn acknowledge(directory: &Path, node: &str, anew: bool) -> io::Result<Option<PathBuf>> {
    let _lock = lock(directory)?;
    if node.is_empty() {
        node::forget_findings(&directory.join(STRANGERS))?;
        return Ok(None);
    }
    let place = directory.join(NODES).join(file_name(node));
    if check_node(node).is_err() || !place.join(LOG).exists() {
        let words = format!("{}: no node `{node}`", directory.display());
        return Err(io::Error::new(io::ErrorKind::NotFound, words));
    }
    if !anew {
        node::forget_findings(&place)?;
        return Ok(None);
    }
    let aside = directory.join("aside");
    fs::create_dir_all(&aside)?;
    let aside = aside.join(format!("{}.{}", file_name(node), now()));
    fs::rename(&place, &aside)?;
    Ok(Some(aside))
}

#[cfg(test)]
mod tests {
    use super::{file_name, node_name};

    #[test]
    fn names_of_nodes_are_names_of_files() {
        assert_eq!(file_name("db-1.example"), "db-1.example");
        assert_eq!(file_name("../etc"), "%2E.%2Fetc");
        assert_eq!(file_name("."), "%2E");
        for name in ["db-1.example", "../etc", ".", "a/b", "\u{fc}", "%"] {
            assert_eq!(node_name(&file_name(name)).as_deref(), Some(name));
        }
    }
}
