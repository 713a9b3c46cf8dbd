//! Who asks, by the credentials that the kernel has of the other end.

use bulkhead_api::event::Actor;
use bulkhead_host::groups;
use tokio::net::UnixStream;

/// The process at the other end of the socket, when it connected.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Who it is on record.
    pub actor: Actor,
    /// Its user; nobody's if the kernel does not say.
    pub uid: u32,
    /// Its own group and its supplementary ones.
    pub groups: Vec<u32>,
}

impl Peer {
    /// Whoever has connected.
    pub fn of(stream: &UnixStream) -> Self {
        let actor = actor(stream);
        let (uid, gid) = match actor {
            Actor::Socket { uid, gid, .. } => (uid, Some(gid)),
            _ => (u32::MAX, None),
        };
        let groups = groups::of_peer(stream).unwrap_or_default().into_iter().chain(gid).collect();
        Self { actor, uid, groups }
    }
}

/// Who it is, as the kernel says; its names as /proc has them.
fn actor(stream: &UnixStream) -> Actor {
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
