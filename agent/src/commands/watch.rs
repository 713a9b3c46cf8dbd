//! `bulkhead watch`: events as they come.

use std::io::Write as _;
use std::time::Duration;

use anyhow::Context as _;
use bulkhead_api::event::Event;
use bulkhead_api::route;
use bulkhead_api::text::plain;
use http_body_util::BodyExt as _;
use hyper::Method;

use crate::client;
use crate::exit::Answer;
use crate::global::Global;
use crate::paths::Paths;

/// Print events as they come.
///
/// Drops, the first of a kind at once and its repetitions in one line a second; what a staged policy would decide
/// otherwise; times without enforcement; and who changed what is enforced.
#[derive(Debug, clap::Args)]
pub struct Watch {}

impl Watch {
    pub fn run(&self, global: &Global) -> anyhow::Result<Answer> {
        let paths = Paths::of(&global.instance)?;
        // As long as the agent says that it is alive.
        let watch = client::while_alive(&paths, Duration::MAX, async {
            let response =
                client::ask(&paths.socket, Method::GET, route::EVENTS).await?.with_context(|| {
                    format!("no agent listens at {}; start one with `bulkhead run`", paths.socket.display())
                })?;
            let mut body = response.into_body();
            let mut rest = Vec::new();
            while let Some(frame) = body.frame().await {
                let frame = frame.context("the agent ended")?;
                rest.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
                while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = rest.drain(..=end).collect();
                    if !show(&line, global.json)? {
                        return Ok(Answer::Yes);
                    }
                }
            }
            Ok(Answer::Yes)
        });
        client::block_on(watch)
    }
}

/// Prints one line; false if nobody reads any more.
fn show(line: &[u8], json: bool) -> anyhow::Result<bool> {
    let text = match Event::read(line) {
        _ if json => String::from_utf8_lossy(line).trim_end().to_owned(),
        Ok(event) => plain(&event.to_string()).into_owned(),
        // Of an agent of another version.
        Err(_) => String::from_utf8_lossy(line).trim_end().to_owned(),
    };
    let mut out = std::io::stdout();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        written => written.map(|()| true).context("printing"),
    }
}
