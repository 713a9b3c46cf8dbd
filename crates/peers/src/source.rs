//! Who is asked about an interface.

use std::path::Path;

use crate::netlink::{self, Link};
use crate::tailscale::{self, SOCKET};
use crate::uapi::{self, Place};
use crate::{Peer, PeersError, wireguard};

/// Who knows the peers of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The kernel, by netlink.
    Kernel,
    /// An implementation in user space, by its UAPI socket.
    Uapi(Place),
    /// Tailscale's daemon, by its LocalAPI.
    Tailscale,
}

/// What there is to ask about an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// The interface is not there.
    Absent,
    /// Nobody says which key its addresses are of.
    Nobody,
    /// Somebody.
    Source(Source),
}

/// Looks for whoever knows the peers of an interface, in the network namespace of the calling thread.
///
/// # Errors
/// If the kernel does not say what the interface is.
pub fn find(interface: &str) -> Result<Found, PeersError> {
    let link = netlink::link(interface);
    let link = link.map_err(PeersError::system(format!("what {interface} is, by netlink")))?;
    let Some(Link { name, kind }) = link else { return Ok(Found::Absent) };
    Ok(match &*kind {
        "wireguard" => Found::Source(Source::Kernel),
        "tun" => {
            let uapi = [Place::of_tunnel(&name), Place::of(&name)];
            let uapi = uapi.into_iter().find(is_there).map(Source::Uapi);
            // As `init` tells it.
            let is_tailscale = || name.starts_with("tailscale") && Path::new(SOCKET).exists();
            uapi.or_else(|| is_tailscale().then_some(Source::Tailscale)).map_or(Found::Nobody, Found::Source)
        }
        _ => Found::Nobody,
    })
}

fn is_there(place: &Place) -> bool {
    match place {
        Place::File(path) => path.exists(),
        // Anybody may have a name.
        Place::Name(name) => place.connect().is_ok_and(|stream| uapi::of_root(&stream, name).is_ok()),
    }
}

impl Source {
    /// The peers of an interface now.
    ///
    /// # Errors
    /// If whoever knows them does not tell.
    pub fn peers(&self, interface: &str) -> Result<Vec<Peer>, PeersError> {
        match self {
            Self::Kernel => wireguard::peers(interface),
            Self::Uapi(place) => uapi::peers(place),
            Self::Tailscale => tailscale::peers(Path::new(SOCKET)),
        }
    }

    /// Its name in `status`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Kernel => "netlink",
            Self::Uapi(_) => "uapi",
            Self::Tailscale => "tailscale",
        }
    }
}
