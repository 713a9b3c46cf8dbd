//! `bulkhead fleet`: one policy and one inventory for many hosts. One module a subcommand.

mod account;
mod acknowledge;
mod broker;
pub(crate) mod broker_inbox;
mod bundle;
mod collect;
mod diff;
mod enrol;
mod enroller;
mod hosts;
mod init;
mod invite;
mod leaf;
mod memory;
mod notes;
mod publish;
mod push;
mod remove;
mod resume;
mod roll;
mod rollout;
mod rotate;
mod sign;
mod status;

pub use notes::fleet;

use std::path::Path;

use bulkhead_fleet::Holder;
use bulkhead_grants::PublicKey;
use clap::Subcommand;

use crate::exit::{Answer, Usage};
use crate::global::Global;
use crate::input;

/// Sign, publish and follow one policy for many hosts.
///
/// A fleet directory has what is published: two repositories of The Update Framework, one of policies, which people sign,
/// and one of inventories, which the enroller signs. Hosts follow it by `[fleet]` in agent.toml, from a directory, a web
/// server or NATS, and believe nobody who carries it. No private key is ever in it.
#[derive(Debug, clap::Args)]
pub struct Fleet {
    #[command(subcommand)]
    command: FleetCommand,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
enum FleetCommand {
    Init(init::Init),
    Sign(sign::Sign),
    Publish(publish::Publish),
    Rollout(rollout::Rollout),
    Rotate(rotate::Rotate),
    Status(status::Status),
    Diff(diff::Diff),
    Resume(resume::Resume),
    Collect(collect::Collect),
    Acknowledge(acknowledge::Acknowledge),
    Push(push::Push),
    Account(account::Account),
    Invite(invite::Invite),
    Enrol(enrol::Enrol),
    Enroller(enroller::Enroller),
    Credentials(account::Credentials),
    Remove(remove::Remove),
    Leaf(leaf::Leaf),
    RemoveLeaf(leaf::RemoveLeaf),
    Quarantine(notes::Quarantine),
    Release(notes::Release),
    Revoke(notes::Revoke),
    Post(notes::Post),
    Notes(notes::List),
    Take(notes::Take),
}

impl Fleet {
    /// Whether the process serves until it is ended.
    pub fn serves(&self) -> bool {
        matches!(self.command, FleetCommand::Collect(_))
    }

    pub fn run(self, global: &Global) -> anyhow::Result<Answer> {
        match self.command {
            FleetCommand::Init(command) => command.run(global),
            FleetCommand::Sign(command) => command.run(global),
            FleetCommand::Publish(command) => command.run(global),
            FleetCommand::Rollout(command) => command.run(global),
            FleetCommand::Rotate(command) => command.run(global),
            FleetCommand::Status(command) => command.run(global),
            FleetCommand::Diff(command) => command.run(global),
            FleetCommand::Resume(command) => command.run(global),
            FleetCommand::Collect(command) => command.run(),
            FleetCommand::Acknowledge(command) => command.run(),
            FleetCommand::Push(command) => command.run(global),
            FleetCommand::Account(command) => command.run(global),
            FleetCommand::Invite(command) => command.run(global),
            FleetCommand::Enrol(command) => command.run(global),
            FleetCommand::Enroller(command) => command.run(global),
            FleetCommand::Credentials(command) => command.run(global),
            FleetCommand::Remove(command) => command.run(global),
            FleetCommand::Leaf(command) => command.run(global),
            FleetCommand::RemoveLeaf(command) => command.run(global),
            FleetCommand::Quarantine(command) => command.run(global),
            FleetCommand::Release(command) => command.run(global),
            FleetCommand::Revoke(command) => command.run(global),
            FleetCommand::Post(command) => command.run(global),
            FleetCommand::Notes(command) => command.run(global),
            FleetCommand::Take(command) => command.run(global),
        }
    }
}

/// What the fleet's own code refuses is an answer to whoever asks.
fn wrong(error: bulkhead_fleet::Error) -> Usage {
    Usage(error.to_string())
}

/// Seconds since 1970.
fn now() -> i64 {
    (input::now() / 1_000_000_000).cast_signed()
}

/// `NAME=FILE`: whose key, and its .pub.
fn holder(text: &str) -> Result<Holder, String> {
    let (name, path) = text.split_once('=').ok_or("give a name and a .pub file, such as alice=alice.pub")?;
    key(name, Path::new(path))
}

fn key(name: &str, path: &Path) -> Result<Holder, String> {
    let line = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    // Nothing of a private key is repeated.
    if line.starts_with("-----BEGIN") {
        return Err(format!(
            "{}: is a private key, and the public one is meant: name the .pub",
            path.display()
        ));
    }
    let key = PublicKey::parse(line.trim()).map_err(|error| format!("{}: {error}", path.display()))?;
    Holder::new(name, key).map_err(|error| error.to_string())
}
