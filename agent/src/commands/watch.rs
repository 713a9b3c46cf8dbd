//! `bulkhead watch`: drops, and times without enforcement, as they come.

use std::io::Write as _;
use std::time::Duration;

use anyhow::Context as _;
use bulkhead_api::route;
use http_body_util::BodyExt as _;
use hyper::Method;

use crate::client;
use crate::exit::Answer;
use crate::global::Global;
use crate::paths::Paths;
use crate::report::Report;

/// Watch drops and times without enforcement as they come.
///
/// The first drop of a kind is printed at once, its repetitions in one line a second.
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
    let text = match serde_json::from_slice::<Report>(line) {
        _ if json => String::from_utf8_lossy(line).trim_end().to_owned(),
        Ok(report) => report.to_string(),
        // This reader was too slow; the journal has what it missed.
        Err(_) => String::from_utf8_lossy(line).trim_end().to_owned(),
    };
    let mut out = std::io::stdout();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        written => written.map(|()| true).context("printing"),
    }
}
