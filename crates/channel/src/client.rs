//! A client of NATS: one connection at a time, made anew for ever, with every wait and every queue bounded.
//!
//! ```text
//! Client ─ commands ─▸ worker (a task) ◂─▸ Stream ◂─▸ server
//!    ◂─ answers, subscriptions, state ─┘
//! ```
//!
//! The library that everybody uses, async-nats, reads until a line or a message is complete, however long that is, and
//! computes with lengths as they come: whoever runs a broker could have every host of a fleet run out of memory. So
//! this is a client of its own, and it does no more than a fleet needs.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bulkhead_http::Tls;
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, interval_at, sleep, sleep_until, timeout};

use crate::error::{Error, Result};
use crate::identity::Credentials;
use crate::wire::{Address, Frame, Info, LONGEST_MESSAGE, Message, Stream, greet};

/// How long connecting to one server may take, TLS and credentials included.
const CONNECT: Duration = Duration::from_secs(5);

/// How long an answer is waited for.
pub(crate) const ANSWER: Duration = Duration::from_secs(2);

/// How long it may take to hand bytes to the server, or the rest of a frame to arrive.
const STALL: Duration = Duration::from_secs(20);

/// How often the server is asked whether it is there. A silence of twice as long ends the connection.
const PING: Duration = Duration::from_secs(30);

/// The pause before the first and before any later attempt, in milliseconds; between them it doubles.
const FIRST_PAUSE: u64 = 50;
const LONGEST_PAUSE: u64 = 4_000;

/// The pause where credentials are not accepted, in milliseconds.
const REFUSED_PAUSE: u64 = 30_000;

/// Requests at the same time.
const MOST_REQUESTS: usize = 256;

/// Frames that are read in a second. Whoever sends more keeps no host busy: it waits.
const MOST_FRAMES: u32 = 10_000;
const SECOND: Duration = Duration::from_secs(1);

/// The number of the subscription to answers.
const INBOX: u64 = 1;

/// Where the servers are, and who this is.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Servers of one cluster, `tls://host:port`; any of them will do.
    pub servers: Vec<String>,
    /// A file of credentials, read at each connection. None: the broker asks for none, which tests alone use.
    pub credentials: Option<PathBuf>,
    /// Whom to trust.
    pub tls: Tls,
    /// What this is called where credentials do not say it.
    pub name: String,
}

/// Whether there is a connection.
#[derive(Clone, Debug)]
pub enum State {
    /// There is none; why not.
    Disconnected(Arc<Error>),
    /// The connection of that number, counted from 1.
    Connected(u64),
}

enum Command {
    Publish(Bytes),
    Request { subject: String, headers: String, payload: Bytes, answer: oneshot::Sender<Result<Message>> },
    Subscribe { subject: String, queue: mpsc::Sender<Message> },
}

/// A client. Copies share the connection, which ends with the last of them.
#[derive(Clone, Debug)]
pub struct Client {
    commands: mpsc::Sender<Command>,
    state: watch::Receiver<State>,
    denied: watch::Receiver<String>,
}

impl Client {
    /// Begins to connect, on the tokio runtime that this is called on.
    ///
    /// # Errors
    /// The settings are wrong. That no server is there is none: it may come.
    pub fn new(settings: Settings) -> Result<Self> {
        let mut servers: Vec<Address> =
            settings.servers.iter().map(|server| server.parse()).collect::<Result<_>>()?;
        if servers.is_empty() {
            return Err(Error::Settings("no server is named".to_owned()));
        }
        // Hosts spread over the servers.
        fastrand::shuffle(&mut servers);
        let (commands, receiver) = mpsc::channel(64);
        let nowhere = Arc::new(Error::Disconnected("no server was asked yet".to_owned()));
        let (told, state) = watch::channel(State::Disconnected(nowhere));
        let (tell_denied, denied) = watch::channel(String::new());
        let worker = Worker {
            settings,
            servers,
            commands: receiver,
            told,
            tell_denied,
            subscriptions: Vec::new(),
            connections: 0,
        };
        tokio::spawn(worker.run());
        Ok(Self { commands, state, denied })
    }

