//! The file, line by line. A private key may stand on any line, in any place of it: no message repeats what is
//! written there. A message names the line, and keys as [`keys`] spells them.

use std::collections::{HashMap, HashSet};

use boringtun::x25519;
use ipnet::IpNet;

use super::{Config, ConfigError, Interface, Peer, Secret, Table, keys, value};

/// What wg-quick(8) takes when nothing tells it the path's: 1500 less the largest overhead.
const DEFAULT_MTU: u16 = 1420;

/// Reads `text`; `file` names it in errors.
///
/// # Errors
/// The first line that cannot be used, or what is missing.
pub fn parse(file: &str, text: &str) -> Result<Config, ConfigError> {
    let mut reader = Reader { file, ..Reader::default() };
    for (index, line) in lines(text).enumerate() {
        reader.line(index + 1, line).map_err(|message| reader.error(index + 1, message))?;
    }
    reader.finish()
}

/// Lines as editors count them: they end with LF, CR LF, or CR alone.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.split('\n').flat_map(|line| line.strip_suffix('\r').unwrap_or(line).split('\r'))
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Section {
    #[default]
    None,
    Interface,
    Peer,
}

/// What has been read so far.
#[derive(Default)]
struct Reader<'a> {
    file: &'a str,
    section: Section,
    /// The keys of the current section that may stand there once, with their lines.
    seen: HashMap<&'static str, usize>,
    interface_line: Option<usize>,
    private_key: Option<Secret>,
    addresses: Vec<IpNet>,
    listen_port: u16,
    mtu: Option<u16>,
    table: Option<Table>,
    mark: u32,
    peers: Vec<PartialPeer>,
    /// Who may use a prefix: the peer's index and the line that said so.
    allowed: HashMap<IpNet, (usize, usize)>,
    warnings: Vec<String>,
}

#[derive(Default)]
struct PartialPeer {
    line: usize,
    key: Option<[u8; 32]>,
    preshared_key: Option<Secret>,
    allowed: Vec<IpNet>,
    endpoint: Option<super::Endpoint>,
    keepalive: u16,
}

