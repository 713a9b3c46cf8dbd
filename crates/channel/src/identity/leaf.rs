//! What a server of a site needs, which hosts there connect to: credentials at the other servers, and configuration.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use nkeys::KeyPair;
use serde_json::json;

use super::account::add_lines;
use super::accounts::{MISSED_JWTS, NEW_JWT, NO_LIMIT, asked_by_hosts};
use super::{Account, Claims, Credentials};
use crate::error::{Error, Result};
use crate::layout::NEWS;

/// The servers that a site's server connects to, and whom it trusts there.
#[derive(Clone, Copy, Debug)]
pub struct Upstream<'a> {
    /// Where they take leaf nodes, `tls://host:7422`.
    pub servers: &'a [String],
    /// A file of certificates on the site's server; none: the system's.
    pub ca: Option<&'a str>,
}

impl Account {
    /// Writes a new directory for a site's server: `leaf.conf`, which its configuration includes, `nats-server.conf`, and
    /// two files of credentials. These allow what any host may ask, for any of them, and nothing else.
    ///
    /// # Errors
    /// The name is none, a server is no URL, or the directory is there or cannot be written.
    pub fn leaf(&self, name: &str, upstream: Upstream<'_>, directory: &Path) -> Result<()> {
        let is_plain = |text: &str| !text.contains(['"', '\\']) && !text.contains(char::is_control);
        let are_urls = upstream.servers.iter().all(|server| server.contains("://") && is_plain(server));
        if upstream.servers.is_empty() || !are_urls || !upstream.ca.is_none_or(is_plain) {
            return Err(Error::Settings("a server is named as in tls://nats-1.example.com:7422".to_owned()));
        }
        if directory.exists() {
            return Err(Error::Settings(format!(
                "{} is there already: name a directory that is not, or remove it",
                directory.display()
            )));
        }
        let record = self.leaf_file(name);
        let name = format!("leaf-{}", crate::layout::token(name));
        let hosts = self.leaf_user(&name, &self.keys().leaf, &asked_by_hosts(), &[NEWS, "_R_.>"])?;
        let hears = [NEW_JWT, "$SYS._INBOX.>"];
        let system = self.leaf_user(&name, &self.keys().leaf_system, &[MISSED_JWTS.to_owned()], &hears)?;
        let made = DirBuilder::new().mode(0o700).create(directory);
        made.map_err(|error| Error::file(directory, error))?;
        // On record first: it must be possible to take back what is anywhere.
        add_lines(&record, &[hosts.key(), system.key()])?;
        hosts.write(&directory.join("leaf.creds"))?;
        system.write(&directory.join("leaf-system.creds"))?;
        let urls: Vec<String> = upstream.servers.iter().map(|server| format!("\"{server}\"")).collect();
        let tls = upstream.ca.map(|ca| format!(", tls {{ ca_file: \"{ca}\" }}")).unwrap_or_default();
        let remote = |key: &KeyPair, file: &str| {
            format!(
                "    {{ urls: [{}], account: {}, credentials: \"./{file}\"{tls} }}\n",
                urls.join(", "),
                key.public_key()
            )
        };
        let configuration = format!(
            "# The server of a site: `include` this and nats-server.conf, and start it in the directory of both.\n\
             leafnodes {{\n  remotes: [\n{}{}  ]\n}}\n",
            remote(&self.keys().streams, "leaf.creds"),
            remote(&self.keys().system, "leaf-system.creds"),
        );
        let files = [("leaf.conf", configuration), ("nats-server.conf", self.server_configuration()?)];
        for (file, text) in files {
            let path = directory.join(file);
            std::fs::write(&path, text).map_err(|error| Error::file(&path, error))?;
        }
        Ok(())
    }

    fn leaf_user(
        &self,
        name: &str,
        account: &KeyPair,
        publish: &[String],
        subscribe: &[&str],
    ) -> Result<Credentials> {
        let key = KeyPair::new_user();
        let nats = json!({
            "type": "user", "version": 2, "subs": NO_LIMIT, "data": NO_LIMIT, "payload": NO_LIMIT,
            "pub": { "allow": publish }, "sub": { "allow": subscribe },
            "allowed_connection_types": ["LEAFNODE"],
        });
        Credentials::new(Claims::new(&key.public_key(), name, nats).sign(account)?, key)
    }
}
