//! The keys of a fleet's account, as files of one directory.

use std::path::{Path, PathBuf};

use nkeys::KeyPair;
use zeroize::Zeroizing;

use super::credentials::write_secret;
use super::role::Role;
use crate::error::{Error, Result};

/// Keys that sign JWTs. The operator's says who has an account, an account's who its users are.
pub(super) struct Keys {
    pub(super) operator: KeyPair,
    /// Of the hosts' account.
    pub(super) account: KeyPair,
    /// Signs agents' JWTs.
    pub(super) agents: KeyPair,
    /// Signs invitations.
    pub(super) invitations: KeyPair,
    /// Of the account that has the streams.
    pub(super) streams: KeyPair,
    pub(super) publisher: KeyPair,
    pub(super) enroller: KeyPair,
    pub(super) collector: KeyPair,
    /// Of the account that servers of sites come into, for what hosts there send and hear.
    pub(super) leaf: KeyPair,
    /// Of the one that they hear of revocations in.
    pub(super) leaf_system: KeyPair,
    pub(super) system: KeyPair,
}

/// A key's file.
fn file(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}.nk"))
}

/// A key of a file that holds its seed alone.
pub(crate) fn read_key(path: &Path) -> Result<KeyPair> {
    let text = std::fs::read_to_string(path).map(Zeroizing::new).map_err(|error| Error::file(path, error))?;
    KeyPair::from_seed(text.trim()).map_err(|error| Error::Settings(format!("{}: {error}", path.display())))
}

fn write_key(path: &Path, key: &KeyPair) -> Result<()> {
    let seed = key.seed().map(Zeroizing::new);
    let seed = seed.map_err(|error| Error::Settings(format!("a key has no seed: {error}")))?;
    write_secret(path, seed.as_bytes())
}

impl Keys {
    /// Makes them, and writes the files of a directory that has none.
    pub(super) fn create(directory: &Path) -> Result<Self> {
        if file(directory, "operator").exists() {
            return Err(Error::Settings(format!(
                "{} has an account already: its hosts would know no other; name an empty directory",
                directory.display()
            )));
        }
        let keys = Self {
            operator: KeyPair::new_operator(),
            account: KeyPair::new_account(),
            agents: KeyPair::new_account(),
            invitations: KeyPair::new_account(),
            streams: KeyPair::new_account(),
            publisher: KeyPair::new_account(),
            enroller: KeyPair::new_account(),
            collector: KeyPair::new_account(),
            leaf: KeyPair::new_account(),
            leaf_system: KeyPair::new_account(),
            system: KeyPair::new_account(),
        };
        let named = [
            ("account", &keys.account),
            ("agents", &keys.agents),
            ("invitations", &keys.invitations),
            ("streams", &keys.streams),
            ("publisher", &keys.publisher),
            ("enroller", &keys.enroller),
            ("collector", &keys.collector),
            ("leaf", &keys.leaf),
            ("leaf-system", &keys.leaf_system),
            ("system", &keys.system),
            // Last: it says that the others are there.
            ("operator", &keys.operator),
        ];
        for (name, key) in named {
            write_key(&file(directory, name), key)?;
        }
        Ok(keys)
    }

    /// Those of a directory.
    pub(super) fn load(directory: &Path) -> Result<Self> {
        let load = |name: &str| {
            let path = file(directory, name);
            if !path.exists() && file(directory, "operator").exists() {
                return Err(Error::Settings(format!(
                    "{} has no {name}.nk: an earlier build has made it, with one account for all services, which let each \
                     of them change what the streams hold; make another with `bulkhead fleet account`, give the servers its \
                     nats-server.conf, and enrol hosts anew",
                    directory.display()
                )));
            }
            read_key(&path)
        };
        Ok(Self {
            operator: load("operator")?,
            account: load("account")?,
            agents: load("agents")?,
            invitations: load("invitations")?,
            streams: load("streams")?,
            publisher: load("publisher")?,
            enroller: load("enroller")?,
            collector: load("collector")?,
            leaf: load("leaf")?,
            leaf_system: load("leaf-system")?,
            system: load("system")?,
        })
    }

    /// That of a service's account.
    pub(super) fn of(&self, role: Role) -> &KeyPair {
        match role {
            Role::Streams => &self.streams,
            Role::Publisher => &self.publisher,
            Role::Enroller => &self.enroller,
            Role::Collector => &self.collector,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Keys;

    #[test]
    fn a_directory_of_an_earlier_build_says_what_to_do() {
        let directory = tempfile::tempdir().unwrap();
        Keys::create(directory.path()).unwrap();
        Keys::load(directory.path()).unwrap();
        std::fs::remove_file(directory.path().join("publisher.nk")).unwrap();
        let words = Keys::load(directory.path()).err().unwrap().to_string();
        assert!(
            words.contains("publisher.nk") && words.contains("make another with `bulkhead fleet account`"),
            "{words}"
        );
        // A directory that is none says what is missing, and nothing of builds.
        let none = tempfile::tempdir().unwrap();
        let words = Keys::load(none.path()).err().unwrap().to_string();
        assert!(words.contains("operator.nk") && !words.contains("earlier"), "{words}");
    }
}
