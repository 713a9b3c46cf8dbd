//! A fleet's account at the broker, in a directory of the operator's own.
//!
//! ```text
//! operator.nk  account.nk  agents.nk  invitations.nk  streams.nk  publisher.nk  enroller.nk  collector.nk  leaf.nk
//! leaf-system.nk  system.nk
//!                                                seeds: whoever has them decides who may do what
//! account.jwt  leaf.jwt  leaf-system.jwt         what the servers know of hosts and of sites' servers, revocations
//!                                                included
//! issued/  leaves/                               whose credentials were made here
//! nats-server.conf                               what each server's configuration includes
//! publisher.creds  enroller.creds  collector.creds    for the services
//! streams.creds  system.creds                    for commands that have this directory
//! ```

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use nkeys::KeyPair;
use serde_json::{Value, json};

use super::accounts::{NEW_JWT, NO_LIMIT, Revoked, configuration, hosts, leaf, leaf_system};
use super::claims::now;
use super::credentials::write_secret;
use super::keys::Keys;
use super::role::Role;
use super::{Claims, Credentials};
use crate::error::{Error, Result};

/// Until when JWTs of a revoked key must have been made to be refused, in seconds since 1970: the year 9999. A key that
/// is revoked is never used again, and what a host was minted while a clock was ahead is refused, too.
const FOR_EVER: u64 = 253_402_300_799;

/// A fleet's account: its directory, and the keys in it.
pub struct Account {
    directory: PathBuf,
    keys: Keys,
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Account({})", self.directory.display())
    }
}