    /// The state, and each change of it.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<State> {
        self.state.clone()
    }

    /// What the credentials did not allow last, in the server's words; empty: nothing yet.
    #[must_use]
    pub fn denied(&self) -> watch::Receiver<String> {
        self.denied.clone()
    }

    /// Waits until there is a connection.
    ///
    /// # Errors
    /// There is none within the time, or the servers do not accept the credentials or are too old, which waiting does not
    /// change: why the last attempt failed.
    pub async fn connected(&self, within: Duration) -> Result<()> {
        let mut state = self.state.clone();
        let is_settled = state.wait_for(|state| match state {
            State::Connected(_) => true,
            State::Disconnected(error) => {
                matches!(**error, Error::Unauthorized { .. } | Error::OldServer { .. })
            }
        });
        // The reference must be gone before the state is asked again.
        let is_there = matches!(timeout(within, is_settled).await, Ok(Ok(state)) if matches!(*state, State::Connected(_)));
        if is_there { Ok(()) } else { Err(self.why()) }
    }

    /// Why there is no connection.
    fn why(&self) -> Error {
        match &*self.state.borrow() {
            State::Disconnected(error) => Error::Disconnected(error.to_string()),
            State::Connected(_) => Error::Disconnected("the connection was just made".to_owned()),
        }
    }

    /// Publishes, and does not wait.
    ///
    /// # Errors
    /// There is no connection.
    pub async fn publish(&self, subject: &str, payload: &[u8]) -> Result<()> {
        let frame = publication(subject, None, "", payload)?;
        self.command(Command::Publish(frame.into())).await
    }

    /// Asks, and waits for one answer.
    ///
    /// # Errors
    /// There is no connection or nobody who answers, the credentials do not allow it, or no answer came within 2 s.
    pub async fn request(
        &self,
        subject: &str,
        headers: &[(&str, String)],
        payload: Bytes,
    ) -> Result<Message> {
        self.request_within(ANSWER, subject, headers, payload).await
    }

    /// The same with another time.
    ///
    /// # Errors
    /// As for [`Client::request`].
    pub async fn request_within(
        &self,
        within: Duration,
        subject: &str,
        headers: &[(&str, String)],
        payload: Bytes,
    ) -> Result<Message> {
        let (answer, answered) = oneshot::channel();
        let headers = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let command = Command::Request { subject: subject.to_owned(), headers, payload, answer };
        let exchange = async {
            self.command(command).await?;
            answered.await.unwrap_or_else(|_| Err(self.why()))
        };
        let answer = timeout(within, exchange).await.map_err(|_| Error::Silent(subject.to_owned()))??;
        if answer.status == Some(503) { Err(Error::NoResponders(subject.to_owned())) } else { Ok(answer) }
    }

    /// Subscribes, for as long as the receiver lives and over connections. While there is none, messages are lost, and
    /// so is what comes while `waiting` of them wait to be read: nothing may depend on one.
    ///
    /// # Errors
    /// The client has ended.
    pub async fn subscribe(&self, subject: &str, waiting: usize) -> Result<mpsc::Receiver<Message>> {
        let (queue, receiver) = mpsc::channel(waiting);
        let command = Command::Subscribe { subject: subject.to_owned(), queue };
        self.commands.send(command).await.map_err(|_| self.why())?;
        Ok(receiver)
    }

    async fn command(&self, command: Command) -> Result<()> {
        if !matches!(*self.state.borrow(), State::Connected(_)) {
            return Err(self.why());
        }
        self.commands.send(command).await.map_err(|_| self.why())
    }
}

/// A frame that publishes.
fn publication(subject: &str, reply: Option<&str>, headers: &str, payload: &[u8]) -> Result<Vec<u8>> {
    if subject.is_empty() || subject.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(Error::Settings(format!("`{}` is no subject", subject.escape_debug())));
    }
    if payload.len() + headers.len() > LONGEST_MESSAGE {
        return Err(Error::Settings(format!(
            "{subject}: {} bytes are more than a message has",
            payload.len()
        )));
    }
    let to = reply.map_or_else(|| subject.to_owned(), |reply| format!("{subject} {reply}"));
    let mut frame = if headers.is_empty() {
        format!("PUB {to} {}\r\n", payload.len()).into_bytes()
    } else {
        let head = format!("NATS/1.0\r\n{headers}\r\n");
        format!("HPUB {to} {} {}\r\n{head}", head.len(), head.len() + payload.len()).into_bytes()
    };
    frame.extend_from_slice(payload);
    frame.extend_from_slice(b"\r\n");
    Ok(frame)
}

struct Subscription {
    number: u64,
    subject: String,
    queue: mpsc::Sender<Message>,
}

/// A request that waits for its answer.
struct Waiting {
    subject: String,
    answer: oneshot::Sender<Result<Message>>,
}

