//! `bulkhead fleet enroller`: the service that enrols hosts.

use std::path::PathBuf;
use std::sync::Arc;

use bulkhead_channel::{Enroller as Service, Role, push};

use super::broker::{Broker, wrong};
use super::memory::Remembered;
use super::roll::{Roster, Signing};
use crate::client::block_on;
use crate::exit::Answer;
use crate::global::Global;

/// Run the enroller: it vouches for hosts that have an invitation.
///
/// It adds each to the inventory, signs and publishes that, and puts it on the broker. Of the account's directory it needs
/// agents.nk, account.jwt, enroller.creds. While it is away nobody new comes in, and nothing else depends on it. Run one.
#[derive(Debug, clap::Args)]
pub struct Enroller {
    /// The fleet directory.
    #[arg(value_name = "DIRECTORY")]
    directory: PathBuf,
    #[command(flatten)]
    broker: Broker,
    /// The directory of `bulkhead fleet account`, or the three files.
    #[arg(long, value_name = "DIRECTORY")]
    account: PathBuf,
    #[command(flatten)]
    signing: Signing,
    #[command(flatten)]
    remembered: Remembered,
}

impl Enroller {
    pub fn run(&self, global: &Global) -> anyhow::Result<Answer> {
        let remembered = self.remembered.clone();
        let roster = Roster::new(&self.directory, self.signing.clone(), remembered, global.dialect);
        let roster = Arc::new(roster);
        let service = Service::open(&self.account, roster).map_err(wrong)?;
        block_on(async {
            let client = self.broker.service(&self.account, Role::Enroller).await?;
            let (news, mut enrolled) = tokio::sync::mpsc::unbounded_channel();
            let pushing = async {
                while enrolled.recv().await.is_some() {
                    if let Err(error) = push(&client, &self.directory).await {
                        eprintln!("bulkhead: the inventory is published, but not on the broker: {error}");
                    }
                }
                Ok(())
            };
            let told = |result: &Result<bulkhead_channel::Enrolled, String>| match result {
                Ok(of) => {
                    if global.json {
                        println!("{}", serde_json::json!(of));
                    } else {
                        println!("enrolled {}, key {}", of.node, of.key);
                    }
                    // It is awaited as long as this runs.
                    let _ = news.send(());
                }
                Err(why) => eprintln!("refused: {}", bulkhead_api::text::plain(why)),
            };
            tokio::try_join!(service.run(&client, told), pushing).map(drop).map_err(anyhow::Error::from)
        })?;
        Ok(Answer::Yes)
    }
}