impl Reader<'_> {
    fn error(&self, line: usize, message: impl Into<String>) -> ConfigError {
        ConfigError { file: self.file.to_owned(), line, message: message.into() }
    }

    fn line(&mut self, number: usize, line: &str) -> Result<(), String> {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            return Ok(());
        }
        if let Some(section) = line.strip_prefix('[') {
            return self.section(number, section);
        }
        let Some((key, value)) = line.split_once('=') else {
            return Err("is neither a section nor `Key = value`".into());
        };
        let (key, value) = (keys::named(key.trim()), value.trim());
        let (section, known) = match self.section {
            Section::None => {
                return Err("a key stands before any section; put [Interface] above it".into());
            }
            Section::Interface => ("[Interface]", &keys::INTERFACE[..]),
            Section::Peer => ("[Peer]", &keys::PEER[..]),
        };
        let is_passed_over = self.section == Section::Interface;
        let is_known =
            |key: &&str| known.contains(key) || (is_passed_over && keys::NOT_ACTED_ON.contains(key));
        let Some(key) = key.filter(is_known) else {
            return Err(format!("unknown key in {section}; it takes {}", keys::listed(known)));
        };
        if !keys::repeats(key)
            && let Some(first) = self.seen.insert(key, number)
        {
            return Err(format!("{key} is given twice in this section, first on line {first}; keep one"));
        }
        if value.is_empty() && key != "AllowedIPs" {
            return Err(format!("{key} has no value; give one or remove the line"));
        }
        let result = match self.section {
            Section::Peer => self.peer(number, key, value),
            _ => self.interface(number, key, value),
        };
        result.map_err(|message| format!("{key} {message}"))
    }

    fn section(&mut self, number: usize, text: &str) -> Result<(), String> {
        self.seen.clear();
        match text.to_ascii_lowercase().as_str() {
            "interface]" => {
                if let Some(first) = self.interface_line.replace(number) {
                    return Err(format!("a second [Interface], the first is on line {first}; keep one"));
                }
                self.section = Section::Interface;
            }
            "peer]" => {
                self.peers.push(PartialPeer { line: number, ..PartialPeer::default() });
                self.section = Section::Peer;
            }
            _ => {
                return Err("there is no such section; write [Interface] or [Peer], alone on its line".into());
            }
        }
        Ok(())
    }

    fn interface(&mut self, number: usize, key: &'static str, text: &str) -> Result<(), String> {
        match key {
            "PrivateKey" => self.private_key = Some(Secret(value::key(text)?)),
            "Address" => self.addresses.extend(value::networks(text)?),
            "ListenPort" => self.listen_port = value::port(text)?,
            "MTU" => self.mtu = Some(value::mtu(text)?),
            "Table" => self.table = Some(value::table(text)?),
            "FwMark" => self.mark = value::mark(text)?,
            _ => {
                let warning =
                    format!("{}:{number}: {key} is not acted on; do it outside the tunnel", self.file);
                self.warnings.push(warning);
            }
        }
        Ok(())
    }

    fn peer(&mut self, number: usize, key: &'static str, text: &str) -> Result<(), String> {
        let index = self.peers.len() - 1;
        let peer = &mut self.peers[index];
        match key {
            "PublicKey" => peer.key = Some(value::key(text)?),
            "PresharedKey" => peer.preshared_key = Some(Secret(value::key(text)?)),
            "Endpoint" => peer.endpoint = Some(value::endpoint(text)?),
            "PersistentKeepalive" => peer.keepalive = value::number_or_off(text, "65535")?,
            _ => {
                for prefix in value::networks(text)? {
                    let prefix = prefix.trunc();
                    match self.allowed.insert(prefix, (index, number)) {
                        None => peer.allowed.push(prefix),
                        Some((other, _)) if other == index => {}
                        Some((_, line)) => {
                            return Err(format!(
                                "has {prefix}, which belongs to another peer already, on line {line}; \
                                 a prefix has one peer, remove it from one of them"
                            ));
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Config, ConfigError> {
        let Some(line) = self.interface_line else {
            return Err(self.error(1, "has no [Interface]; add one with PrivateKey and Address"));
        };
        let Some(private_key) = self.private_key.take() else {
            return Err(self.error(line, "[Interface] has no PrivateKey; `wg genkey` makes one"));
        };
        if self.addresses.is_empty() {
            return Err(self.error(line, "[Interface] has no Address; add this host's overlay address"));
        }
        let own = x25519::PublicKey::from(&x25519::StaticSecret::from(private_key.0)).to_bytes();
        let table = self.table.unwrap_or(Table::Main);
        let mut keys = HashSet::new();
        let mut peers = Vec::new();
        for peer in std::mem::take(&mut self.peers) {
            let Some(public_key) = peer.key else {
                return Err(self.error(peer.line, "[Peer] has no PublicKey; add the peer's"));
            };
            if public_key == own {
                return Err(
                    self.error(peer.line, "this peer's PublicKey is our own; put the other host's there")
                );
            }
            if !keys.insert(public_key) {
                return Err(self.error(peer.line, "another [Peer] has this PublicKey already; merge the two"));
            }
            if table != Table::Off && peer.allowed.iter().any(|prefix| prefix.prefix_len() == 0) {
                let line = self.allowed_line(&peer);
                // wg-quick would add policy routing here, so that the tunnel's own packets stay out of it.
                return Err(self.error(
                    line,
                    "AllowedIPs has a default route, which would send the tunnel's own packets into itself; \
                     set Table = off and add the routes that you want",
                ));
            }
            peers.push(Peer {
                public_key,
                preshared_key: peer.preshared_key,
                allowed: peer.allowed,
                endpoint: peer.endpoint,
                keepalive: peer.keepalive,
                line: peer.line,
            });
        }
        let interface = Interface {
            private_key,
            addresses: self.addresses,
            listen_port: self.listen_port,
            mtu: self.mtu.unwrap_or(DEFAULT_MTU),
            table,
            mark: self.mark,
        };
        Ok(Config { interface, peers, warnings: self.warnings })
    }

    fn allowed_line(&self, peer: &PartialPeer) -> usize {
        let default = peer.allowed.iter().find(|prefix| prefix.prefix_len() == 0);
        default.and_then(|prefix| self.allowed.get(prefix)).map_or(peer.line, |&(_, line)| line)
    }
}
