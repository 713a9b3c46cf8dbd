//! A fleet of the tests' own: three people, an enroller, and who freshens.

#![allow(clippy::unwrap_used)] // helpers of a test are a test

pub mod forged;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bulkhead_fleet::{
    Checked, Client, Directory, Draft, Error, Holder, Keyholders, Origin, OriginError, Publication,
    Repository, Tree,
};
use bulkhead_grants::SecretKey;

pub const DAY: i64 = 24 * 60 * 60;

/// Seconds since 1970.
pub fn now() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs().cast_signed()
}

/// A key by its owner's number.
pub fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32])
}

pub const ALICE: u8 = 1;
pub const BOB: u8 = 2;
pub const CAROL: u8 = 3;
pub const DAVE: u8 = 4;
pub const ENROLLER: u8 = 5;
pub const ONLINE: u8 = 6;

pub fn holder(name: &str, seed: u8) -> Holder {
    Holder::new(name, key(seed).public()).unwrap()
}

pub fn people(people: &[(&str, u8)]) -> Keyholders {
    Keyholders {
        people: people.iter().map(|(name, seed)| holder(name, *seed)).collect(),
        threshold: 2,
        enroller: holder("enroller", ENROLLER),
        online: holder("online", ONLINE),
    }
}

pub struct Fleet {
    pub directory: tempfile::TempDir,
    pub tree: Tree,
}

impl Fleet {
    /// One whose first roots are signed, and nothing else.
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let tree = Tree::new(directory.path());
        let drafts = tree.begin(&people(&[("alice", ALICE), ("bob", BOB), ("carol", CAROL)]), now()).unwrap();
        drafts.iter().for_each(|draft| sign(draft, &[ALICE, BOB]));
        Self { directory, tree }
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn propose(&self, policy: &str) -> Draft {
        self.tree.propose(Repository::Policy, policy, now(), true).unwrap()
    }

    pub fn publish(&self) -> Result<Vec<String>, Error> {
        self.publish_as(None, DAY)
    }

    pub fn publish_as(&self, share: Option<u8>, fresh: i64) -> Result<Vec<String>, Error> {
        let online = key(ONLINE);
        let mut sign = |bytes: &[u8]| Ok(online.sign_bytes(bytes));
        let how = Publication { share, fresh, now: now() };
        self.tree.publish(Repository::Policy, &online.public(), &mut sign, how)
    }

    /// Signs by these and publishes.
    pub fn put(&self, policy: &str, by: &[u8]) {
        sign(&self.propose(policy), by);
        self.publish().unwrap();
    }

    /// An inventory, signed by the enroller and published.
    pub fn put_inventory(&self, inventory: &str) {
        sign(&self.tree.propose(Repository::Inventory, inventory, now(), true).unwrap(), &[ENROLLER]);
        self.publish_inventory();
    }

    pub fn publish_inventory(&self) {
        let online = key(ONLINE);
        let mut sign = |bytes: &[u8]| Ok(online.sign_bytes(bytes));
        let how = Publication { share: None, fresh: DAY, now: now() };
        self.tree.publish(Repository::Inventory, &online.public(), &mut sign, how).unwrap();
    }

    pub fn first_root(&self) -> Vec<u8> {
        std::fs::read(self.path().join("policy/metadata/1.root.json")).unwrap()
    }

    /// All files, by their paths.
    pub fn files(&self) -> Files {
        let mut files = HashMap::new();
        for below in ["policy/metadata", "policy/targets", "inventory/metadata", "inventory/targets"] {
            for entry in std::fs::read_dir(self.path().join(below)).unwrap().flatten() {
                let name = format!("{below}/{}", entry.file_name().to_str().unwrap());
                files.insert(name, std::fs::read(entry.path()).unwrap());
            }
        }
        files
    }
}

pub type Files = HashMap<String, Vec<u8>>;

pub fn sign(draft: &Draft, by: &[u8]) {
    for seed in by {
        let key = key(*seed);
        draft.add(&key.public(), &key.sign_bytes(&draft.message().unwrap())).unwrap();
    }
}

/// Whoever carries the files, and does with them what it likes.
#[derive(Clone, Debug, Default)]
pub struct Carrier(pub Arc<Mutex<Files>>, pub Arc<Mutex<Vec<String>>>);

impl Carrier {
    pub fn of(files: Files) -> Self {
        Self(Arc::new(Mutex::new(files)), Arc::default())
    }

    pub fn set(&self, files: Files) {
        *self.0.lock().unwrap() = files;
    }
}

#[async_trait]
impl Origin for Carrier {
    async fn file(&self, path: &str, longest: u64) -> Result<Option<Vec<u8>>, OriginError> {
        self.1.lock().unwrap().push(path.to_owned());
        let file = self.0.lock().unwrap().get(path).cloned();
        match file {
            Some(bytes) if bytes.len() as u64 > longest => {
                Err(OriginError::TooLong { path: path.to_owned(), longest })
            }
            file => Ok(file),
        }
    }
}

/// A host: it is started anew for each look, as a host that restarts all the time.
pub struct Host {
    pub state: tempfile::TempDir,
    pub first: Vec<u8>,
}

impl Host {
    pub fn new(fleet: &Fleet) -> Self {
        Self { state: tempfile::tempdir().unwrap(), first: fleet.first_root() }
    }

    pub fn client(&self) -> Client {
        Client::open(Repository::Policy, &self.first, self.state.path()).unwrap()
    }

    /// The version and the bundle, or why not.
    pub fn look(&self, origin: impl Origin + 'static) -> Result<(Checked, String), Error> {
        let origin: Arc<dyn Origin> = Arc::new(origin);
        block_on(async {
            let checked = self.client().check(&origin).await?;
            let bundle = checked.bundle(&*origin).await?;
            Ok((checked, bundle))
        })
    }

    pub fn trusted(&self) -> PathBuf {
        self.state.path().join("policy/trusted.json")
    }
}

pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

pub fn directory(fleet: &Fleet) -> Directory {
    Directory::new(fleet.path())
}