impl Account {
    /// Makes operator, account and keys, and writes all files of the directory.
    ///
    /// # Errors
    /// There is one already, or the directory cannot be written.
    pub fn create(directory: &Path) -> Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|error| Error::file(directory, error))?;
        let account = Self { directory: directory.to_owned(), keys: Keys::create(directory)? };
        for known in [Known::Hosts, Known::Leaf, Known::LeafSystem] {
            account.write_jwt(known, &known.jwt(&account.keys, &Revoked::new(), now())?)?;
        }
        for role in Role::SERVICES.into_iter().chain([Role::Streams]) {
            account.service(role)?.write(&role.file(directory))?;
        }
        account.system_user()?.write(&directory.join("system.creds"))?;
        account.write_configuration()?;
        Ok(account)
    }

    /// The account of a directory.
    ///
    /// # Errors
    /// A key is missing.
    pub fn open(directory: &Path) -> Result<Self> {
        Ok(Self { directory: directory.to_owned(), keys: Keys::load(directory)? })
    }

    /// The public key of the hosts' account.
    #[must_use]
    pub fn key(&self) -> String {
        self.keys.account.public_key()
    }

    pub(super) fn keys(&self) -> &Keys {
        &self.keys
    }

    /// The file of an account's JWT.
    fn jwt_file(&self, known: Known) -> PathBuf {
        self.directory.join(known.file())
    }

    fn write_jwt(&self, known: Known, jwt: &str) -> Result<()> {
        write_secret(&self.jwt_file(known), jwt.as_bytes())
    }

    /// Credentials of a service, in its own account.
    fn service(&self, role: Role) -> Result<Credentials> {
        let inbox = format!("{}.>", crate::layout::inbox(role.name()));
        let subscribe: Vec<&str> = role.answers().into_iter().chain([&*inbox]).collect();
        let key = KeyPair::new_user();
        let mut nats = json!({
            "type": "user", "version": 2, "subs": NO_LIMIT, "data": NO_LIMIT, "payload": NO_LIMIT,
            "pub": { "allow": role.publishes() }, "sub": { "allow": subscribe },
        });
        if role.answers().is_some() {
            // It answers whoever asks, where they wait.
            nats["resp"] = json!({ "max": 1, "ttl": 30_000_000_000_u64 });
        }
        let jwt = Claims::new(&key.public_key(), role.name(), nats).sign(self.keys.of(role))?;
        Credentials::new(jwt, key)
    }

    /// Credentials that servers take changes of accounts from.
    fn system_user(&self) -> Result<Credentials> {
        let key = KeyPair::new_user();
        let nats = json!({
            "type": "user", "version": 2, "subs": NO_LIMIT, "data": NO_LIMIT, "payload": NO_LIMIT,
            "pub": { "allow": [NEW_JWT] }, "sub": { "allow": ["_INBOX_system.>"] },
        });
        Credentials::new(Claims::new(&key.public_key(), "system", nats).sign(&self.keys.system)?, key)
    }

    /// An agent's JWT for a key, and until when it is valid; none: until it is revoked.
    ///
    /// # Errors
    /// The key cannot sign.
    pub fn agent(&self, node: &str, key: &str, until: Option<u64>) -> Result<String> {
        agent_jwt(&self.keys.agents, &self.keys.account.public_key(), node, key, until)
    }

    /// Credentials of an agent whose key is made here.
    ///
    /// # Errors
    /// As for [`Account::agent`].
    pub fn agent_credentials(&self, node: &str) -> Result<Credentials> {
        let key = KeyPair::new_user();
        Credentials::new(self.agent(node, &key.public_key(), None)?, key)
    }

    /// The same, with the key on record in the directory, so that it can be taken back by the node's name.
    ///
    /// # Errors
    /// As for [`Account::agent`], or the directory cannot be written.
    pub fn issue(&self, node: &str) -> Result<Credentials> {
        let credentials = self.agent_credentials(node)?;
        add_lines(&self.issued_file(node), &[credentials.key()])?;
        Ok(credentials)
    }

    /// Keys of a node for which credentials were made here.
    ///
    /// # Errors
    /// The record cannot be read.
    pub fn issued(&self, node: &str) -> Result<Vec<String>> {
        read_lines(&self.issued_file(node))
    }

    fn issued_file(&self, node: &str) -> PathBuf {
        self.directory.join("issued").join(crate::layout::token(node))
    }

    /// A JWT of an invitation for a key that is made along, with what is offered.
    pub(crate) fn invitation(&self, id: &str, until: u64, offer: Value) -> Result<Credentials> {
        let key = KeyPair::new_user();
        let nats = json!({ "type": "user", "version": 2, "issuer_account": self.keys.account.public_key() });
        let claims =
            Claims { exp: Some(until), bulkhead: Some(offer), ..Claims::new(&key.public_key(), id, nats) };
        Credentials::new(claims.sign(&self.keys.invitations)?, key)
    }

    /// What is included into each server's configuration.
    ///
    /// # Errors
    /// The account's file cannot be read.
    pub fn server_configuration(&self) -> Result<String> {
        let known = [Known::Hosts, Known::Leaf, Known::LeafSystem];
        let [hosts, leaf, leaf_system] = known.map(|known| self.current_jwt(known));
        let keys = &self.keys;
        let known = [(&keys.account, hosts?), (&keys.leaf, leaf?), (&keys.leaf_system, leaf_system?)];
        configuration(keys, known)
    }

    fn write_configuration(&self) -> Result<()> {
        let path = self.directory.join("nats-server.conf");
        std::fs::write(&path, self.server_configuration()?).map_err(|error| Error::file(&path, error))
    }

    fn current_jwt(&self, known: Known) -> Result<String> {
        let path = self.jwt_file(known);
        std::fs::read_to_string(&path).map_err(|error| Error::file(&path, error))
    }

    /// Takes back what was minted for keys of hosts, and what ever will be: writes the account's new JWT and returns it,
    /// to be handed to the servers ([`crate::tell_servers`]).
    ///
    /// # Errors
    /// The account's file cannot be read or written.
    pub fn revoke(&self, keys: &[String]) -> Result<String> {
        let jwt = self.revoke_in(Known::Hosts, keys)?;
        self.write_configuration()?;
        Ok(jwt)
    }

    /// The same for servers of a site: two JWTs. None: none of that name was made here.
    ///
    /// # Errors
    /// A file cannot be read or written.
    pub fn revoke_leaf(&self, name: &str) -> Result<Option<[String; 2]>> {
        let keys = read_lines(&self.leaf_file(name))?;
        if keys.is_empty() {
            return Ok(None);
        }
        let jwts = [self.revoke_in(Known::Leaf, &keys)?, self.revoke_in(Known::LeafSystem, &keys)?];
        self.write_configuration()?;
        Ok(Some(jwts))
    }

    /// The record of keys of a site's servers.
    pub(super) fn leaf_file(&self, name: &str) -> PathBuf {
        self.directory.join("leaves").join(crate::layout::token(name))
    }

    fn revoke_in(&self, known: Known, keys: &[String]) -> Result<String> {
        let current = Claims::read(&self.current_jwt(known)?)?;
        let revoked = current.nats.get("revocations").cloned().unwrap_or_else(|| json!({}));
        let mut revoked: Revoked = serde_json::from_value(revoked)
            .map_err(|error| Error::Settings(format!("{}: {error}", self.jwt_file(known).display())))?;
        for key in keys {
            KeyPair::from_public_key(key)
                .map_err(|_| Error::Settings(format!("`{key}` is no key of a user")))?;
            revoked.insert(key.clone(), FOR_EVER);
        }
        // A server keeps what it has if that is as new, whatever the clock said when it was made.
        let jwt = known.jwt(&self.keys, &revoked, now().max(current.iat.saturating_add(1)))?;
        self.write_jwt(known, &jwt)?;
        Ok(jwt)
    }
}

