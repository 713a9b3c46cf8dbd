//! `bulkhead detach`: ends enforcement.

use std::time::{Duration, Instant};

use bulkhead_api::route;
use hyper::Method;

use crate::client;
use crate::config::Config;
use crate::daemon::events::alone;
use crate::daemon::state::in_place;
use crate::daemon::store::Store;
use crate::daemon::{lock, residence};
use crate::exit::Answer;
use crate::global::Global;
use crate::paths::Paths;

/// How long an agent is waited for before it is ended instead.
const PATIENCE: Duration = Duration::from_secs(5);

/// Between two looks whether it has ended.
const INTERVAL: Duration = Duration::from_millis(20);

/// Detach every program and end enforcement.
///
/// Removes the instance's tables, too, agent running or not.
#[derive(Debug, clap::Args)]
pub struct Detach {}

impl Detach {
    pub fn run(&self, global: &Global) -> anyhow::Result<Answer> {
        let paths = Paths::of(&global.instance)?;
        // An agent that ends while it is asked leaves its pins, like one that does not run.
        let ask = client::ask_within(PATIENCE, &paths.socket, Method::POST, route::DETACH);
        let by_agent: Option<Vec<(String, String)>> =
            client::block_on(async { Ok(ask.await.unwrap_or_default()) })?;
        let (links, was_closed) = match by_agent {
            Some(links) => {
                // What follows is true only of an agent that has ended.
                wait_for_end(&paths);
                (links, false)
            }
            None => {
                // One that only starts, or waits for its first interface, would attach afterwards; one
                // that hangs is no reason to stay locked out.
                let _locks =
                    paths.locked().into_iter().map(lock::take).collect::<anyhow::Result<Vec<_>>>()?;
                // The guard first: without programs it would drop everything.
                let was_closed = residence::remove_guard(&global.instance, &paths)?;
                let before = Store::new(&paths.state).ledger().map(|ledger| ledger.enforced);
                let links = bulkhead_dataplane::detach(&paths.pins)?;
                if !links.is_empty() {
                    let config = Config::find(None, paths.is_default()).ok().flatten();
                    let node = config.and_then(|config| config.node).unwrap_or_default();
                    alone::tell_detached(&paths, &node, before.unwrap_or_default());
                }
                let named = links.into_iter().map(|(interface, hook)| (interface, hook.name().to_owned()));
                (named.collect(), was_closed)
            }
        };
        residence::forget(&paths.state);
        in_place::forget(&paths.socket);
        if global.json {
            println!("{}", serde_json::json!({ "detached": links }));
        } else if links.is_empty() && was_closed {
            println!("no program was attached; the guard is removed, and managed interfaces are open");
        } else if links.is_empty() {
            println!("nothing was attached");
        } else {
            links.iter().for_each(|(interface, hook)| println!("detached {interface} {hook}"));
        }
        Ok(Answer::Yes)
    }
}

/// Waits until the agent has ended, which it does once it has answered; says so of one that does not.
fn wait_for_end(paths: &Paths) {
    let over = Instant::now() + PATIENCE;
    while let Some(process) = paths.holder() {
        if Instant::now() >= over {
            eprintln!("bulkhead: the agent (process {process}) has detached and not ended yet");
            return;
        }
        std::thread::sleep(INTERVAL);
    }
}
