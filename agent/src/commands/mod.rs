//! One module a command.

#[cfg(feature = "agent")]
pub mod apply;
#[cfg(feature = "agent")]
pub mod attach;
#[cfg(feature = "agent")]
pub mod audit;
mod budget;
pub mod check;
pub mod compile;
#[cfg(feature = "agent")]
pub mod detach;
pub mod diff;
#[cfg(feature = "agent")]
pub mod doctor;
#[cfg(feature = "agent")]
pub mod drift;
pub mod eval;
pub mod explain;
#[cfg(feature = "agent")]
pub mod exposed;
#[cfg(feature = "agent")]
pub mod filter;
#[cfg(feature = "agent")]
pub mod fleet;
#[cfg(feature = "agent")]
pub mod flows;
pub mod generate;
#[cfg(unix)]
pub mod grants;
#[cfg(feature = "agent")]
pub mod guard;
#[cfg(feature = "agent")]
pub mod history;
#[cfg(feature = "agent")]
pub mod init;
pub mod inventory;
mod network;
#[cfg(feature = "agent")]
pub mod quarantine;
#[cfg(feature = "agent")]
mod repeat;
#[cfg(feature = "agent")]
pub mod review;
#[cfg(feature = "agent")]
pub mod run;
#[cfg(feature = "agent")]
pub mod sources;
#[cfg(feature = "agent")]
pub mod stage;
#[cfg(feature = "agent")]
pub mod status;
#[cfg(feature = "agent")]
pub mod suggest;
#[cfg(feature = "agent")]
pub mod tls;
#[cfg(feature = "tunnel")]
pub mod tunnel;
pub mod version;
#[cfg(feature = "agent")]
pub mod watch;
mod who;
