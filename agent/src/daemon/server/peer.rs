//! Who asks, by the credentials that the kernel has of the other end.

use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use bulkhead_api::event::Actor;
use tokio::net::UnixStream;

use crate::daemon::server::listener::Heard;

/// The process at the other end of the socket, when it connected.
#[derive(Clone, Debug)]
pub struct Peer(pub Actor);

impl Connected<IncomingStream<'_, Heard>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Heard>) -> Self {
        Self(peer(stream.io()))
    }
}

/// Who it is, as the kernel says; its names as /proc has them.
fn peer(stream: &UnixStream) -> Actor {
    let Ok(credentials) = stream.peer_cred() else {
        // The kernel has them of every connection.
        return Actor::Socket { uid: u32::MAX, gid: u32::MAX, pid: None, comm: None, exe: None };
    };
    let pid = credentials.pid().filter(|pid| *pid > 0);
    let comm = pid.and_then(|pid| std::fs::read_to_string(format!("/proc/{pid}/comm")).ok());
    let exe = pid.and_then(|pid| std::fs::read_link(format!("/proc/{pid}/exe")).ok());
    Actor::Socket {
        uid: credentials.uid(),
        gid: credentials.gid(),
        pid,
        comm: comm.map(|comm| comm.trim_end().to_owned()),
        exe: exe.map(|exe| exe.display().to_string()),
    }
}
