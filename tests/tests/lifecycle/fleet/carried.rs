//! Whoever serves the files over HTTP, and does with them what it likes.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::kit::{ALICE, BOB, Files};
use super::{Followed, enforced, policy};
use crate::site::OTHER;

/// How it answers.
#[derive(Clone)]
enum Way {
    /// From these.
    With(Files),
    /// From these, each cut off in its middle, though its length is said.
    CutOff(Files),
    /// Without end.
    Endless,
    /// From these, and without end what is below `notes`.
    EndlessNotes(Files),
    /// Not at all: the connection stays open.
    Slow,
}

/// A server on a host of a site.
#[derive(Clone)]
struct Carrier {
    at: SocketAddr,
    way: Arc<Mutex<Way>>,
}

impl Carrier {
    fn serve(followed: &Followed) -> Self {
        let at = SocketAddr::new(followed.site.underlay("stranger"), 8443);
        let listener = followed.site.namespace("stranger").run(|| TcpListener::bind(at)).unwrap().unwrap();
        let carrier = Self { at, way: Arc::new(Mutex::new(Way::Slow)) };
        let serving = carrier.clone();
        // It ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let carrier = serving.clone();
                // Whoever asked may have gone.
                std::thread::spawn(move || carrier.answer(stream.unwrap()).unwrap_or_default());
            }
        });
        carrier
    }

    fn set(&self, way: Way) {
        *self.way.lock().unwrap() = way;
    }

    fn answer(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            if stream.read(&mut byte)? == 0 {
                return Ok(());
            }
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let path = head.split(' ').nth(1).unwrap_or_default().trim_start_matches('/').to_owned();
        let way = self.way.lock().unwrap().clone();
        let found = |files: &Files| files.get(&path).cloned();
        match way {
            Way::With(files) => match found(&files) {
                Some(body) => send(&mut stream, &body, body.len()),
                None => absent(&mut stream),
            },
            Way::CutOff(files) => match found(&files) {
                Some(body) => send(&mut stream, &body[..body.len() / 2], body.len()),
                None => absent(&mut stream),
            },
            Way::EndlessNotes(files) if !path.starts_with("notes/") => match found(&files) {
                Some(body) => send(&mut stream, &body, body.len()),
                None => absent(&mut stream),
            },
            Way::Endless | Way::EndlessNotes(_) => {
                stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
                loop {
                    stream.write_all(&[b' '; 1 << 16])?;
                }
            }
            Way::Slow => {
                std::thread::sleep(Duration::from_secs(120));
                Ok(())
            }
        }
    }
}

fn absent(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
}

fn send(stream: &mut TcpStream, body: &[u8], length: usize) -> std::io::Result<()> {
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n")?;
    stream.write_all(body)
}

/// KiB of memory that the agent has.
fn memory(followed: &Followed) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", followed.site.agent_pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn whoever_carries_the_files_changes_nothing_and_takes_no_memory() {
    let mut followed = Followed::begun("fleet-http", "", "");
    let carrier = Carrier::serve(&followed);
    let text = std::fs::read_to_string(followed.site.path("agent.toml")).unwrap();
    followed.site.write("agent.toml", &format!("{text}url = \"http://{}\"\n", carrier.at));
    let old = followed.fleet.files();
    carrier.set(Way::With(old.clone()));
    followed.site.start();
    followed.takes("policy 1, inventory 1");
    followed.fleet.put(&policy(&[OTHER]), &[ALICE, BOB]);
    let new = followed.fleet.files();
    carrier.set(Way::With(new.clone()));
    followed.takes("policy 2, inventory 1");
    let before = memory(&followed);
    let mut mixed = new.clone();
    mixed
        .insert("policy/metadata/2.snapshot.json".to_owned(), old["policy/metadata/1.snapshot.json"].clone());
    for (way, why) in [
        (Way::With(old), "Found version 1 of timestamp"),
        (Way::CutOff(new.clone()), "policy/metadata/timestamp.json"),
        (Way::Endless, "policy/metadata/"),
        (Way::EndlessNotes(new.clone()), "notes/index.json"),
        (Way::Slow, "no answer within"),
    ] {
        let told = followed.told("apply", "refused").len();
        carrier.set(way);
        followed.refuses(why);
        assert!(followed.told("apply", "refused").len() > told, "{why}");
        assert_eq!(enforced(&followed.site.status()).as_deref(), Some("policy 2, inventory 1"));
        assert!(followed.site.connects("client", 8081) && followed.site.is_denied("client", 8080));
        let grown = memory(&followed).saturating_sub(before);
        assert!(grown < 32 << 10, "{why}: {grown} KiB more");
        carrier.set(Way::With(new.clone()));
        followed.is_well();
    }
    // One who starts now asks for all of it.
    carrier.set(Way::With(mixed));
    followed.restart();
    followed.refuses("ash mismatch");
    assert_eq!(enforced(&followed.site.status()).as_deref(), Some("policy 2, inventory 1"));
}
