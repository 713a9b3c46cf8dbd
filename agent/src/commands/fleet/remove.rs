//! `bulkhead fleet remove`: a host put out, at its peers and at the broker.

use std::collections::BTreeSet;
use std::path::PathBuf;

use bulkhead_channel::{Account, Role, mark_removed, push, tell_servers};

use super::broker::{Broker, wrong};
use super::memory::Remembered;
use super::roll::{Roster, Signing};
use crate::client::block_on;
use crate::exit::{Answer, Usage};
use crate::global::Global;

/// Remove a host: from the inventory, and from the broker.
///
/// Its peers drop its packets once they have the new inventory, and the broker closes its connection and accepts it no
/// more. Its invitation does not bring it back.
#[derive(Debug, clap::Args)]
pub struct Remove {
    /// The node's name in the inventory.
    #[arg(value_name = "NODE")]
    node: String,
    /// The fleet directory.
    #[arg(long, value_name = "DIRECTORY")]
    fleet: PathBuf,
    #[command(flatten)]
    broker: Broker,
    /// The directory of `bulkhead fleet account`.
    #[arg(long, value_name = "DIRECTORY")]
    account: PathBuf,
    #[command(flatten)]
    signing: Signing,
    #[command(flatten)]
    remembered: Remembered,
}

impl Remove {
    pub fn run(&self, global: &Global) -> anyhow::Result<Answer> {
        let account = Account::open(&self.account).map_err(wrong)?;
        // First what its peers' kernels enforce.
        let remembered = self.remembered.clone();
        let roster = Roster::new(&self.fleet, self.signing.clone(), remembered, global.dialect);
        let listed = roster.remove(&self.node);
        let keys = block_on(async {
            let service = self.broker.service(&self.account, Role::Enroller).await?;
            let pushed = push(&service, &self.fleet).await;
            // What its record does not say is no reason to leave it in.
            let (recorded, unrecorded) = match mark_removed(&service, &self.node).await {
                Ok(keys) => (keys, None),
                Err(error) => (Vec::new(), Some(error)),
            };
            let keys: BTreeSet<String> =
                account.issued(&self.node).map_err(wrong)?.into_iter().chain(recorded).collect();
            let keys = Vec::from_iter(keys);
            let system = self.broker.connect(&self.account.join("system.creds")).await?;
            if !keys.is_empty() {
                tell_servers(&system, &account.revoke(&keys)?).await?;
            }
            pushed?;
            unrecorded.map_or(Ok(keys), |error| Err(error.into()))
        })?;
        let was_listed = listed.map_err(|why| {
            Usage(format!("{}: its keys are revoked, but it is still in the inventory: {why}", self.node))
        })?;
        if !was_listed && keys.is_empty() {
            return Err(Usage(format!("{}: neither the inventory nor the broker knows it", self.node)).into());
        }
        if global.json {
            println!("{}", serde_json::json!({ "node": self.node, "listed": was_listed, "revoked": keys }));
        } else {
            let listed = if was_listed { "taken out of the inventory" } else { "not in the inventory" };
            println!("{}: {listed}; {} of its keys revoked at the broker", self.node, keys.len());
        }
        Ok(Answer::Yes)
    }
}