/// Accounts whose users are taken back one by one.
#[derive(Clone, Copy)]
enum Known {
    Hosts,
    Leaf,
    LeafSystem,
}

impl Known {
    fn file(self) -> &'static str {
        match self {
            Self::Hosts => "account.jwt",
            Self::Leaf => "leaf.jwt",
            Self::LeafSystem => "leaf-system.jwt",
        }
    }

    fn jwt(self, keys: &Keys, revoked: &Revoked, made: u64) -> Result<String> {
        match self {
            Self::Hosts => hosts(keys, revoked, made),
            Self::Leaf => leaf(keys, revoked, made),
            Self::LeafSystem => leaf_system(keys, revoked, made),
        }
    }
}

/// Lines of a file; none if it is not there.
fn read_lines(path: &Path) -> Result<Vec<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text.lines().map(str::to_owned).collect()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(Error::file(path, error)),
    }
}

/// Writes a file with more lines.
pub(super) fn add_lines(path: &Path, lines: &[String]) -> Result<()> {
    let all = [read_lines(path)?, lines.to_vec()].concat();
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).map_err(|error| Error::file(directory, error))?;
    }
    write_secret(path, all.join("\n").as_bytes())
}

/// An agent's JWT, by the key that signs agents'.
pub(crate) fn agent_jwt(
    agents: &KeyPair,
    account: &str,
    node: &str,
    key: &str,
    until: Option<u64>,
) -> Result<String> {
    KeyPair::from_public_key(key)
        .ok()
        .filter(|_| key.starts_with('U'))
        .ok_or_else(|| Error::Settings("the host's key is no key of a user".to_owned()))?;
    let nats = json!({ "type": "user", "version": 2, "issuer_account": account });
    Claims { exp: until, ..Claims::new(key, &crate::layout::token(node), nats) }.sign(agents)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::{Account, Known, Revoked, now};
    use crate::identity::Claims;

    #[test]
    fn a_clock_that_was_ahead_keeps_no_key_in() {
        let directory = tempfile::tempdir().unwrap();
        let account = Account::create(&directory.path().join("account")).unwrap();
        let tomorrow = now() + 24 * 60 * 60;
        let ahead = Known::Hosts.jwt(&account.keys, &Revoked::new(), tomorrow).unwrap();
        account.write_jwt(Known::Hosts, &ahead).unwrap();
        let (key, begun) = (account.agent_credentials("a").unwrap().key(), Instant::now());
        let revoked = Claims::read(&account.revoke(std::slice::from_ref(&key)).unwrap()).unwrap();
        assert!(begun.elapsed().as_secs() < 5);
        assert_eq!(revoked.iat, tomorrow + 1);
        assert!(revoked.nats["revocations"][key].as_u64().unwrap() > tomorrow * 2);
    }
}
