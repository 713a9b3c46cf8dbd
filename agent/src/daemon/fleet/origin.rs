//! Where a host's files of the fleet come from.

use std::path::Path;
use std::sync::Arc;

use bulkhead_channel::{Channel, Settings};
use bulkhead_fleet::{Directory, Https, Origin, Repository};
use bulkhead_http::Tls;

use super::texts;
use crate::config::FleetFrom;

/// The origin that agent.toml names; one over NATS connects on the runtime that this is called on. Files of TLS are read
/// now.
///
/// # Errors
/// If one of them cannot be read.
pub(super) fn open(from: &FleetFrom, state: &Path) -> Result<Arc<dyn Origin>, String> {
    match from {
        FleetFrom::Directory(path) => Ok(Arc::new(Directory::new(path))),
        FleetFrom::Https { url, tls } => {
            Https::new(url, tls).map(|of| Arc::new(of) as Arc<dyn Origin>).map_err(|error| error.to_string())
        }
        FleetFrom::Servers { servers, credentials, ca } => {
            let settings = Settings {
                servers: servers.clone(),
                credentials: Some(credentials.clone()),
                tls: Tls { ca: ca.clone(), identity: None },
                name: String::new(),
            };
            let state = state.to_owned();
            // What differs is fetched, from what was verified before.
            let kept = move |sum: &str| {
                let mut texts = Repository::ALL.into_iter().filter_map(|of| texts::get(&state, of, sum));
                texts.next().map(String::into_bytes).or_else(|| texts::get_list(&state, sum))
            };
            let channel = Channel::new(settings).map_err(|error| error.to_string())?;
            Ok(Arc::new(channel.with_kept(kept)))
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
