//! `bulkhead fleet push`: a fleet directory's news, put on the broker.

use std::path::PathBuf;

use bulkhead_channel::{Role, prepare, push};

use super::broker::Broker;
use crate::client::block_on;
use crate::exit::Answer;
use crate::global::Global;

/// Put what is published in a fleet directory on NATS.
///
/// Hosts that are connected have a change within a second. What is new is sent, with differences from the eight versions
/// before. Where streams.creds is, it first makes the streams, or has them be as they must.
#[derive(Debug, clap::Args)]
pub struct Push {
    /// The fleet directory.
    #[arg(value_name = "DIRECTORY")]
    directory: PathBuf,
    #[command(flatten)]
    broker: Broker,
    /// The directory of `bulkhead fleet account`; publisher.creds suffices.
    ///
    /// Once the streams are there, that is.
    #[arg(long, value_name = "DIRECTORY")]
    account: PathBuf,
    /// How many servers keep a copy of each stream: 1, 3 or 5.
    #[arg(long, value_name = "COPIES", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=5))]
    copies: u8,
}

impl Push {
    pub fn run(&self, global: &Global) -> anyhow::Result<Answer> {
        let pushed = block_on(async {
            // Where only publisher.creds is, the streams are as they are.
            if Role::Streams.file(&self.account).exists() {
                prepare(&self.broker.service(&self.account, Role::Streams).await?, self.copies).await?;
            }
            let client = self.broker.service(&self.account, Role::Publisher).await?;
            Ok(push(&client, &self.directory).await?)
        })?;
        if global.json {
            let ways = pushed.differences.iter();
            let ways: Vec<_> = ways
                .map(|(from, to, bytes)| serde_json::json!({ "from": from, "to": to, "bytes": bytes }))
                .collect();
            println!(
                "{}",
                serde_json::json!({
                    "new": pushed.is_new, "files": pushed.files, "head": pushed.head, "stored": pushed.stored,
                    "differences": ways,
                })
            );
            return Ok(Answer::Yes);
        }
        if !pushed.is_new {
            println!("nothing is new: the broker has all {} files", pushed.files);
            return Ok(Answer::Yes);
        }
        println!(
            "{} files; {} bytes to every host, {} bytes to those who ask",
            pushed.files, pushed.head, pushed.stored
        );
        for (from, to, bytes) in &pushed.differences {
            println!(
                "difference {}… to {}…: {bytes} bytes",
                &from[..12.min(from.len())],
                &to[..12.min(to.len())]
            );
        }
        Ok(Answer::Yes)
    }
}
