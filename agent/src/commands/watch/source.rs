//! Where events come from: the event log for what was, then the agent.

use anyhow::Context as _;
use bulkhead_api::event::{Event, Timestamp};
use bulkhead_api::request::{self, RECORDS};
use bulkhead_api::route;
use http_body_util::BodyExt as _;
use hyper::Method;
use hyper::body::Incoming;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::client;
use crate::commands::audit::source::{Records, Shown, Source};
use crate::global::Global;
use crate::paths::Paths;

/// Lines of the agent that wait while the event log is read.
const LIVE: usize = 65_536;

/// Records of the event log that are read ahead.
const PAST: usize = 256;

/// What there is to see.
#[derive(Debug)]
pub enum Seen {
    /// An event.
    Event {
        /// What it says.
        event: Box<Event>,
        /// Its JSON.
        line: String,
        /// It is from the event log.
        is_past: bool,
    },
    /// A line of an agent of another version.
    Unknown(String),
    /// What is missing here.
    Note(String),
}

/// Events as they come, after those of the past that were asked for.
pub struct Watching {
    past: Receiver<anyhow::Result<Seen>>,
    live: Receiver<anyhow::Result<Seen>>,
}

impl Watching {
    /// Begins to watch. What the event log has since a time comes first; each event once.
    ///
    /// # Errors
    /// If no agent listens, or the event log may not be read.
    pub async fn open(global: &Global, paths: &Paths, since: Option<Timestamp>) -> anyhow::Result<Self> {
        let asked = serde_urlencoded::to_string(request::Watch { records: since.is_some() })?;
        let path =
            if since.is_some() { format!("{}?{asked}", route::EVENTS) } else { route::EVENTS.to_owned() };
        let response = client::ask(&paths.socket, Method::GET, &path).await?.with_context(|| {
            format!("no agent listens at {}; start one with `bulkhead run`", paths.socket.display())
        })?;
        let records = response.headers().get(RECORDS).and_then(|value| value.to_str().ok()?.parse().ok());
        let (sender, live) = channel(LIVE);
        tokio::spawn(follow(response.into_body(), sender));
        let (sender, past) = channel(PAST);
        if let Some(since) = since {
            let opened = Records::open(&Source::default(), global)?.with_unsigned();
            std::thread::Builder::new().name("past".to_owned()).spawn(move || {
                if let Err(error) = read(opened, since, records, &sender) {
                    // Nobody waits any more when the command ends.
                    let _ = sender.blocking_send(Err(error));
                }
            })?;
        }
        Ok(Self { past, live })
    }

    /// The next one; none: the agent has ended.
    ///
    /// # Errors
    /// If the connection breaks off, or the event log is damaged.
    pub async fn next(&mut self) -> anyhow::Result<Option<Seen>> {
        match self.past.recv().await {
            Some(seen) => seen.map(Some),
            None => self.live.recv().await.transpose(),
        }
    }
}

impl Watching {
    /// The next one, if it is there already.
    pub fn try_next(&mut self) -> Option<anyhow::Result<Option<Seen>>> {
        let told = match self.past.try_recv() {
            Ok(seen) => Ok(seen),
            Err(TryRecvError::Empty) => return None,
            Err(TryRecvError::Disconnected) => self.live.try_recv(),
        };
        match told {
            Ok(seen) => Some(seen.map(Some)),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Ok(None)),
        }
    }
}

/// Tells of records since a time up to those that the agent tells of.
fn read(
    records: Records,
    since: Timestamp,
    until: Option<u64>,
    told: &Sender<anyhow::Result<Seen>>,
) -> anyhow::Result<()> {
    let records = records.since(since)?;
    let mut end = records.begin();
    for shown in records {
        let Shown { number, record, .. } = shown?;
        end = number + 1;
        if until.is_some_and(|until| number >= until) {
            return Ok(());
        }
        if record.event.time < since {
            continue;
        }
        let line = serde_json::to_string(&record.event)?;
        let seen = Seen::Event { event: Box::new(record.event), line, is_past: true };
        if told.blocking_send(Ok(seen)).is_err() {
            return Ok(());
        }
    }
    let note = match until {
        Some(until) if end < until => format!(
            "the disk has not got the last {} records before what comes; `bulkhead audit show` has them later",
            until - end
        ),
        Some(_) => return Ok(()),
        None => "the event log stands still: what is between it and what comes is missing here; `bulkhead audit show` \
                 has it later"
            .to_owned(),
    };
    // Nobody waits any more when the command ends.
    let _ = told.blocking_send(Ok(Seen::Note(note)));
    Ok(())
}

/// Tells of what the agent sends, line by line.
async fn follow(mut body: Incoming, told: Sender<anyhow::Result<Seen>>) {
    let mut rest = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = match frame.context("the agent ended") {
            Ok(frame) => frame,
            Err(error) => {
                let _ = told.send(Err(error)).await;
                return;
            }
        };
        rest.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            let seen = match Event::read(&line) {
                Ok(event) => Seen::Event { event: Box::new(event), line: text, is_past: false },
                Err(_) => Seen::Unknown(text),
            };
            if told.send(Ok(seen)).await.is_err() {
                return;
            }
        }
    }
}
