//! Which sockets take packets of others, and who reaches them. Nothing is changed by looking.

pub mod enforced;
mod links;
mod netlink;
mod reach;
pub mod sockets;
pub mod unit;

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::Context as _;
use bulkhead_api::status::{State, Status};
use serde::Serialize;

pub use self::reach::{Reach, Way};

use self::reach::World;
use self::sockets::Socket;
use crate::commands;
use crate::daemon::residence;
use crate::daemon::state::in_place::{GuardNote, InPlace};
use crate::daemon::store::Store;
use crate::guard::Nft;
use crate::owners::{self, Owner};
use crate::paths::Paths;

/// A socket, and who reaches it.
#[derive(Clone, Debug, Serialize)]
pub struct Listed {
    /// `tcp`, `udp` or `raw`.
    pub protocol: &'static str,
    /// Its address, unspecified for every one.
    pub address: IpAddr,
    /// It takes IPv4 packets, too, though its address is every IPv6 one.
    pub dual_stack: bool,
    /// Its port; of a raw socket, the number of the IP protocol.
    pub port: u16,
    /// The interface that it is bound to.
    pub device: Option<String>,
    /// Whose it is; none: the kernel's, or that of a process that cannot be seen.
    pub process: Option<Owner>,
    /// The systemd unit of that process.
    pub unit: Option<String>,
    /// Whether anyone reaches it, by some interface.
    pub exposed: bool,
    /// By which interface, and who.
    pub ways: Vec<Way>,
}

/// The whole answer.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The sockets, in order.
    pub sockets: Vec<Listed>,
    /// Sockets on loopback addresses, which are not listed unless asked for.
    pub on_loopback: usize,
    /// Sockets on overlay addresses that nobody reaches but whom the policy lets in; likewise.
    pub on_overlay: usize,
    /// What could not be seen, and what the answer rests on.
    pub notes: Vec<String>,
}

impl Report {
    /// How many of the sockets are exposed.
    #[must_use]
    pub fn exposed(&self) -> usize {
        self.sockets.iter().filter(|socket| socket.exposed).count()
    }
}

/// What the kernel says in the network namespace that the instance is in.
struct Seen {
    sockets: Vec<Socket>,
    interfaces: Vec<links::Interface>,
    addresses: BTreeSet<IpAddr>,
    is_guarded: bool,
    unknown: Vec<String>,
}

/// Looks at an instance's host. With `all`, nothing is left out.
///
/// # Errors
/// If the kernel or the state directory cannot be read.
pub fn look(instance: &str, paths: &Paths, all: bool) -> anyhow::Result<Report> {
    anyhow::ensure!(
        rustix::process::geteuid().is_root(),
        "looking at sockets of all processes and at the enforced policy needs root; run this as root"
    );
    let status = commands::status::ask(instance, paths)?;
    let seen = residence::there(paths, || see(instance, paths))?.with_context(|| {
        format!(
            "instance {instance} is enforced in another network namespace, which no name and no process leads to from \
             here; ask there"
        )
    })??;
    let Seen { sockets, interfaces, addresses, is_guarded, unknown: mut notes } = seen;
    notes.extend(doubts(instance, &status));
    let (enforced, built) = match enforced::read(&Store::new(&paths.state), &status) {
        Ok(found) => found.unzip(),
        Err(error) => {
            notes.push(format!("not known is whom the policy lets in: {error:#}"));
            (None, None)
        }
    };
    let interfaces = enforced::standings(interfaces, &status, built.as_ref());
    let world = World { interfaces, addresses, enforced, is_guarded };
    let mut report = Report { sockets: Vec::new(), on_loopback: 0, on_overlay: 0, notes };
    let owners = owners::of_sockets();
    for socket in &sockets {
        let ways = world.ways(socket);
        let exposed = ways.iter().any(|way| matches!(way.reach, Reach::Anyone { .. }));
        let is_left_out = !all && !exposed;
        if socket.is_loopback() && is_left_out {
            report.on_loopback += 1;
        } else if world.is_overlay(socket) && is_left_out {
            report.on_overlay += 1;
        } else {
            let process = owners.get(&socket.inode).cloned();
            report.sockets.push(Listed {
                protocol: socket.transport.name(),
                address: socket.address,
                dual_stack: socket.is_dual,
                port: socket.port,
                device: socket.device.map(|index| world.name_of(index)),
                unit: process.as_ref().and_then(|owner| unit::of(owner.pid)),
                process,
                exposed,
                ways,
            });
        }
    }
    Ok(report)
}

fn see(instance: &str, paths: &Paths) -> anyhow::Result<Seen> {
    let interfaces = links::interfaces().context("listing interfaces")?;
    let addresses = links::addresses().context("listing addresses")?;
    let (sockets, unknown) = sockets::all();
    let is_guarded = InPlace::noted(&paths.socket).is_some_and(|noted| {
        noted.guard != GuardNote::Off && matches!(noted.guard.difference(&Nft, instance), Ok(None))
    });
    Ok(Seen { sockets, interfaces, addresses, is_guarded, unknown })
}

/// What the status leaves open.
fn doubts(instance: &str, status: &Status) -> Vec<String> {
    let mut doubts = Vec::new();
    if status.agent.is_none() {
        doubts.push(if status.links.is_empty() {
            format!("nothing is enforced by instance {instance}, so nothing of it drops a packet; `bulkhead run` starts an agent")
        } else {
            "no agent answers: what is enforced is read from the kernel, whom it lets in from the state directory, and \
             whether keys still route their addresses is not known; `bulkhead run` starts an agent"
                .to_owned()
        });
    }
    if matches!(status.state, State::Degraded | State::Mixed) {
        doubts.push(format!(
            "enforcement is {}, so more may pass; `bulkhead status` says why",
            status.state.name()
        ));
    }
    doubts
}

impl World {
    fn name_of(&self, index: u32) -> String {
        let known = self.interfaces.iter().map(|(interface, _)| interface).find(|known| known.index == index);
        known.map_or_else(|| format!("interface {index}"), |interface| interface.name.clone())
    }
}
