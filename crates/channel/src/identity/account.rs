//! A fleet's account at the broker, and the keys that sign for it, in a directory of the operator's own.
//!
//! ```text
//! operator.nk  account.nk  agents.nk  invitations.nk  services.nk  system.nk
//!                                                                  seeds: whoever has them decides who may do what
//! account.jwt                                                      what the servers know, revocations included
//! issued/                                                          whose credentials were made here
//! nats-server.conf                                                 what each server's configuration includes
//! publisher.creds  enroller.creds  collector.creds  system.creds   for the services
//! ```
//!
//! Hosts and invitations are in one account, streams and services in another. A server checks no permission on the
//! subject that an answer goes to, and whoever asks chooses it: `$JS.API.STREAM.DELETE.…`, say, to which the empty answer
//! of a stream is a valid request. Across accounts an answer goes back to the account of whoever asked, and there is no
//! stream there. What that account imports has one export, so servers take an answer to one service that would become a
//! request to another one for a cycle, and drop it.

use std::collections::BTreeMap;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use nkeys::KeyPair;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::claims::now;
use super::credentials::write_secret;
use super::{Claims, Credentials};
use crate::error::{Error, Result};
use crate::layout::{ENROLMENTS, EVENTS, FILES, NEWS};

/// How NATS writes that there is no limit.
const NO_LIMIT: i64 = -1;

/// Until when JWTs of a revoked key must have been made to be refused, in seconds since 1970: the year 9999. A key that
/// is revoked is never used again, and what a host was minted while a clock was ahead is refused, too.
const FOR_EVER: u64 = 253_402_300_799;

/// Who speaks to the broker for the fleet itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Puts a fleet directory on the broker.
    Publisher,
    /// Mints agents' credentials for those who have an invitation.
    Enroller,
    /// Reads what hosts have sent.
    Collector,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Publisher, Self::Enroller, Self::Collector];

    /// Its name, which its file of credentials has, too.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Publisher => "publisher",
            Self::Enroller => "enroller",
            Self::Collector => "collector",
        }
    }

    /// Subjects that it may publish to and subscribe to.
    fn subjects(self) -> (Vec<String>, Vec<String>) {
        let own = format!("_INBOX_{}.>", self.name());
        let api = |verb: &str, stream: &str| format!("$JS.API.STREAM.{verb}.{stream}");
        let direct = |stream: &str| format!("$JS.API.DIRECT.GET.{stream}.>");
        let files = vec!["fleet.files.>".to_owned(), direct(FILES)];
        match self {
            Self::Publisher => {
                let streams = [FILES, EVENTS, ENROLMENTS];
                let made = streams.iter().flat_map(|stream| ["INFO", "CREATE"].map(|verb| api(verb, stream)));
                // Not of the others: whoever may change a stream's limits may have it forget what it holds.
                let more = [api("UPDATE", FILES), api("PURGE", FILES)];
                (files.into_iter().chain(made).chain(more).collect(), vec![own, "fleet.head".to_owned()])
            }
            Self::Enroller => {
                let more =
                    ["enrolled.>".to_owned(), direct(ENROLMENTS), api("INFO", FILES), api("PURGE", FILES)];
                (
                    files.into_iter().chain(more).collect(),
                    vec![own, "enrol.*".to_owned(), "fleet.head".to_owned()],
                )
            }
            Self::Collector => {
                let consumer = format!("$JS.API.CONSUMER.*.{EVENTS}.>");
                let create = format!("$JS.API.CONSUMER.*.{EVENTS}");
                let ack = format!("$JS.ACK.{EVENTS}.>");
                let next = format!("$JS.API.CONSUMER.MSG.NEXT.{EVENTS}.>");
                // Whatever follows a number, of any host, is asked for without a subject.
                let next_event = format!("$JS.API.DIRECT.GET.{EVENTS}");
                let read =
                    [direct(EVENTS), next_event, direct(FILES), api("INFO", EVENTS), api("MSG.GET", EVENTS)];
                (
                    read.into_iter().chain([consumer, create, ack, next]).collect(),
                    vec![own, "fleet.head".to_owned()],
                )
            }
        }
    }
}

