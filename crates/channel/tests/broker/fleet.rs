//! A fleet directory with real signatures.

use std::path::{Path, PathBuf};

use bulkhead_fleet::{Holder, Keyholders, Publication, Repository, Tree};
use bulkhead_grants::SecretKey;
use ed25519_dalek::{Signer as _, SigningKey};

/// Alice and bob sign policies; the enroller signs inventories, and `online` freshens.
pub struct Fleet {
    directory: tempfile::TempDir,
    tree: Tree,
}

fn now() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs().cast_signed()
}

fn seed(who: u8) -> [u8; 32] {
    [who; 32]
}

fn holder(name: &str, who: u8) -> Holder {
    Holder::new(name, SecretKey::from_seed(&seed(who)).public()).unwrap()
}

const ALICE: u8 = 1;
const BOB: u8 = 2;
const ENROLLER: u8 = 4;
const ONLINE: u8 = 5;

impl Fleet {
    /// With a first policy and inventory.
    pub fn new(policy: &str, inventory: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let tree = Tree::new(directory.path());
        let keyholders = Keyholders {
            people: vec![holder("alice", ALICE), holder("bob", BOB), holder("carol", 3)],
            threshold: 2,
            enroller: holder("enroller", ENROLLER),
            online: holder("online", ONLINE),
        };
        tree.begin(&keyholders, now()).unwrap();
        let fleet = Self { directory, tree };
        fleet.publish(Some(policy), Some(inventory));
        fleet
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The first root of a repository.
    pub fn root(&self, repository: Repository) -> Vec<u8> {
        std::fs::read(self.path().join(repository.name()).join("metadata/1.root.json")).unwrap()
    }

    /// The bundle that is published now.
    pub fn bundle(&self, repository: Repository) -> String {
        self.tree.bundle(repository).unwrap().unwrap().1
    }

    /// Signs and publishes what is new.
    pub fn publish(&self, policy: Option<&str>, inventory: Option<&str>) {
        for (repository, bundle) in [(Repository::Policy, policy), (Repository::Inventory, inventory)] {
            if let Some(bundle) = bundle {
                self.tree.propose(repository, bundle, now(), true).unwrap();
            }
            for draft in self.tree.waiting().unwrap() {
                for who in [ALICE, BOB, ENROLLER] {
                    let key = SecretKey::from_seed(&seed(who)).public();
                    if draft.holder(&key).is_some() {
                        let signature = SigningKey::from_bytes(&seed(who)).sign(&draft.message().unwrap());
                        draft.add(&key, &signature.to_bytes()).unwrap();
                    }
                }
            }
        }
        let online = SecretKey::from_seed(&seed(ONLINE)).public();
        let how = Publication { share: None, fresh: 3_600, now: now() };
        for repository in Repository::ALL {
            let mut sign =
                |bytes: &[u8]| Ok(SigningKey::from_bytes(&seed(ONLINE)).sign(bytes).to_bytes().to_vec());
            self.tree.publish(repository, &online, &mut sign, how).unwrap();
        }
    }
}

/// An inventory of so many nodes; the first of them have a tag.
pub fn inventory(nodes: usize, tag: &str) -> String {
    let mut text = String::from("{\"nodes\": [\n");
    for number in 0..nodes {
        let tag = if number < 2 { tag } else { "tag:web" };
        // Unlike each other as keys are.
        let key: String = (0..43)
            .map(|at| {
                char::from(b'A' + u8::try_from((number * 31 + at * at * 7 + number / (at + 1)) % 26).unwrap())
            })
            .collect();
        let comma = if number + 1 == nodes { "" } else { "," };
        text.push_str(&format!(
            "{{\"name\": \"host-{number:06}\", \"key\": \"{key}=\", \"addresses\": [\"100.{}.{}.{}\"], \
             \"tags\": [\"{tag}\"], \"user\": \"user-{}@example.com\"}}{comma}\n",
            64 + number / 65_536,
            number / 256 % 256,
            number % 256,
            number % 997
        ));
    }
    text.push_str("]}\n");
    text
}

/// A policy of about 4 KB.
pub fn policy(version: usize) -> String {
    let mut text = format!("// {version}\n{{\"acls\": [\n");
    for rule in 0..40 {
        text.push_str(&format!(
            "{{\"action\": \"accept\", \"src\": [\"tag:a{rule}-{version}\"], \"dst\": [\"tag:b{rule}:{}\"]}},\n",
            1_000 + rule
        ));
    }
    text.push_str("]}\n");
    text
}

/// A directory of a test's own.
pub fn below(directory: &Path, name: &str) -> PathBuf {
    let path = directory.join(name);
    std::fs::create_dir_all(&path).unwrap();
    path
}
