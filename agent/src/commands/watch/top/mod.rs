//! `bulkhead watch --top`: the whole screen.

mod polled;
mod rate;
mod screen;
mod state;
mod tally;
mod view;

#[cfg(test)]
mod tests;

use std::time::Duration;

use anyhow::Context as _;
use bulkhead_api::route;
use bulkhead_api::status::Status;
use hyper::Method;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{Receiver, channel};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use self::screen::Screen;
use self::state::{Asked, State};
use super::source::{Seen, Watching};
use crate::client::{self, PATIENCE};
use crate::commands::filter::{Filter, Meant};
use crate::daemon::clock::wall_time;
use crate::exit::Answer;
use crate::global::Global;
use crate::paths::Paths;

/// Between two pictures.
const FRAME: Duration = Duration::from_millis(250);

/// Between two questions what is enforced.
const POLL: Duration = Duration::from_secs(2);

/// Events that are added up before keys are looked at.
const BATCH: usize = 512;

/// Shows the screen until somebody ends it.
///
/// # Errors
/// If no agent listens at first, or the terminal refuses.
pub fn run(
    global: &Global,
    paths: &Paths,
    filter: &Filter,
    meant: Meant,
    color: bool,
) -> anyhow::Result<Answer> {
    client::block_on(async {
        // Where there is nothing to see, the terminal stays as it is.
        let watching = Watching::open(global, paths, meant.since).await?;
        let mut ends = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()]
            .map(|kind| signal(kind).context("waiting for signals"));
        let [terminate, interrupt, hangup] = &mut ends;
        let [Ok(terminate), Ok(interrupt), Ok(hangup)] = [terminate, interrupt, hangup] else {
            anyhow::bail!("the system refuses to tell of signals");
        };
        let mut screen = Screen::open()?;
        let keys = screen::keys().context("reading keys")?;
        let mut state = State::new(filter, meant);
        tokio::select! {
            ended = show(global, paths, &mut screen, &mut state, watching, keys, color) => ended?,
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hangup.recv() => {}
        }
        Ok(Answer::Yes)
    })
}

async fn show(
    global: &Global,
    paths: &Paths,
    screen: &mut Screen,
    state: &mut State,
    watching: Watching,
    mut keys: Receiver<ratatui::crossterm::event::Event>,
    color: bool,
) -> anyhow::Result<()> {
    let mut watching = Some(watching);
    let mut polls = poll(paths);
    let mut frames = interval(FRAME);
    frames.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut ended = Instant::now();
    let mut again: Option<JoinHandle<Watching>> = None;
    loop {
        tokio::select! {
            biased;
            _ = frames.tick() => {
                state.live.now = wall_time() / 1_000_000_000;
                screen.0.draw(|frame| view::draw(frame, state, color)).context("drawing")?;
            }
            key = keys.recv() => match key {
                Some(typed) => {
                    if state.key(&typed) == Asked::End {
                        return Ok(());
                    }
                    frames.reset_immediately();
                }
                // The terminal is gone.
                None => return Ok(()),
            },
            status = polls.recv() => state.poll(status.flatten().as_ref()),
            more = see(&mut watching, state) => if !more {
                watching = None;
                ended = Instant::now();
                state.gap = Some("the agent has ended: nothing is seen here until it is back".to_owned());
                again = Some(tokio::spawn(reopen(global.clone(), paths.clone())));
            },
            // An agent that starts again is watched again.
            opened = joined(&mut again) => {
                let seconds = ended.elapsed().as_secs().max(1);
                let words = format!("not watched for {seconds} s, while the agent was away");
                state.gap = Some(format!("{words}: `bulkhead audit show` has it"));
                (watching, again) = (Some(opened?), None);
            }
        }
    }
}

/// Adds up what comes, some of it; false: the agent has ended.
async fn see(watching: &mut Option<Watching>, state: &mut State) -> bool {
    let Some(watching) = watching else { return std::future::pending().await };
    let now = || wall_time() / 1_000_000_000;
    let mut next = watching.next().await;
    for _ in 0..BATCH {
        match &next {
            Ok(Some(seen)) => state.see(seen, now()),
            Ok(None) => return false,
            Err(error) => {
                let note = bulkhead_api::text::plain(&format!("{error:#}")).into_owned();
                state.see(&Seen::Note(note), now());
                return false;
            }
        }
        match watching.try_next() {
            Some(more) => next = more,
            None => break,
        }
    }
    true
}

/// The agent's events, once it is back.
async fn reopen(global: Global, paths: Paths) -> Watching {
    loop {
        sleep(Duration::from_secs(1)).await;
        if let Ok(watching) = Watching::open(&global, &paths, None).await {
            return watching;
        }
    }
}

/// What a task has come to, if there is one.
async fn joined(task: &mut Option<JoinHandle<Watching>>) -> anyhow::Result<Watching> {
    match task {
        Some(task) => task.await.context("watching the agent again"),
        None => std::future::pending().await,
    }
}

/// What is enforced, asked again and again; none: no agent answers.
fn poll(paths: &Paths) -> Receiver<Option<Status>> {
    let (sender, polls) = channel(1);
    let socket = paths.socket.clone();
    tokio::spawn(async move {
        loop {
            let status = client::ask_within(PATIENCE, &socket, Method::GET, route::STATUS).await;
            if sender.send(status.ok().flatten()).await.is_err() {
                return;
            }
            sleep(POLL).await;
        }
    });
    polls
}
