//! What the agent says and is asked: wire types of its socket, and events. Plain data that serialises; no I/O.

mod canonical;
pub mod change;
pub mod event;
pub mod flow;
pub mod grant;
pub mod history;
pub mod hook;
pub mod link;
pub mod mode;
pub mod quarantine;
pub mod record;
pub mod request;
pub mod route;
#[cfg(feature = "schema")]
pub mod schema;
pub mod session;
pub mod status;
pub mod text;
pub mod tls;
