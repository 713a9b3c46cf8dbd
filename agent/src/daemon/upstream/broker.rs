//! Batches to the fleet's servers.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bulkhead_channel::{Appended, Client, Settings, append, token};
use bulkhead_collect::{Given, Sealed};
use bulkhead_http::Tls;
use bytes::Bytes;
use tokio::runtime::Runtime;

use super::carrier::Carrier;
use crate::config::{Fleet, FleetFrom};

/// How long servers are waited for at first.
const PATIENCE: Duration = Duration::from_secs(5);

/// A connection to the fleet's servers, where each batch is stored once.
pub struct Broker {
    runtime: Runtime,
    client: Client,
    token: String,
    /// The file of `last`.
    place: PathBuf,
    /// The number of this host's last batch there, as far as it is known.
    last: u64,
    /// The batch that is to be stored, and whether that was tried and nobody knows what came of it.
    outstanding: Option<(Bytes, bool)>,
    problem: Option<String>,
}

impl Broker {
    /// Connects as the fleet's configuration says.
    ///
    /// # Errors
    /// If the settings are wrong, or no server accepts this host.
    pub fn open(fleet: &Fleet, state: &Path, node: &str) -> io::Result<Self> {
        let FleetFrom::Servers { servers, credentials, ca } = &fleet.from else {
            return Err(io::Error::other("the fleet has no servers"));
        };
        // A current-thread runtime would leave the server's pings unanswered between two batches.
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let settings = Settings {
            servers: servers.clone(),
            credentials: Some(credentials.clone()),
            tls: Tls { ca: ca.clone(), identity: None },
            name: String::new(),
        };
        let client = {
            let _on = runtime.enter();
            Client::new(settings).map_err(io::Error::other)?
        };
        runtime.block_on(client.connected(PATIENCE)).map_err(io::Error::other)?;
        let place = state.join("upstream-last");
        let last = fs::read_to_string(&place).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        Ok(Self { runtime, client, token: token(node), place, last, outstanding: None, problem: None })
    }

    fn keep(&mut self, last: u64) -> io::Result<()> {
        self.last = last;
        let new = self.place.with_extension("new");
        fs::write(&new, format!("{last}\n"))?;
        fs::rename(new, &self.place)
    }
}

impl Carrier for Broker {
    fn look(&mut self) -> io::Result<Given> {
        let Some((batch, was_tried)) = self.outstanding.clone() else { return Ok(Given::Taken(None)) };
        let asked = append(&self.client, &self.token, self.last, batch.clone());
        let appended = self.runtime.block_on(asked);
        match appended {
            Err(error) if error.is_passing() => {
                let words = error.to_string();
                if self.problem.as_ref() != Some(&words) {
                    tracing::warn!("the fleet's servers take no batch; the event log keeps it: {words}");
                }
                (self.problem, self.outstanding) = (Some(words), Some((batch, true)));
                return Ok(Given::Waits);
            }
            Err(error) => return Err(io::Error::other(error)),
            Ok(_) if self.problem.take().is_some() => {
                tracing::info!("the fleet's servers take batches again");
            }
            Ok(_) => {}
        }
        match appended {
            Ok(Appended::Already(number)) if !was_tried => {
                // One that another process of this host has sent: what is in both the collector passes over. It is given
                // again at the next look: servers could say so without end.
                self.keep(number)?;
                Ok(Given::Waits)
            }
            Ok(Appended::Stored(number) | Appended::Already(number)) => {
                self.keep(number)?;
                self.outstanding = None;
                Ok(Given::Taken(None))
            }
            Ok(Appended::Behind(number)) => {
                tracing::warn!(
                    "the fleet's servers have lost batches of this host: all of its event log is sent"
                );
                self.keep(number)?;
                self.outstanding = None;
                Ok(Given::Taken(Some(0)))
            }
            Err(error) => Err(io::Error::other(error)),
        }
    }

    fn give(&mut self, _made: u64, batch: &Sealed) -> io::Result<()> {
        // One of which nobody knows whether it was stored may be: then this one goes behind it.
        self.outstanding = Some((Bytes::from(batch.bytes.clone()), false));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use bulkhead_channel::Account;
    use bulkhead_collect::Given;
    use bytes::Bytes;

    use super::Broker;
    use crate::config::{Fleet, FleetFrom};
    use crate::daemon::upstream::carrier::Carrier as _;

    /// A server that says of each batch that another one came first, with a higher number each time, some hundred times.
    fn serve(mut stream: TcpStream, asked: &AtomicU64) -> std::io::Result<()> {
        let mut lines = BufReader::new(stream.try_clone()?);
        stream.write_all(b"INFO {\"version\":\"2.15.1\",\"headers\":true,\"nonce\":\"n\"}\r\n")?;
        let mut line = String::new();
        while lines.read_line(&mut line)? != 0 {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words[..] {
                ["PING"] => stream.write_all(b"PONG\r\n")?,
                ["HPUB", _, reply, _, length] => {
                    let mut payload = vec![0; length.parse::<usize>().unwrap() + 2];
                    lines.read_exact(&mut payload)?;
                    let number = asked.fetch_add(1, Ordering::Relaxed) + 1;
                    if number > 200 {
                        return Ok(());
                    }
                    let refusal = format!(
                        r#"{{"error":{{"code":400,"err_code":10071,"description":"wrong last sequence: {number}"}}}}"#
                    );
                    write!(stream, "MSG {reply} 1 {}\r\n{refusal}\r\n", refusal.len())?;
                }
                _ => {}
            }
            line.clear();
        }
        Ok(())
    }

    #[test]
    fn a_server_that_always_has_another_batch_is_asked_once_a_look() {
        let root = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let servers = vec![format!("nats://{}", listener.local_addr().unwrap())];
        let asked = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&asked);
        std::thread::spawn(move || {
            // It ends with the test's connection.
            while let Ok((stream, _)) = listener.accept() {
                let _ = serve(stream, &counted);
            }
        });
        let account = Account::create(&root.path().join("account")).unwrap();
        let credentials = root.path().join("a.creds");
        account.agent_credentials("a").unwrap().write(&credentials).unwrap();
        let fleet = Fleet {
            policy_root: "".into(),
            inventory_root: "".into(),
            from: FleetFrom::Servers { servers, credentials, ca: None },
            every: Duration::from_secs(30),
            confirm_seconds: 30,
            health: Vec::new(),
        };
        let mut broker = Broker::open(&fleet, root.path(), "a").unwrap();
        broker.outstanding = Some((Bytes::from_static(b"batch"), false));
        for looks in 1..=3 {
            assert_eq!(broker.look().unwrap(), Given::Waits);
            assert_eq!((asked.load(Ordering::Relaxed), broker.last), (looks, looks));
        }
    }
}
