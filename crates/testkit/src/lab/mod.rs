//! A laboratory of hosts: network namespaces on one switch, joined by a full mesh of real WireGuard tunnels.
//!
//! Everything a [`Lab`] makes is removed when it is dropped, on panic too; what a killed process left is swept
//! by the next one. Names start with `bh-<pid>-`, so that several labs stand side by side. Every wait has an end.
//! Needs root, `ip` of iproute2 and /dev/net/tun.

mod binary;
mod bounded;
mod heard;
mod keys;
mod load;
mod machine;
mod namespace;
mod probe;
mod process;
mod stream;
mod tun;

use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

pub use binary::bulkhead;
pub use bounded::{ip, run_within};
pub use keys::{Keys, digits};
pub use load::{Counts, Load};
pub use machine::{has_all_links, slower};
pub use namespace::{Namespace, PREFIX, alive, sweep};
pub use probe::{EchoServers, Outcome, Probe, Protocol, probe, probe_all};
pub use process::Process;
pub use stream::{Stream, Talk};
pub use tun::open_tun;

/// Every tunnel's UDP port on the underlay.
pub const WIREGUARD_PORT: u16 = 51820;

/// The tunnel's interface on every host.
pub const INTERFACE: &str = "wg0";

/// What a mesh may take to come up: tunnels started, every pair answering.
const MESH_DEADLINE: Duration = Duration::from_secs(20);

/// The echo port that [`Lab::mesh`] proves every pair with, before anything filters.
const PROOF_PORT: u16 = 7;

/// Hosts on one switch. The fields' order is the order of removal.
pub struct Lab {
    hosts: Vec<Host>,
    /// The one host that has tunnels to all others; none: all have.
    hub: Option<String>,
    core: Namespace,
    directory: PathBuf,
}

/// One host: a namespace with an underlay address, overlay addresses and a WireGuard key.
pub struct Host {
    /// As in the inventory.
    pub name: String,
    /// Its addresses on the tunnel.
    pub overlay: Vec<IpAddr>,
    /// Its address on the switch.
    pub underlay: Ipv4Addr,
    /// Its WireGuard keys.
    pub keys: Keys,
    /// Its next ones: tunnels made from now on have a peer of that key, at the port after [`WIREGUARD_PORT`], and
    /// route nothing to it.
    pub next: Option<Keys>,
    tunnel: Option<Process>,
    /// Its network.
    pub namespace: Namespace,
}

