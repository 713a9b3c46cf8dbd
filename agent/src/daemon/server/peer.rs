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

/// Whether a user is root or the agent's own.
pub fn is_owner(uid: u32) -> bool {
    uid == 0 || uid == rustix::process::geteuid().as_raw()
}

impl Peer {
    /// Whoever has connected, as the kernel says; names are as /proc has them.
    pub fn of(stream: &UnixStream) -> Self {
        // The kernel has them of every connection.
        let credentials = stream.peer_cred().ok();
        let (uid, gid) = credentials.map_or((u32::MAX, u32::MAX), |found| (found.uid(), found.gid()));
        let pid = credentials.and_then(|found| found.pid()).filter(|pid| *pid > 0);
        let comm = pid.and_then(|pid| std::fs::read_to_string(format!("/proc/{pid}/comm")).ok());
        let exe = pid.and_then(|pid| std::fs::read_link(format!("/proc/{pid}/exe")).ok());
        let actor = Actor::Socket {
            uid,
            gid,
            pid,
            comm: comm.map(|comm| comm.trim_end().to_owned()),
            exe: exe.map(|exe| exe.display().to_string()),
        };
        let groups = groups::of_peer(stream).unwrap_or_default().into_iter().chain([gid]).collect();
        Self { actor, uid, groups }
    }
}