/// A fleet's account: its directory, and the keys in it.
pub struct Account {
    directory: PathBuf,
    operator: KeyPair,
    account: KeyPair,
    agents: KeyPair,
    invitations: KeyPair,
    services: KeyPair,
    system: KeyPair,
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Account({})", self.directory.display())
    }
}

/// The limits of an account without streams: there are none.
fn limits() -> Value {
    json!({
        "subs": NO_LIMIT, "data": NO_LIMIT, "payload": NO_LIMIT, "imports": NO_LIMIT, "exports": NO_LIMIT,
        "wildcards": true, "conn": NO_LIMIT, "leaf": NO_LIMIT,
    })
}

/// A key's file.
fn seed(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}.nk"))
}

fn load(directory: &Path, name: &str) -> Result<KeyPair> {
    read_key(&seed(directory, name))
}

/// A key of a file that holds its seed alone.
pub(crate) fn read_key(path: &Path) -> Result<KeyPair> {
    let text = std::fs::read_to_string(path).map(Zeroizing::new).map_err(|error| Error::file(path, error))?;
    KeyPair::from_seed(text.trim()).map_err(|error| Error::Settings(format!("{}: {error}", path.display())))
}

fn text_of(key: &KeyPair) -> Result<Zeroizing<String>> {
    key.seed().map(Zeroizing::new).map_err(|error| Error::Settings(format!("a key has no seed: {error}")))
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
        if seed(directory, "operator").exists() {
            return Err(Error::Settings(format!(
                "{} has an account already: its hosts would know no other; name an empty directory",
                directory.display()
            )));
        }
        let account = Self {
            directory: directory.to_owned(),
            operator: KeyPair::new_operator(),
            account: KeyPair::new_account(),
            agents: KeyPair::new_account(),
            invitations: KeyPair::new_account(),
            services: KeyPair::new_account(),
            system: KeyPair::new_account(),
        };
        let keys = [
            ("account", &account.account),
            ("agents", &account.agents),
            ("invitations", &account.invitations),
            ("services", &account.services),
            ("system", &account.system),
            // Last: it says that the others are there.
            ("operator", &account.operator),
        ];
        for (name, key) in keys {
            write_secret(&seed(directory, name), text_of(key)?.as_bytes())?;
        }
        account.write_jwt(&account.jwt(&BTreeMap::new(), now())?)?;
        for role in Role::ALL {
            account.service(role)?.write(&directory.join(format!("{}.creds", role.name())))?;
        }
        account.system_user()?.write(&directory.join("system.creds"))?;
        let configuration = account.server_configuration()?;
        let path = directory.join("nats-server.conf");
        std::fs::write(&path, configuration).map_err(|error| Error::file(&path, error))?;
        Ok(account)
    }

    /// The account of a directory.
    ///
    /// # Errors
    /// A key is missing.
    pub fn open(directory: &Path) -> Result<Self> {
        Ok(Self {
            directory: directory.to_owned(),
            operator: load(directory, "operator")?,
            account: load(directory, "account")?,
            agents: load(directory, "agents")?,
            invitations: load(directory, "invitations")?,
            services: load(directory, "services")?,
            system: load(directory, "system")?,
        })
    }

    /// The public key of the hosts' account.
    #[must_use]
    pub fn key(&self) -> String {
        self.account.public_key()
    }

    /// The file of the account's JWT.
    fn jwt_file(&self) -> PathBuf {
        self.directory.join("account.jwt")
    }

    fn write_jwt(&self, jwt: &str) -> Result<()> {
        write_secret(&self.jwt_file(), jwt.as_bytes())
    }

    /// The JWT of the hosts' account, made then, with keys whose users are not accepted if they were made before.
    fn jwt(&self, revoked: &BTreeMap<String, u64>, made: u64) -> Result<String> {
        let scope = |key: &KeyPair, role: &str, publish: &[String], subscribe: &[&str]| {
            json!({
                "kind": "user_scope", "key": key.public_key(), "role": role,
                "template": {
                    "pub": { "allow": publish }, "sub": { "allow": subscribe },
                    "subs": 16, "data": NO_LIMIT, "payload": 1 << 20,
                },
            })
        };
        let files = format!("$JS.API.DIRECT.GET.{FILES}.fleet.files.>");
        let agent = [files.clone(), "ev.{{name()}}".to_owned()];
        let inbox = "_INBOX_{{name()}}.>";
        let nats = json!({
            "type": "account", "version": 2,
            "limits": limits(),
            "imports": [
                self.import("files", "service", &files),
                self.import("evidence", "service", "ev.*"),
                self.import("enrolment", "service", "enrol.*"),
                self.import("news", "stream", NEWS),
            ],
            "signing_keys": [
                scope(&self.agents, "agent", &agent, &[NEWS, inbox]),
                scope(&self.invitations, "invitation", &["enrol.{{name()}}".to_owned()], &[inbox]),
            ],
            "revocations": revoked,
        });
        Claims { iat: made, ..Claims::new(&self.account.public_key(), "bulkhead", nats) }.sign(&self.operator)
    }

    /// What the hosts' account has from that of the services.
    fn import(&self, name: &str, kind: &str, subject: &str) -> Value {
        json!({ "name": name, "type": kind, "subject": subject, "account": self.services.public_key() })
    }

    /// The JWT of the services' account, which has the streams.
    fn services_jwt(&self) -> Result<String> {
        let mut limits = limits();
        for of_streams in ["mem_storage", "disk_storage", "streams", "consumer"] {
            limits[of_streams] = NO_LIMIT.into();
        }
        let nats = json!({
            "type": "account", "version": 2, "limits": limits,
            // What hosts may reach of it their account's imports say. One export, or answers become requests.
            "exports": [
                { "name": "services", "type": "service", "subject": ">" },
                { "name": "news", "type": "stream", "subject": NEWS },
            ],
        });
        Claims::new(&self.services.public_key(), "services", nats).sign(&self.operator)
    }

    /// Credentials of a service.
    fn service(&self, role: Role) -> Result<Credentials> {
        let (publish, subscribe) = role.subjects();
        let key = KeyPair::new_user();
        let mut nats = json!({
            "type": "user", "version": 2, "subs": NO_LIMIT, "data": NO_LIMIT, "payload": NO_LIMIT,
            "pub": { "allow": publish }, "sub": { "allow": subscribe },
        });
        if role == Role::Enroller {
            // It answers whoever asks, where they wait.
            nats["resp"] = json!({ "max": 1, "ttl": 10_000_000_000_u64 });
        }
        let jwt = Claims::new(&key.public_key(), role.name(), nats).sign(&self.services)?;
        Credentials::new(jwt, key)
    }

    /// Credentials that servers take changes of accounts from.
    fn system_user(&self) -> Result<Credentials> {
        let key = KeyPair::new_user();
        let nats = json!({
            "type": "user", "version": 2, "subs": NO_LIMIT, "data": NO_LIMIT, "payload": NO_LIMIT,
            "pub": { "allow": ["$SYS.REQ.CLAIMS.UPDATE"] }, "sub": { "allow": ["_INBOX_system.>"] },
        });
        Credentials::new(Claims::new(&key.public_key(), "system", nats).sign(&self.system)?, key)
    }

    /// An agent's JWT for a key, and until when it is valid; none: until it is revoked.
    ///
    /// # Errors
    /// The key cannot sign.
    pub fn agent(&self, node: &str, key: &str, until: Option<u64>) -> Result<String> {
        agent_jwt(&self.agents, &self.account.public_key(), node, key, until)
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
        let mut keys = self.issued(node)?;
        keys.push(credentials.key());
        let directory = self.directory.join("issued");
        std::fs::create_dir_all(&directory).map_err(|error| Error::file(&directory, error))?;
        write_secret(&self.issued_file(node), keys.join("\n").as_bytes())?;
        Ok(credentials)
    }

    /// Keys of a node for which credentials were made here.
    ///
    /// # Errors
    /// The record cannot be read.
    pub fn issued(&self, node: &str) -> Result<Vec<String>> {
        let path = self.issued_file(node);
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(text.lines().map(str::to_owned).collect()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(Error::file(&path, error)),
        }
    }

    fn issued_file(&self, node: &str) -> PathBuf {
        self.directory.join("issued").join(crate::layout::token(node))
    }

    /// A JWT of an invitation for a key that is made along, with what is offered.
    pub(crate) fn invitation(&self, id: &str, until: u64, offer: Value) -> Result<Credentials> {
        let key = KeyPair::new_user();
        let nats = json!({ "type": "user", "version": 2, "issuer_account": self.account.public_key() });
        let claims =
            Claims { exp: Some(until), bulkhead: Some(offer), ..Claims::new(&key.public_key(), id, nats) };
        Credentials::new(claims.sign(&self.invitations)?, key)
    }

    /// What is included into each server's configuration.
    ///
    /// # Errors
    /// The account's file cannot be read.
    pub fn server_configuration(&self) -> Result<String> {
        let operator =
            json!({ "type": "operator", "version": 2, "system_account": self.system.public_key() });
        let operator = Claims::new(&self.operator.public_key(), "bulkhead", operator).sign(&self.operator)?;
        let system = json!({ "type": "account", "version": 2, "limits": limits() });
        let system_key = self.system.public_key();
        let system = Claims::new(&system_key, "SYS", system).sign(&self.operator)?;
        let (services_key, services) = (self.services.public_key(), self.services_jwt()?);
        let account = self.current_jwt()?;
        Ok(format!(
            "# A fleet's account: `include` this from each server's configuration. It holds no secret.\n\
             operator: {operator}\n\
             system_account: {system_key}\n\
             # Revocations arrive here while servers run, and outlive restarts.\n\
             resolver {{ type: full, dir: \"./jwt\", allow_delete: false, interval: \"2m\" }}\n\
             resolver_preload {{\n  {system_key}: {system}\n  {services_key}: {services}\n  {}: {account}\n}}\n",
            self.account.public_key()
        ))
    }

    fn current_jwt(&self) -> Result<String> {
        let path = self.jwt_file();
        std::fs::read_to_string(&path).map_err(|error| Error::file(&path, error))
    }

    /// Takes back what was minted for keys, and what ever will be: writes the account's new JWT and returns it, to be handed to the
    /// servers ([`crate::tell_servers`]).
    ///
    /// # Errors
    /// The account's file cannot be read or written.
    pub fn revoke(&self, keys: &[String]) -> Result<String> {
        let current = Claims::read(&self.current_jwt()?)?;
        let revoked = current.nats.get("revocations").cloned().unwrap_or_else(|| json!({}));
        let mut revoked: BTreeMap<String, u64> = serde_json::from_value(revoked)
            .map_err(|error| Error::Settings(format!("{}: {error}", self.jwt_file().display())))?;
        for key in keys {
            KeyPair::from_public_key(key)
                .map_err(|_| Error::Settings(format!("`{key}` is no key of a user")))?;
            revoked.insert(key.clone(), FOR_EVER);
        }
        // A server keeps what it has if that is as new, whatever the clock said when it was made.
        let jwt = self.jwt(&revoked, now().max(current.iat.saturating_add(1)))?;
        self.write_jwt(&jwt)?;
        let path = self.directory.join("nats-server.conf");
        std::fs::write(&path, self.server_configuration()?).map_err(|error| Error::file(&path, error))?;
        Ok(jwt)
    }
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
    use std::collections::BTreeMap;
    use std::time::Instant;

    use super::{Account, now};
    use crate::identity::Claims;

    #[test]
    fn a_clock_that_was_ahead_keeps_no_key_in() {
        let directory = tempfile::tempdir().unwrap();
        let account = Account::create(&directory.path().join("account")).unwrap();
        let tomorrow = now() + 24 * 60 * 60;
        account.write_jwt(&account.jwt(&BTreeMap::new(), tomorrow).unwrap()).unwrap();
        let (key, begun) = (account.agent_credentials("a").unwrap().key(), Instant::now());
        let revoked = Claims::read(&account.revoke(std::slice::from_ref(&key)).unwrap()).unwrap();
        assert!(begun.elapsed().as_secs() < 5);
        assert_eq!(revoked.iat, tomorrow + 1);
        assert!(revoked.nats["revocations"][key].as_u64().unwrap() > tomorrow * 2);
    }
}
