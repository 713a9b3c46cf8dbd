//! Does with sockets what it is told, a line each, and answers a line: a process that tests put into a cgroup.
#![allow(missing_docs, reason = "a helper of tests")]

mod forged;
mod passed;
mod ring;
mod sockets;

use std::collections::HashMap;
use std::io::{self, BufRead as _, Write as _};
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;

use socket2::Socket;

/// A command: its name, and words after it, some of which are `KEY=VALUE`.
pub struct Words<'a>(Vec<&'a str>);

impl<'a> Words<'a> {
    pub fn at(&self, place: usize) -> io::Result<&'a str> {
        self.0.get(place).copied().ok_or_else(|| io::Error::other(format!("word {place} is missing")))
    }
    pub fn has(&self, word: &str) -> bool {
        self.0.contains(&word)
    }
    pub fn value(&self, key: &str) -> Option<&'a str> {
        self.0.iter().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
    }
    pub fn address(&self, place: usize) -> io::Result<SocketAddr> {
        self.at(place)?.parse().map_err(io::Error::other)
    }
}

/// Sockets that stay open, by their names.
type Kept = HashMap<String, Socket>;

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut kept = Kept::new();
    if !arguments.is_empty() {
        println!("{}", answer(&arguments.join(" "), &mut kept));
        return Ok(());
    }
    for line in io::stdin().lock().lines() {
        let line = line?;
        let told = answer(&line, &mut kept);
        let mut out = io::stdout().lock();
        writeln!(out, "{told}")?;
        out.flush()?;
    }
    Ok(())
}

fn answer(line: &str, kept: &mut Kept) -> String {
    let words = Words(line.split(' ').collect());
    act(&words, kept).unwrap_or_else(|error| match error.kind() {
        io::ErrorKind::Other => format!("error {error}"),
        kind => format!("error {kind:?}"),
    })
}

/// Acts from within a network namespace, or the last of several, separated by commas, that it enters one after the other.
fn within(namespaces: &str, line: &str) -> io::Result<String> {
    let act = || {
        for namespace in namespaces.split(',') {
            let namespace = std::fs::File::open(namespace)?;
            // SAFETY: a descriptor that is open; only this thread's network changes.
            if unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) } != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(answer(line, &mut Kept::new()))
    };
    std::thread::scope(|scope| scope.spawn(act).join())
        .unwrap_or_else(|_| Err(io::Error::other("it panicked")))
}

fn act(words: &Words<'_>, kept: &mut Kept) -> io::Result<String> {
    match words.at(0)? {
        "tcp" => sockets::tcp(words),
        "udp" => sockets::udp(words),
        "listen" => sockets::listen(words),
        "option" => sockets::option(words),
        "open" => {
            kept.insert(words.at(2)?.to_owned(), sockets::open(words)?);
            Ok("open".to_owned())
        }
        "use" => {
            let socket = kept.get(words.at(1)?).ok_or_else(|| io::Error::other("no such socket"))?;
            sockets::converse(socket, words.address(2)?)
        }
        "close" => {
            kept.remove(words.at(1)?);
            Ok("closed".to_owned())
        }
        "say" => {
            let socket = kept.get(words.at(1)?).ok_or_else(|| io::Error::other("no such socket"))?;
            sockets::say(socket)
        }
        "echo" => sockets::echo(words),
        "raw" => forged::raw(words),
        "packet" => forged::packet(words),
        "give" => {
            let socket = kept.get(words.at(1)?).ok_or_else(|| io::Error::other("no such socket"))?;
            passed::give(socket, words.at(2)?)
        }
        "take" => {
            kept.insert(words.at(1)?.to_owned(), passed::take(words.at(2)?)?);
            Ok("taken".to_owned())
        }
        "ring" => ring::connect(words),
        "make" => {
            std::fs::create_dir(words.at(1)?)?;
            Ok("made".to_owned())
        }
        "move" => {
            std::fs::write(format!("{}/cgroup.procs", words.at(1)?), std::process::id().to_string())?;
            Ok("moved".to_owned())
        }
        "within" => within(words.at(1)?, &words.0[2..].join(" ")),
        "child" => {
            let output = std::process::Command::new("/proc/self/exe").args(&words.0[1..]).output()?;
            Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        }
        other => Err(io::Error::other(format!("no such command: {other}"))),
    }
}
