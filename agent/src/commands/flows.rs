//! `bulkhead flows`: this host's conversations.

use std::io::{self, Write};
use std::time::Duration;

use anyhow::Context as _;
use bulkhead_api::event::Direction;
use bulkhead_api::flow::{Flow, LIMIT, Line, Query, State, Total};
use bulkhead_api::route;
use bulkhead_api::text::plain;
use http_body_util::BodyExt as _;
use hyper::Method;
use hyper::body::Incoming;

use crate::client;
use crate::daemon::server::alone;
use crate::exit::Answer;
use crate::global::Global;
use crate::paths::Paths;

/// List this host's conversations.
///
/// From the table of flows, with an agent or without: who began them, with whom, how far they have come, how long
/// they have been silent, and which rule admits them. All that is given must hold.
#[derive(Debug, clap::Args)]
pub struct Flows {
    /// Only those with a node, a user, a tag, an address or a prefix.
    #[arg(long, value_name = "WHO")]
    with: Option<String>,
    /// Only those with this port at either end.
    #[arg(long)]
    port: Option<u16>,
    /// Only those of a protocol, such as tcp or 47.
    #[arg(long, value_name = "PROTOCOL")]
    proto: Option<String>,
    /// Only those in a state.
    #[arg(long)]
    state: Option<State>,
    /// Only those of an interface, and of all that share flows with it.
    #[arg(long, value_name = "IFACE")]
    interface: Option<String>,
    /// How many are listed at most; 0: all.
    #[arg(long, value_name = "N", default_value_t = LIMIT)]
    limit: u64,
}

/// Prints lines as they come.
struct Printer {
    json: bool,
    has_head: bool,
    rest: Vec<u8>,
    total: Option<Total>,
}

impl Flows {
    pub fn run(self, global: &Global) -> anyhow::Result<Answer> {
        let paths = Paths::of(&global.instance)?;
        let query = Query {
            with: self.with,
            port: self.port,
            protocol: self.proto,
            state: self.state,
            interface: self.interface,
            limit: Some(self.limit),
        };
        let mut printer = Printer { json: global.json, has_head: false, rest: Vec::new(), total: None };
        let path = format!("{}?{}", route::FLOWS, serde_urlencoded::to_string(&query)?);
        let answered = client::block_on(async {
            let ask = client::ask(&paths.socket, Method::GET, &path);
            match tokio::time::timeout(client::PATIENCE, ask).await {
                Ok(Ok(Some(response))) => {
                    let lines = print(response.into_body(), &mut printer);
                    client::while_alive(&paths, Duration::MAX, lines).await.map(|()| true)
                }
                // One that ends just now is no agent, nor one that does not answer.
                Ok(Err(error)) if !client::broke_off(&error) => Err(error),
                _ => Ok(false),
            }
        });
        let printed = answered.and_then(|is_answered| {
            if is_answered {
                return Ok(());
            }
            let mut listing = alone::flows(&paths, &query)?;
            while let Some(lines) = listing.part()? {
                printer.take(&lines)?;
            }
            Ok(())
        });
        match printed {
            // Nobody reads any more.
            Err(error) if is_broken_pipe(&error) => return Ok(Answer::Yes),
            printed => printed?,
        }
        printer.end()
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

async fn print(mut body: Incoming, printer: &mut Printer) -> anyhow::Result<()> {
    while let Some(frame) = body.frame().await {
        let frame = frame.context("the agent ended before the list did; list them again")?;
        printer.take(frame.data_ref().map_or(&[][..], |data| data))?;
    }
    Ok(())
}

impl Printer {
    fn take(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        let mut out = io::BufWriter::new(io::stdout().lock());
        self.rest.extend_from_slice(bytes);
        let whole = self.rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let lines: Vec<u8> = self.rest.drain(..whole).collect();
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            let read: Line = serde_json::from_slice(line).context("the agent's answer is not understood")?;
            match &read {
                _ if self.json => out.write_all(line)?,
                Line::Flow(flow) => self.flow(&mut out, flow)?,
                Line::End(_) => {}
            }
            if let Line::End(total) = read {
                self.total = Some(total);
            }
        }
        Ok(out.flush()?)
    }

    fn flow(&mut self, out: &mut impl Write, flow: &Flow) -> io::Result<()> {
        if !self.has_head {
            self.has_head = true;
            row(out, ["idle", "begun by", "protocol", "local", "peer", "state", "rule"])?;
        }
        let began = if flow.direction == Direction::Ingress { "peer" } else { "this host" };
        let peer = Flow::end(flow.peer.address, flow.peer_port);
        let peer = flow.peer.name.as_ref().map_or(peer.clone(), |name| format!("{name} {peer}"));
        let rule = match &flow.rule {
            Some(rule) => rule.title(),
            None if flow.audit => "none (audit)".to_owned(),
            None => "-".to_owned(),
        };
        row(
            out,
            [
                &format!("{:.0}s", flow.idle),
                began,
                &flow.protocol.to_string(),
                &Flow::end(flow.local, flow.local_port),
                &plain(&peer),
                flow.state.name(),
                &plain(&rule),
            ],
        )
    }

    fn end(self) -> anyhow::Result<Answer> {
        let Total { listed, matched } =
            self.total.context("the agent ended before the list did; list them again")?;
        if !self.json {
            match matched {
                0 => println!("no conversation"),
                1 if listed == 1 => println!("1 conversation"),
                _ if listed < matched => {
                    println!("{listed} of {matched} conversations; `--limit {matched}` lists all");
                }
                _ => println!("{matched} conversations"),
            }
        }
        Ok(Answer::Yes)
    }
}

fn row(out: &mut impl Write, [idle, began, protocol, local, peer, state, rule]: [&str; 7]) -> io::Result<()> {
    writeln!(out, "{idle:>6}  {began:<9}  {protocol:<8}  {local:<22}  {peer:<32}  {state:<16}  {rule}")
}
