//! `bulkhead fleet account` and `credentials`: who may do what at the broker.

use std::path::PathBuf;

use bulkhead_channel::{Account as Keys, Role};

use super::broker::wrong;
use crate::exit::Answer;
use crate::global::Global;

/// Make a fleet's account at the broker.
///
/// The directory then has its keys, credentials of the services, and nats-server.conf, which each server's
/// configuration includes. Whoever has operator.nk decides who is accepted: keep the directory offline, and copy out of it
/// what each machine needs.
#[derive(Debug, clap::Args)]
pub struct Account {
    /// Where to: a new directory.
    #[arg(value_name = "DIRECTORY")]
    directory: PathBuf,
}

/// Make a host's credentials without an enroller.
///
/// The key is made here and travels with the file. `bulkhead fleet invite` is better: there the host's key never leaves
/// the host.
#[derive(Debug, clap::Args)]
pub struct Credentials {
    /// The node's name in the inventory.
    #[arg(value_name = "NODE")]
    node: String,
    /// The directory of `bulkhead fleet account`.
    #[arg(long, value_name = "DIRECTORY")]
    account: PathBuf,
    /// Where to write it [default: NODE.creds here].
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Account {
    pub fn run(&self, global: &Global) -> anyhow::Result<Answer> {
        let account = Keys::create(&self.directory).map_err(wrong)?;
        if global.json {
            println!("{}", serde_json::json!({ "account": account.key(), "directory": self.directory }));
            return Ok(Answer::Yes);
        }
        println!("account {}", account.key());
        println!("servers include {}", self.directory.join("nats-server.conf").display());
        for role in Role::SERVICES {
            println!("the {} uses {}", role.name(), role.file(&self.directory).display());
        }
        println!("the streams are made by {}; it stays here", Role::Streams.file(&self.directory).display());
        Ok(Answer::Yes)
    }
}

impl Credentials {
    pub fn run(&self, global: &Global) -> anyhow::Result<Answer> {
        let account = Keys::open(&self.account).map_err(wrong)?;
        let made = account.issue(&self.node).map_err(wrong)?;
        let path = self
            .output
            .clone()
            .unwrap_or_else(|| format!("{}.creds", bulkhead_channel::token(&self.node)).into());
        made.write(&path).map_err(wrong)?;
        if global.json {
            println!("{}", serde_json::json!({ "node": self.node, "key": made.key(), "file": path }));
        } else {
            println!("{}: credentials of {}, key {}", path.display(), self.node, made.key());
        }
        Ok(Answer::Yes)
    }
}