impl Lab {
    /// An empty lab. `label` tells labs of one process apart; a few letters.
    ///
    /// # Errors
    /// Not root, or the system refused a namespace.
    pub fn new(label: &str) -> anyhow::Result<Lab> {
        // SAFETY: takes nothing, cannot fail.
        ensure!(unsafe { libc::geteuid() } == 0, "network namespaces need root; run this as root");
        sweep();
        let core = Namespace::create(&format!("{label}-core"))?;
        let directory = std::env::temp_dir().join(core.name());
        // Private keys go there.
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&directory)
            .with_context(|| format!("create {directory:?}"))?;
        let lab = Lab { hosts: Vec::new(), hub: None, core, directory };
        // It forwards LLDP, which a cable carries and a bridge keeps for itself.
        lab.core.ip("link add br0 type bridge group_fwd_mask 0x4000")?;
        lab.core.ip("link set br0 up")?;
        Ok(lab)
    }

    /// Adds a host and connects it to the switch.
    ///
    /// # Errors
    /// A second host of that name, or what the system refused.
    pub fn add_host(&mut self, name: &str, overlay: &[IpAddr]) -> anyhow::Result<&Host> {
        ensure!(self.hosts.iter().all(|host| host.name != name), "the lab has a host {name} already");
        let number = self.hosts.len();
        let last = u8::try_from(number + 1).context("the lab's switch holds 200 hosts")?;
        let underlay = Ipv4Addr::new(192, 0, 2, last);
        let label = self.core.label().trim_end_matches("core").to_owned();
        let namespace = Namespace::create(&format!("{label}{name}"))?;
        self.core.ip(&format!("link add p{number} type veth peer name eth0 netns {}", namespace.name()))?;
        self.core.ip(&format!("link set p{number} master br0 up"))?;
        namespace.ip(&format!("addr add {underlay}/24 dev eth0"))?;
        namespace.ip("link set eth0 up")?;
        namespace.ip("link set lo up")?;
        let host = Host {
            name: name.to_owned(),
            overlay: overlay.to_vec(),
            underlay,
            keys: Keys::generate()?,
            next: None,
            tunnel: None,
            namespace,
        };
        self.hosts.push(host);
        self.host(name)
    }

    /// Gives the switch itself an address, for servers that all hosts reach beneath the overlay; its network.
    ///
    /// # Errors
    /// What the system refused.
    pub fn switch(&mut self, address: Ipv4Addr) -> anyhow::Result<&Namespace> {
        self.core.ip(&format!("addr add {address}/24 dev br0"))?;
        // What its servers say to each other.
        self.core.ip("link set lo up")?;
        Ok(&self.core)
    }

    /// All hosts, in the order they were added.
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// The host of that name.
    ///
    /// # Errors
    /// There is none.
    pub fn host(&self, name: &str) -> anyhow::Result<&Host> {
        self.hosts
            .iter()
            .find(|host| host.name == name)
            .with_context(|| format!("the lab has no host {name}"))
    }

    /// The same, to be changed.
    ///
    /// # Errors
    /// There is none.
    pub fn host_mut(&mut self, name: &str) -> anyhow::Result<&mut Host> {
        self.hosts
            .iter_mut()
            .find(|host| host.name == name)
            .with_context(|| format!("the lab has no host {name}"))
    }

    /// A directory of the lab's own, for configuration and logs; removed with it.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Starts `bulkhead tunnel` on every host, each a peer of all others, and returns when every host has got an
    /// answer from every other over it, on its first overlay address of each family.
    ///
    /// # Errors
    /// A tunnel that ends (with what it said), or a pair without answer by the deadline.
    pub fn mesh(&mut self, bulkhead: &Path) -> anyhow::Result<()> {
        let deadline = Instant::now() + slower(MESH_DEADLINE);
        if machine::has_wireguard() {
            for number in 0..self.hosts.len() {
                self.kernel_tunnel(number, false)?;
            }
            return self.prove(deadline);
        }
        for number in 0..self.hosts.len() {
            self.own_tunnel(number, bulkhead, false)?;
        }
        for host in &mut self.hosts {
            host.wait_for_tunnel(deadline)?;
        }
        self.prove(deadline)
    }

    /// [`Lab::mesh`], but with tunnels between one host and each of the others only: of many hosts, a mesh takes longer
    /// than what is shown on it.
    ///
    /// # Errors
    /// As there.
    pub fn star(&mut self, bulkhead: &Path, hub: &str) -> anyhow::Result<()> {
        self.hub = Some(self.host(hub)?.name.clone());
        self.mesh(bulkhead)
    }

    /// Whom a host has a tunnel to.
    fn peers(&self, host: &Host) -> impl Iterator<Item = &Host> {
        let (name, is_hub) =
            (host.name.clone(), |name: &str| self.hub.as_deref().is_none_or(|hub| hub == name));
        let all = is_hub(&name);
        self.hosts.iter().filter(move |peer| peer.name != name && (all || is_hub(&peer.name)))
    }

    /// Removes a host's tunnel, makes it again, and has it greet its peers, who hold its old session.
    ///
    /// # Errors
    /// What the system refused, or a tunnel that ends.
    pub fn replace_tunnel(&mut self, name: &str, bulkhead: &Path) -> anyhow::Result<()> {
        let number = self.hosts.iter().position(|host| host.name == name);
        let number = number.with_context(|| format!("the lab has no host {name}"))?;
        if machine::has_wireguard() {
            self.hosts[number].namespace.ip(&format!("link del {INTERFACE}"))?;
            return self.kernel_tunnel(number, true);
        }
        // Its interface goes with it.
        drop(self.hosts[number].tunnel.take());
        self.own_tunnel(number, bulkhead, true)?;
        self.hosts[number].wait_for_tunnel(Instant::now() + slower(MESH_DEADLINE))
    }

    /// Starts one host's `bulkhead tunnel`.
    fn own_tunnel(&mut self, number: usize, bulkhead: &Path, greets: bool) -> anyhow::Result<()> {
        let config = self.write_config(number, greets)?;
        let host = &mut self.hosts[number];
        let log = self.directory.join(format!("{}.tunnel.log", host.name));
        let mut command = std::process::Command::new(bulkhead);
        command.arg("tunnel").arg("--config").arg(&config).args(["--interface", INTERFACE]);
        host.tunnel = Some(Process::spawn(&host.namespace, &mut command, &log)?);
        Ok(())
    }

    /// Makes one host's tunnel of the kernel's own WireGuard.
    fn kernel_tunnel(&self, number: usize, greets: bool) -> anyhow::Result<()> {
        let host = &self.hosts[number];
        let config = self.write_config(number, greets)?;
        // `wg` knows nothing of addresses.
        let text = fs::read_to_string(&config)?;
        let text: Vec<_> = text.lines().filter(|line| !line.starts_with("Address")).collect();
        fs::write(&config, text.join("\n"))?;
        host.namespace.ip(&format!("link add {INTERFACE} type wireguard"))?;
        ip(&format!("netns exec {} wg setconf {INTERFACE} {}", host.namespace.name(), config.display()))?;
        for address in &host.overlay {
            host.namespace.ip(&format!("addr add {address} dev {INTERFACE} nodad"))?;
        }
        host.namespace.ip(&format!("link set {INTERFACE} up"))?;
        for address in self.peers(host).flat_map(|peer| &peer.overlay) {
            host.namespace.ip(&format!("route add {address} dev {INTERFACE}"))?;
        }
        Ok(())
    }

    /// Every host to every other, until all have answered.
    fn prove(&self, deadline: Instant) -> anyhow::Result<()> {
        let mut servers = Vec::new();
        for host in &self.hosts {
            servers.push(EchoServers::start(&host.namespace, &[], &[PROOF_PORT])?);
        }
        for host in &self.hosts {
            let mut left: Vec<Probe> = self
                .peers(host)
                .flat_map(Host::first_overlay)
                .map(|address| Probe { to: SocketAddr::new(address, PROOF_PORT), protocol: Protocol::Udp })
                .collect();
            while !left.is_empty() {
                let outcomes = probe_all(&host.namespace, &left, slower(Duration::from_millis(1000)))?;
                let silent =
                    left.into_iter().zip(outcomes).filter(|(_, outcome)| *outcome != Outcome::Replied);
                left = silent.map(|(probe, _)| probe).collect();
                if !left.is_empty() && Instant::now() > deadline {
                    let log = host.tunnel.as_ref().map(Process::log).unwrap_or_default();
                    bail!(
                        "{} gets no answer over the tunnel from {left:?}; its tunnel said:\n{log}",
                        host.name
                    );
                }
            }
        }
        Ok(())
    }

    fn write_config(&self, number: usize, greets: bool) -> anyhow::Result<PathBuf> {
        let host = &self.hosts[number];
        let mut text =
            format!("[Interface]\nPrivateKey = {}\nListenPort = {WIREGUARD_PORT}\n", host.keys.private);
        for address in &host.overlay {
            writeln!(text, "Address = {address}")?;
        }
        for peer in self.peers(host) {
            let allowed: Vec<_> = peer.overlay.iter().map(ToString::to_string).collect();
            writeln!(text, "\n[Peer] # {}\nPublicKey = {}", peer.name, peer.keys.public)?;
            writeln!(text, "AllowedIPs = {}", allowed.join(", "))?;
            writeln!(text, "Endpoint = {}:{WIREGUARD_PORT}", peer.underlay)?;
            if greets {
                writeln!(text, "PersistentKeepalive = 1")?;
            }
            if let Some(next) = &peer.next {
                writeln!(text, "\n[Peer]\nPublicKey = {}", next.public)?;
                writeln!(text, "Endpoint = {}:{}", peer.underlay, WIREGUARD_PORT + 1)?;
            }
        }
        let path = self.directory.join(format!("{}.conf", host.name));
        let mut file =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        std::io::Write::write_all(&mut file, text.as_bytes())?;
        Ok(path)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.directory) {
            eprintln!("lab: cannot remove {:?}: {error}", self.directory);
        }
    }
}

impl Host {
    /// The first overlay address of each family, from which a server on any address answers.
    fn first_overlay(&self) -> impl Iterator<Item = IpAddr> {
        let is_first = move |(index, address): &(usize, &IpAddr)| {
            self.overlay[..*index].iter().all(|before| before.is_ipv4() != address.is_ipv4())
        };
        self.overlay.iter().enumerate().filter(is_first).map(|(_, address)| *address)
    }

    fn wait_for_tunnel(&mut self, deadline: Instant) -> anyhow::Result<()> {
        let Some(tunnel) = &mut self.tunnel else { bail!("{} has no tunnel", self.name) };
        // The last thing to come up is the interface's flag.
        while !self.namespace.ip("-brief link show up")?.lines().any(|line| line.starts_with(INTERFACE)) {
            if let Some(status) = tunnel.ended()? {
                bail!("the tunnel of {} ended ({status}):\n{}", self.name, tunnel.log());
            }
            ensure!(
                Instant::now() < deadline,
                "the tunnel of {} does not come up:\n{}",
                self.name,
                tunnel.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// The tunnel's process, once [`Lab::mesh`] has started it.
    pub fn tunnel(&mut self) -> Option<&mut Process> {
        self.tunnel.as_mut()
    }
}
