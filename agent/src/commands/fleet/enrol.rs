//! `bulkhead fleet enrol`: the host's side of an invitation.

use std::path::PathBuf;

use bulkhead_channel::{Invitation, enrol};

use super::broker::wrong;
use crate::client::block_on;
use crate::exit::{Answer, Usage};
use crate::global::Global;

/// Enrol this host by an invitation.
///
/// It makes a key here, has the enroller vouch for it and add this host to the inventory, and writes fleet.creds and what
/// else `[fleet]` of agent.toml needs. Interrupted, it goes on when run again.
#[derive(Debug, clap::Args)]
pub struct Enrol {
    /// The invitation.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Where to write credentials and roots.
    #[arg(long, value_name = "DIRECTORY", default_value = "/etc/bulkhead")]
    directory: PathBuf,
    /// This host's WireGuard public key, for the inventory.
    #[arg(long, value_name = "KEY")]
    wireguard_key: Option<String>,
    /// Enrol again, in place of the credentials and roots that are there.
    #[arg(long)]
    replace: bool,
}

impl Enrol {
    pub fn run(&self, global: &Global) -> anyhow::Result<Answer> {
        let there = self.directory.join("fleet.creds");
        if there.exists() && !self.replace {
            return Err(Usage(format!(
                "{} is there: this host is enrolled; --replace has it enrol again, and trust the roots of this invitation",
                there.display()
            ))
            .into());
        }
        let invitation = Invitation::read(&self.file).map_err(wrong)?;
        let made =
            block_on(async { Ok(enrol(&invitation, &self.directory, self.wireguard_key.clone()).await?) })?;
        let servers = serde_json::to_string(&invitation.servers)?;
        if global.json {
            println!(
                "{}",
                serde_json::json!({ "node": made.name(), "key": made.key(), "directory": self.directory })
            );
            return Ok(Answer::Yes);
        }
        println!("enrolled as {}, key {}", made.name(), made.key());
        println!("agent.toml:\n\n[fleet]");
        println!("policy_root = \"fleet/policy.root.json\"\ninventory_root = \"fleet/inventory.root.json\"");
        println!("servers = {servers}\ncredentials = \"fleet.creds\"");
        if invitation.ca.is_some() {
            println!("ca = \"fleet.ca.pem\"");
        }
        Ok(Answer::Yes)
    }
}