struct Worker {
    settings: Settings,
    servers: Vec<Address>,
    commands: mpsc::Receiver<Command>,
    told: watch::Sender<State>,
    tell_denied: watch::Sender<String>,
    subscriptions: Vec<Subscription>,
    connections: u64,
}

/// Why a connection is over.
enum Over {
    /// Nobody needs it any more.
    Unused,
    Failed(Error),
}

impl Worker {
    async fn run(mut self) {
        let mut failures: u32 = 0;
        loop {
            let server = self.servers[self.connections_tried(failures)].clone();
            let begun = timeout(CONNECT, self.connect(&server)).await;
            let begun = begun.unwrap_or_else(|_| Err(server.failed("does not answer")));
            let error = match begun {
                Ok((stream, inbox)) => {
                    failures = 0;
                    match self.serve(stream, &server, &inbox).await {
                        Over::Unused => return,
                        Over::Failed(error) => error,
                    }
                }
                Err(error) => error,
            };
            tracing::debug!("{error}");
            let pause = match &error {
                Error::Unauthorized { .. } => REFUSED_PAUSE,
                _ => (FIRST_PAUSE << failures.min(8)).min(LONGEST_PAUSE),
            };
            failures = failures.saturating_add(1);
            self.told.send_replace(State::Disconnected(Arc::new(error)));
            // Hosts that lost the same server come back one after the other.
            let pause = sleep(Duration::from_millis(pause / 2 + fastrand::u64(0..pause)));
            tokio::pin!(pause);
            loop {
                tokio::select! {
                    () = &mut pause => break,
                    command = self.commands.recv() => match command {
                        None => return,
                        Some(Command::Subscribe { subject, queue }) => self.subscribe(subject, queue),
                        // Whoever asked is told by its channel that nobody took it.
                        Some(_) => {}
                    },
                }
            }
        }
    }

    /// Which server is next: after a failure, another one.
    fn connections_tried(&self, failures: u32) -> usize {
        (self.connections as usize + failures as usize) % self.servers.len()
    }

    fn subscribe(&mut self, subject: String, queue: mpsc::Sender<Message>) {
        let number = self.subscriptions.last().map_or(INBOX, |last| last.number) + 1;
        self.subscriptions.push(Subscription { number, subject, queue });
    }

    /// A connection on which this has said who it is and what it wants to hear.
    async fn connect(&mut self, server: &Address) -> Result<(Stream, String)> {
        let credentials = self.settings.credentials.as_deref().map(Credentials::read).transpose()?;
        let name = credentials.as_ref().map_or(&*self.settings.name, Credentials::name);
        let (mut stream, info) = greet(server, &self.settings.tls, name, credentials.as_ref()).await?;
        let Info { headers: true, .. } = info else {
            return Err(server.failed("does not take headers"));
        };
        let inbox = format!("{}.{:016x}", crate::layout::inbox(name), fastrand::u64(..));
        let mut begin = format!("SUB {inbox}.* {INBOX}\r\n");
        self.subscriptions.retain(|subscription| !subscription.queue.is_closed());
        for Subscription { number, subject, .. } in &self.subscriptions {
            begin.push_str(&format!("SUB {subject} {number}\r\n"));
        }
        stream.send(begin.as_bytes()).await?;
        Ok((stream, inbox))
    }

