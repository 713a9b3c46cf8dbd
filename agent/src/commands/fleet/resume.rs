//! `bulkhead fleet resume`: back to what the fleet has signed.

use bulkhead_api::route;

use crate::client;
use crate::exit::Answer;
use crate::global::Global;
use crate::paths::Paths;

/// Enforce what the fleet has signed again, on this host.
///
/// Whoever has applied other files here, or rolled back, has put this host aside: what is signed meanwhile is verified,
/// and not enforced before this. What this host has given up or refused is tried once more.
#[derive(Debug, clap::Args)]
pub struct Resume {}

impl Resume {
    pub fn run(&self, global: &Global) -> anyhow::Result<Answer> {
        let was_local: bool = client::command(&Paths::of(&global.instance)?, route::RESUME, &())?;
        if global.json {
            println!("{}", serde_json::json!({"resumed": was_local}));
        } else if was_local {
            println!("what the fleet has signed is enforced again");
        } else {
            println!(
                "nothing was applied here in place of what the fleet has signed; what was refused is tried again"
            );
        }
        Ok(Answer::Yes)
    }
}
