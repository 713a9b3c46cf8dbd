//! `netbird status --json` (client/status `OutputOverview`): this peer and those that it may talk to.

use bulkhead_policy::inventory::Owner;
use bulkhead_policy::inventory::import::Listed;
use ipnet::IpNet;
use serde::Deserialize;

use super::nodes::{MESH, key};
use super::text;

#[derive(Deserialize)]
struct Status {
    #[serde(flatten)]
    own: Peer,
    #[serde(default)]
    peers: Peers,
}

#[derive(Default, Deserialize)]
struct Peers {
    // Go writes an empty list as null.
    #[serde(default)]
    details: Option<Vec<Peer>>,
}

#[derive(Deserialize)]
struct Peer {
    #[serde(default)]
    fqdn: String,
    #[serde(default, rename = "netbirdIp")]
    address: String,
    #[serde(default, rename = "publicKey")]
    key: String,
    #[serde(default)]
    networks: Option<Vec<String>>,
}

/// The nodes of a status, this one first.
///
/// # Errors
/// Why it is none.
pub fn nodes(status: &str) -> Result<Vec<Listed>, String> {
    let status: Status = serde_json::from_str(status).map_err(|error| error.to_string())?;
    let peers = status.peers.details.unwrap_or_default();
    let all = std::iter::once(status.own).chain(peers);
    let nodes: Vec<Listed> = all.filter_map(listed).collect();
    if nodes.is_empty() { Err("nobody in it has an address".to_owned()) } else { Ok(nodes) }
}

fn listed(peer: Peer) -> Option<Listed> {
    // Its own has the network's length behind it.
    let address = peer.address.split('/').next().unwrap_or_default().parse().ok()?;
    let name = text::name(peer.fqdn.split('.').next().unwrap_or_default());
    // Networks that are names are resolved as they are asked for.
    let routes = peer.networks.unwrap_or_default();
    let routes = routes.iter().filter_map(|network| network.parse::<IpNet>().ok());
    Some(Listed {
        name,
        key: key(&peer.key),
        addresses: Some(vec![address]),
        routes: Some(routes.map(|network| network.trunc()).collect()),
        owner: Some(Owner::Tags(vec![MESH.to_owned()])),
        posture: Default::default(),
        posture_expires: Default::default(),
        expires: None,
        jailed: None,
    })
}
