//! Where a host's files of the fleet come from.

use std::sync::Arc;

use bulkhead_fleet::{Directory, Https, Origin};

use crate::config::FleetFrom;

/// The origin that agent.toml names. Files of TLS are read now.
///
/// # Errors
/// If one of them cannot be read.
pub(super) fn open(from: &FleetFrom) -> Result<Arc<dyn Origin>, String> {
    match from {
        FleetFrom::Directory(path) => Ok(Arc::new(Directory::new(path))),
        FleetFrom::Https { url, tls } => {
            Https::new(url, tls).map(|of| Arc::new(of) as Arc<dyn Origin>).map_err(|error| error.to_string())
        }
        FleetFrom::Servers { .. } => {
            Err("`servers` are not followed by this version: name a `directory` or a `url`".to_owned())
        }
    }
}

/// The same in words.
pub(super) fn name(from: &FleetFrom) -> String {
    match from {
        FleetFrom::Directory(path) => path.display().to_string(),
        FleetFrom::Https { url, .. } => url.clone(),
        FleetFrom::Servers { servers, .. } => servers.join(", "),
    }
}
