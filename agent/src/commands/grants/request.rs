//! `bulkhead request`: asks for access that ends.

use std::path::PathBuf;

#[cfg(feature = "agent")]
use bulkhead_grants::new_id_of;
use bulkhead_grants::{Grant, Note, Window, new_id};

use super::{own_name, write};
#[cfg(feature = "agent")]
use crate::commands::fleet::fleet;
use crate::duration;
use crate::exit::{Answer, Usage};
use crate::global::Global;
use crate::input;

/// Request access that ends, for others to approve.
///
/// It writes a file that says who is to reach whom, until when and why. Whoever may grant it signs the file with
/// `bulkhead approve`; with enough signatures `bulkhead grant` puts it in force on each host that it is about. Its time
/// begins now.
#[derive(Debug, clap::Args)]
pub struct Request {
    /// Who is to begin: a selector of the policy.
    #[arg(value_name = "FROM")]
    from: String,
    /// To whom, such as tag:db:5432 or 100.64.0.7:22/tcp.
    #[arg(value_name = "TO:PORT[/PROTO]")]
    to: String,
    /// For how long, such as 1h.
    #[arg(long = "for", value_name = "TIME", value_parser = |text: &str| duration::within(text, 30))]
    seconds: u64,
    /// Where it was asked for, such as a ticket's number.
    #[arg(long, value_name = "TEXT")]
    ticket: String,
    /// What it is for.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Ask for what one signature suffices for in an emergency.
    #[arg(long)]
    break_glass: bool,
    /// Who asks [default: the user who runs this].
    #[arg(long = "as", value_name = "NAME")]
    name: Option<String>,
    /// The fleet directory that it will be posted in.
    ///
    /// Its id begins as the fleet's identifier then: it is nothing in another fleet. Without this it is for hosts that it is
    /// handed in on.
    #[cfg(feature = "agent")]
    #[arg(long, value_name = "DIRECTORY")]
    fleet: Option<PathBuf>,
    /// Where to write it [default: grant-ID.note here].
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Request {
    pub fn run(&self, global: &Global) -> anyhow::Result<Answer> {
        let wrong = |error: bulkhead_grants::Error| Usage(error.to_string());
        let now = (input::now() / 1_000_000_000).cast_signed();
        let id = self.id()?;
        let (destination, protocol) = split(&self.to);
        let grant = Grant {
            requester: own_name(self.name.as_ref())?,
            source: self.from.clone(),
            destination: destination.to_owned(),
            protocol: protocol.to_owned(),
            window: Window { from: now, until: now.saturating_add_unsigned(self.seconds) },
            ticket: self.ticket.clone(),
            reason: self.reason.clone(),
            break_glass: self.break_glass,
            id,
        };
        let text = grant.text().map_err(wrong)?;
        let path = self.output.clone().unwrap_or_else(|| format!("grant-{}.note", &grant.id[..8]).into());
        write(&path, &Note::new(text.clone()))?;
        if global.json {
            println!("{}", serde_json::json!({ "id": grant.id, "file": path, "text": text }));
        } else {
            print!("{text}");
            println!("written to {}: whoever may grant it runs `bulkhead approve` on it", path.display());
        }
        Ok(Answer::Yes)
    }
}

impl Request {
    #[cfg(feature = "agent")]
    fn id(&self) -> Result<String, Usage> {
        let id = match &self.fleet {
            Some(directory) => new_id_of(&fleet(directory)?),
            None => new_id(),
        };
        id.map_err(|error| Usage(error.to_string()))
    }

    /// The policy tools alone know no fleets.
    #[cfg(not(feature = "agent"))]
    #[expect(clippy::unused_self, reason = "as where there are fleets")]
    fn id(&self) -> Result<String, Usage> {
        new_id().map_err(|error| Usage(error.to_string()))
    }
}

/// A destination and its protocol. A prefix has a slash too: what follows the last one is a protocol if it comes after
/// the ports.
fn split(to: &str) -> (&str, &str) {
    match to.rsplit_once('/') {
        Some((destination, protocol)) if !protocol.contains(':') => (destination, protocol),
        _ => (to, "tcp"),
    }
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn a_protocol_comes_after_the_ports() {
        assert_eq!(split("tag:db:22"), ("tag:db:22", "tcp"));
        assert_eq!(split("tag:db:53/udp"), ("tag:db:53", "udp"));
        assert_eq!(split("10.0.0.0/8:22"), ("10.0.0.0/8:22", "tcp"));
        assert_eq!(split("10.0.0.0/8:22/udp"), ("10.0.0.0/8:22", "udp"));
    }
}
