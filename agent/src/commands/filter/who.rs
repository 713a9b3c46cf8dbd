//! Who is meant by one end of a packet.

use std::net::IpAddr;

use bulkhead_api::event::End;
use ipnet::IpNet;

/// Who is meant.
#[derive(Clone, Debug)]
pub enum Who {
    /// Whoever has an address of it.
    Network(IpNet),
    /// A node's name or key, a user or a tag.
    Named(String),
}

impl Who {
    /// Of the words of an option.
    pub fn of(text: &str) -> Self {
        let address = || text.parse::<IpAddr>().ok().map(IpNet::from);
        match text.parse::<IpNet>().ok().or_else(address) {
            Some(network) => Self::Network(network),
            None => Self::Named(text.to_owned()),
        }
    }

    /// Whether this end is meant.
    pub fn is(&self, end: Option<&End>) -> bool {
        let Some(end) = end else { return false };
        match self {
            Self::Network(network) => network.contains(&end.address),
            Self::Named(name) => {
                let is = |text: &Option<String>| text.as_ref() == Some(name);
                is(&end.name) || is(&end.key) || is(&end.user) || end.tags.contains(name)
            }
        }
    }
}
