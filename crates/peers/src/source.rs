//! Who is asked about an interface.

use std::path::Path;

use crate::tailscale::{self, SOCKET};
use crate::uapi::{self, Place};
use crate::{Peer, PeersError, netlink, wireguard};

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
    let kind =
        netlink::kind(interface).map_err(PeersError::system(format!("what {interface} is, by netlink")))?;
    Ok(match kind.as_deref() {
        None => Found::Absent,
        Some("wireguard") => Found::Source(Source::Kernel),
        Some("tun") => {
            let uapi = [Place::of_tunnel(interface), Place::of(interface)];
            let uapi = uapi.into_iter().find(is_there).map(Source::Uapi);
            // As `init` tells it.
            let is_tailscale = || interface.starts_with("tailscale") && Path::new(SOCKET).exists();
            uapi.or_else(|| is_tailscale().then_some(Source::Tailscale)).map_or(Found::Nobody, Found::Source)
        }
        Some(_) => Found::Nobody,
    })
}

fn is_there(place: &Place) -> bool {
    match place {
        Place::File(path) => path.exists(),
        Place::Name(_) => place.connect().is_ok(),
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