    /// Sends and receives, as long as the connection lasts.
    async fn serve(&mut self, mut stream: Stream, server: &Address, inbox: &str) -> Over {
        self.connections += 1;
        self.told.send_replace(State::Connected(self.connections));
        let mut waiting: HashMap<u64, Waiting> = HashMap::new();
        let (mut token, mut heard, mut begun) = (0_u64, Instant::now(), None::<Instant>);
        // Not all of a fleet at once.
        let first = Instant::now() + PING.mul_f64(0.5 + fastrand::f64() / 2.0);
        let mut ping = interval_at(first, PING);
        let mut look = interval_at(Instant::now() + STALL / 8, STALL / 8);
        let (mut second, mut frames) = (Instant::now(), 0_u32);
        loop {
            let sent = tokio::select! {
                frame = stream.next() => {
                    (heard, begun) = (Instant::now(), None);
                    if heard.duration_since(second) >= SECOND {
                        (second, frames) = (heard, 0);
                    }
                    frames += 1;
                    if frames > MOST_FRAMES {
                        sleep_until(second + SECOND).await;
                    }
                    match frame {
                        Err(error) => return Over::Failed(named(server, error)),
                        Ok(Frame::Ping) => Some(b"PONG\r\n".to_vec()),
                        Ok(Frame::Error(words)) => match self.said(&words, server, &mut waiting) {
                            Some(error) => return Over::Failed(error),
                            None => None,
                        },
                        Ok(Frame::Message(INBOX, message)) => {
                            let token = message.subject.strip_prefix(inbox).and_then(|rest| rest.strip_prefix('.'));
                            let token = token.and_then(|token| token.parse().ok());
                            if let Some(asked) = token.and_then(|token: u64| waiting.remove(&token)) {
                                // Whoever asked may have gone.
                                let _ = asked.answer.send(Ok(message));
                            }
                            None
                        }
                        Ok(Frame::Message(number, message)) => self.deliver(number, message),
                        Ok(Frame::Info(_) | Frame::Pong | Frame::Ok) => None,
                    }
                }
                command = self.commands.recv() => match command {
                    None => return Over::Unused,
                    Some(Command::Publish(frame)) => Some(frame.to_vec()),
                    Some(Command::Subscribe { subject, queue }) => {
                        self.subscribe(subject, queue);
                        self.subscriptions.last().map(|of| format!("SUB {} {}\r\n", of.subject, of.number).into_bytes())
                    }
                    Some(Command::Request { subject, headers, payload, answer }) => {
                        waiting.retain(|_, asked| !asked.answer.is_closed());
                        token += 1;
                        let frame = publication(&subject, Some(&format!("{inbox}.{token}")), &headers, &payload);
                        match frame {
                            _ if waiting.len() >= MOST_REQUESTS => { let _ = answer.send(Err(Error::Busy)); None }
                            Err(error) => { let _ = answer.send(Err(error)); None }
                            Ok(frame) => { waiting.insert(token, Waiting { subject, answer }); Some(frame) }
                        }
                    }
                },
                _ = ping.tick() => Some(b"PING\r\n".to_vec()),
                _ = look.tick() => {
                    // A frame that goes on for ever keeps `heard` fresh, but never ends.
                    begun = if stream.frames.is_partial() { begun.or(Some(Instant::now())) } else { None };
                    if begun.is_some_and(|begun| begun.elapsed() > STALL) {
                        return Over::Failed(server.failed("sends too slowly"));
                    }
                    if heard.elapsed() > PING * 2 {
                        return Over::Failed(server.failed("is silent"));
                    }
                    None
                }
            };
            if let Some(bytes) = sent {
                match timeout(STALL, stream.send(&bytes)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => return Over::Failed(named(server, error)),
                    Err(_) => return Over::Failed(server.failed("takes nothing any more")),
                }
            }
        }
    }

    /// Gives a message to its subscription; returns what ends one that nobody reads.
    fn deliver(&mut self, number: u64, message: Message) -> Option<Vec<u8>> {
        let place = self.subscriptions.iter().position(|subscription| subscription.number == number)?;
        match self.subscriptions[place].queue.try_send(message) {
            // Full: whoever reads is late, and will ask.
            Ok(()) | Err(mpsc::error::TrySendError::Full(_)) => None,
            Err(mpsc::error::TrySendError::Closed(_)) => {
                self.subscriptions.remove(place);
                Some(format!("UNSUB {number}\r\n").into_bytes())
            }
        }
    }

    /// An error that the server tells of; returned if it ends the connection.
    fn said(&self, words: &str, server: &Address, waiting: &mut HashMap<u64, Waiting>) -> Option<Error> {
        let lower = words.to_ascii_lowercase();
        if lower.starts_with("permissions violation") {
            // Permissions Violation for Publish to "subject"
            let subject = words.split('"').nth(1).unwrap_or(words).to_owned();
            tracing::debug!("{server}: {words}");
            self.tell_denied.send_replace(words.to_owned());
            let of_it: Vec<u64> = waiting
                .iter()
                .filter(|(_, asked)| asked.subject.eq_ignore_ascii_case(&subject))
                .map(|(token, _)| *token)
                .collect();
            for asked in of_it.iter().filter_map(|token| waiting.remove(token)) {
                let _ = asked.answer.send(Err(Error::Denied(subject.clone())));
            }
            return None;
        }
        if lower.contains("auth") {
            return Some(Error::Unauthorized { server: server.to_string(), what: words.to_owned() });
        }
        Some(server.failed(words))
    }
}

/// An error of a connection with its server's name.
fn named(server: &Address, error: Error) -> Error {
    match error {
        Error::Disconnected(what) | Error::Protocol(what) => server.failed(what),
        other => other,
    }
}
