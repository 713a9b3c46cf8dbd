//! `wg show IFACE dump` (wg(8)): the interface in the first line, then a line for each peer,
//! fields separated by tabs. Private and preshared keys are in it: no finding repeats a line.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ipnet::IpNet;

use super::{Import, Listed, base64};
use crate::frontend::diagnostic::{Diagnostic, Findings, Severity};
use crate::frontend::json::{self, Reader};
use crate::frontend::policy::posture::Attributes;
use crate::frontend::source::Source;

/// Fields of the interface's line: private key, public key, port, mark.
const OF_INTERFACE: usize = 4;
/// Fields of a peer's line: public key, preshared key, endpoint, allowed IPs, handshake, bytes
/// received and sent, keepalive.
const OF_PEER: usize = 8;
/// How wg writes nothing.
const NOTHING: &str = "(none)";

/// Reads a dump, with names by public key from another file: `{"<key>": "engine-1", ...}`.
/// What is wrong with either goes to `findings`.
pub fn wireguard(dump: &Source, names: &Source, findings: &mut Findings) -> Option<Import> {
    let names = read_names(names, findings)?;
    let mut import = Import::default();
    for (number, line) in (1..).zip(dump.text().lines()) {
        let fields: Vec<&str> = line.split('\t').collect();
        let mut refuse = |message: String, help: &str| {
            let error = Diagnostic::global(Severity::Error, format!("{}:{number}: {message}", dump.name()));
            findings.push(error.help(help));
        };
        let (key, allowed) = match (number, fields.len()) {
            (1, OF_INTERFACE) => (fields[1], None),
            (2.., OF_PEER) => (fields[0], Some(fields[3])),
            (_, count) => {
                let message = format!("a line of {count} fields is none of a dump");
                refuse(message, "import what `wg show IFACE dump` prints, of one interface");
                continue;
            }
        };
        let bytes = BASE64_STANDARD.decode(key).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        let Some(key) = bytes else {
            refuse(
                "no public key where one should be".into(),
                "import what `wg show IFACE dump` prints, unchanged",
            );
            continue;
        };
        let Some(name) = names.get(&key) else {
            let message = format!("nobody is named for the key {}", base64(&key));
            refuse(message, "add it to the file of names: {\"<public key>\": \"<name>\"}");
            continue;
        };
        match allowed.map(allowed_ips).transpose() {
            // What the interface itself has is not in its dump.
            Ok(allowed) => import.nodes.push(listed(name, key, allowed)),
            Err(()) => refuse(
                "allowed IPs that are no prefixes".into(),
                "import what `wg show IFACE dump` prints, unchanged",
            ),
        }
    }
    if import.nodes.is_empty() && !findings.has_errors() {
        let message = format!("{} is empty", dump.name());
        let error = Diagnostic::global(Severity::Error, message);
        findings.push(error.help("import what `wg show IFACE dump` prints, as root"));
    }
    Some(import)
}

/// The peers of an interface, each a key with its allowed IPs, that a file names as in [`wireguard`]. What is wrong
/// with the file goes to `findings`; a peer that it does not name is left out.
pub fn peers(
    peers: impl Iterator<Item = ([u8; 32], Vec<IpNet>)>,
    names: &Source,
    findings: &mut Findings,
) -> Option<Import> {
    let names = read_names(names, findings)?;
    let named = peers.filter_map(|(key, allowed)| Some(listed(names.get(&key)?, key, Some(split(allowed)))));
    Some(Import { nodes: named.collect(), users: Vec::new() })
}

fn listed(name: &str, key: [u8; 32], allowed: Option<(Vec<IpAddr>, Vec<IpNet>)>) -> Listed {
    let (addresses, routes) = allowed.unzip();
    Listed {
        name: name.to_owned(),
        key: Some(key),
        addresses,
        routes,
        owner: None,
        posture: Attributes::new(),
        posture_expires: BTreeMap::new(),
        expires: None,
        jailed: None,
    }
}

fn allowed_ips(text: &str) -> Result<(Vec<IpAddr>, Vec<IpNet>), ()> {
    let prefixes = text.split(',').filter(|prefix| !prefix.is_empty() && *prefix != NOTHING);
    let prefixes: Vec<IpNet> = prefixes.map(str::parse).collect::<Result<_, _>>().map_err(|_| ())?;
    Ok(split(prefixes))
}

/// Single addresses are the peer's own, prefixes are its routes.
fn split(allowed: Vec<IpNet>) -> (Vec<IpAddr>, Vec<IpNet>) {
    let (own, led): (Vec<IpNet>, Vec<IpNet>) =
        allowed.into_iter().partition(|prefix| prefix.prefix_len() == prefix.max_prefix_len());
    (own.iter().map(IpNet::addr).collect(), led.iter().map(IpNet::trunc).collect())
}

fn read_names(source: &Source, findings: &mut Findings) -> Option<HashMap<[u8; 32], String>> {
    json::parse(source, findings, "a file of names", |reader: &mut Reader<'_>, object| {
        let mut names = HashMap::new();
        for (key, member) in reader.entries(object) {
            let decoded = BASE64_STANDARD.decode(key).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
            let Some(decoded) = decoded else {
                let error = Diagnostic::error(reader.source, member.span, "this name is for no public key");
                reader.findings.push(error.help("a key is 32 bytes in base64, 44 characters"));
                continue;
            };
            if let Some(name) = reader.string(&member.value, "a name") {
                names.insert(decoded, name.value);
            }
        }
        names
    })
}
