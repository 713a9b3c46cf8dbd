//! A cluster of NATS servers on loopback or in a namespace, as `cargo xtask setup` has installed them.
//!
//! Servers log to files in the cluster's directory, which is removed with it. They end with the thread that started
//! them.

use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use crate::lab::{Namespace, slower};

/// The server that `cargo xtask setup` installs.
const SERVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/nats-server/bin/nats-server");

/// How long a server may take until it serves.
const START: Duration = Duration::from_secs(20);

/// Where a server stands among others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// It has streams, and takes clients alone.
    Core,
    /// It has streams, and takes servers of sites, too.
    Hub,
    /// It has none: it is a site's, by what its configuration includes.
    Site,
}

/// Servers of a cluster.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many: 1 or 3.
    pub servers: usize,
    /// Whether clients must use TLS.
    pub is_tls: bool,
    /// What each server's configuration includes, such as accounts.
    pub include: Option<String>,
    /// The address that servers listen at.
    pub address: Ipv4Addr,
    /// Where they stand among others.
    pub place: Place,
}

impl Plan {
    /// So many servers on loopback, open to everybody, without TLS.
    #[must_use]
    pub fn open(servers: usize) -> Self {
        Self { servers, is_tls: false, include: None, address: Ipv4Addr::LOCALHOST, place: Place::Core }
    }
}

/// A running cluster.
#[derive(Debug)]
pub struct Cluster {
    directory: PathBuf,
    plan: Plan,
    servers: Vec<Server>,
    namespace: Option<String>,
}

#[derive(Debug)]
struct Server {
    port: u16,
    monitor: u16,
    leaves: u16,
    child: Option<Child>,
}

/// Ports that nobody has now.
fn ports(count: usize) -> anyhow::Result<Vec<u16>> {
    // All at the same time, so that no two are the same.
    let listeners = (0..count).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
    let listeners: Vec<_> = listeners.collect::<Result<_, _>>()?;
    listeners.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}

impl Cluster {
    /// Starts servers in this process's namespace, or in another.
    ///
    /// # Errors
    /// A server does not start, with what it said.
    pub fn start(plan: Plan, namespace: Option<&Namespace>) -> anyhow::Result<Self> {
        ensure!(Path::new(SERVER).exists(), "{SERVER} is missing: `cargo xtask setup` installs it");
        let count = plan.servers;
        let ports = ports(count * 4)?;
        let directory = std::env::temp_dir().join(format!("bh-{}-nats-{}", std::process::id(), ports[0]));
        fs::create_dir_all(&directory)?;
        if plan.is_tls {
            certificates(&directory, plan.address)?;
        }
        let routes: Vec<String> = (0..count)
            .map(|number| format!("nats://{}:{}", plan.address, ports[count * 2 + number]))
            .collect();
        for number in 0..count {
            let own = directory.join(number.to_string());
            fs::create_dir_all(&own)?;
            let mut text = format!(
                "server_name: {name}\nlisten: {at}:{}\nhttp: {at}:{}\nmax_connections: 70000\n",
                ports[number],
                ports[count + number],
                at = plan.address,
                // Of two servers of sites of one name one is refused.
                name = if plan.place == Place::Site {
                    format!("site-{}", ports[0])
                } else {
                    format!("s{number}")
                },
            );
            if plan.place != Place::Site {
                let store = own.join("store");
                writeln!(text, "jetstream {{ store_dir: {}, max_mem: 1G, max_file: 8G }}", store.display())?;
            }
            let (certificate, key) = (directory.join("server.pem"), directory.join("server.key"));
            let tls = format!("tls {{ cert_file: {}, key_file: {} }}", certificate.display(), key.display());
            let tls = if plan.is_tls { &*tls } else { "" };
            if plan.place == Place::Hub {
                writeln!(
                    text,
                    "leafnodes {{ listen: {}:{}, {tls} }}",
                    plan.address,
                    ports[count * 3 + number]
                )?;
            }
            if count > 1 {
                let listen = format!("{}:{}", plan.address, ports[count * 2 + number]);
                writeln!(
                    text,
                    "cluster {{ name: fleet, listen: {listen}, routes: [{}] }}",
                    routes.join(", ")
                )?;
            }
            writeln!(text, "{tls}")?;
            if let Some(include) = &plan.include {
                text.push_str(include);
            }
            fs::write(own.join("server.conf"), text)?;
        }
        let servers = (0..count).map(|number| Server {
            port: ports[number],
            monitor: ports[count + number],
            leaves: ports[count * 3 + number],
            child: None,
        });
        let servers = servers.collect();
        let namespace = namespace.map(|namespace| namespace.name().to_owned());
        let mut cluster = Self { directory, plan, servers, namespace };
        for number in 0..count {
            cluster.spawn(number)?;
        }
        cluster.wait()?;
        Ok(cluster)
    }

    fn spawn(&mut self, number: usize) -> anyhow::Result<()> {
        let own = self.directory.join(number.to_string());
        let mut command = match &self.namespace {
            Some(name) => {
                let mut command = Command::new("nsenter");
                command.arg(format!("--net=/run/netns/{name}")).arg(SERVER);
                command
            }
            None => Command::new(SERVER),
        };
        command.current_dir(&own).arg("-c").arg(own.join("server.conf")).arg("-l").arg(own.join("log"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(own.join("stderr"))?);
        command.process_group(0);
        // SAFETY: the closure runs in the child between fork and exec and makes two system calls, no allocation.
        unsafe {
            command.pre_exec(|| {
                let limit = libc::rlimit { rlim_cur: 65_536, rlim_max: 65_536 };
                // A small cluster does without.
                libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
                if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) != 0 {
                    return Err(std::io::Error::last_os_error());
                }
                Ok(())
            });
        }
        let child = command.spawn().with_context(|| format!("start {SERVER}"))?;
        self.servers[number].child = Some(child);
        Ok(())
    }

    /// Waits until all servers that run serve, JetStream included.
    fn wait(&self) -> anyhow::Result<()> {
        let until = Instant::now() + slower(START);
        for (number, server) in self.servers.iter().enumerate().filter(|(_, server)| server.child.is_some()) {
            while !self.get(number, "/healthz").is_ok_and(|body| body.contains("\"ok\"")) {
                if Instant::now() > until {
                    let log = fs::read_to_string(self.directory.join(number.to_string()).join("log"));
                    let said = fs::read_to_string(self.directory.join(number.to_string()).join("stderr"));
                    bail!("nats-server {number} on {} does not serve: {log:?} {said:?}", server.port);
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        Ok(())
    }

    /// What a server's monitoring says, such as `/varz`.
    ///
    /// # Errors
    /// It does not answer.
    pub fn get(&self, number: usize, path: &str) -> anyhow::Result<String> {
        let to = SocketAddr::from((self.plan.address, self.servers[number].monitor));
        let path = path.to_owned();
        let ask = move || -> anyhow::Result<String> {
            use std::io::{Read as _, Write as _};
            let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(1))?;
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            write!(stream, "GET {path} HTTP/1.0\r\nHost: nats\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
        };
        match &self.namespace {
            None => ask(),
            Some(name) => {
                let file = fs::File::open(Path::new("/run/netns").join(name))?;
                let there = std::thread::spawn(move || {
                    // SAFETY: the descriptor is open, and the thread ends with this closure.
                    let entered =
                        unsafe { libc::setns(std::os::fd::AsRawFd::as_raw_fd(&file), libc::CLONE_NEWNET) };
                    ensure!(entered == 0, "enter the namespace: {}", std::io::Error::last_os_error());
                    ask()
                });
                there.join().map_err(|_| anyhow::anyhow!("asking a server panicked"))?
            }
        }
    }

    /// Its servers, as clients are told.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        let scheme = if self.plan.is_tls { "tls" } else { "nats" };
        self.servers
            .iter()
            .map(|server| format!("{scheme}://{}:{}", self.plan.address, server.port))
            .collect()
    }

    /// The same, as servers of sites are told.
    #[must_use]
    pub fn leaf_urls(&self) -> Vec<String> {
        let scheme = if self.plan.is_tls { "tls" } else { "nats-leaf" };
        let servers = self.servers.iter();
        servers.map(|server| format!("{scheme}://{}:{}", self.plan.address, server.leaves)).collect()
    }

    /// The certificate to trust its servers by, if they use TLS.
    #[must_use]
    pub fn ca(&self) -> Option<PathBuf> {
        self.plan.is_tls.then(|| self.directory.join("ca.pem"))
    }

    /// Which server leads a stream.
    ///
    /// # Errors
    /// None does, or monitoring does not answer.
    pub fn leader(&self, stream: &str) -> anyhow::Result<usize> {
        if self.servers.len() == 1 {
            return Ok(0);
        }
        for number in (0..self.servers.len()).filter(|number| self.servers[*number].child.is_some()) {
            let body = self.get(number, "/jsz?streams=true&accounts=true")?;
            let Some((_, rest)) = body.split_once(&format!("\"name\": \"{stream}\"")) else { continue };
            let Some((_, rest)) = rest.split_once("\"leader\": \"s") else { continue };
            if let Some(number) = rest.chars().next().and_then(|digit| digit.to_digit(10)) {
                return Ok(number as usize);
            }
        }
        bail!("no server leads {stream}")
    }

    /// Kills a server.
    pub fn kill(&mut self, number: usize) {
        if let Some(mut child) = self.servers[number].child.take() {
            // It may have ended itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts a server again that was killed.
    ///
    /// # Errors
    /// It does not start.
    pub fn restart(&mut self, number: usize) -> anyhow::Result<()> {
        self.kill(number);
        self.spawn(number)
    }

    /// The same for all of them; returns when they serve.
    ///
    /// # Errors
    /// One does not serve.
    pub fn restart_all(&mut self) -> anyhow::Result<()> {
        for number in 0..self.servers.len() {
            self.restart(number)?;
        }
        self.wait()
    }

    /// Memory and processor time of each server: resident MB and seconds.
    #[must_use]
    pub fn usage(&self) -> Vec<(u64, f64)> {
        self.servers.iter().filter_map(|server| usage(server.child.as_ref()?.id())).collect()
    }
}

fn usage(pid: u32) -> Option<(u64, f64)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let resident: u64 = resident.split_whitespace().next()?.parse().ok()?;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    #[expect(clippy::cast_precision_loss, reason = "seconds to show")]
    let seconds = ticks as f64 / 100.0;
    Some((resident >> 10, seconds))
}

impl Drop for Cluster {
    fn drop(&mut self) {
        (0..self.servers.len()).for_each(|number| self.kill(number));
        if std::thread::panicking() {
            eprintln!("the servers' logs stay in {}", self.directory.display());
        } else {
            // What stays is swept by nobody, but is a few megabytes in a directory for such.
            let _ = fs::remove_dir_all(&self.directory);
        }
    }
}

/// An authority, and a server's certificate by it.
fn certificates(directory: &Path, address: Ipv4Addr) -> anyhow::Result<()> {
    let mut parameters = CertificateParams::new(Vec::new())?;
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(parameters, KeyPair::generate()?)?;
    fs::write(directory.join("ca.pem"), authority.pem())?;
    let key = KeyPair::generate()?;
    let names = vec!["localhost".to_owned(), address.to_string()];
    let certificate = CertificateParams::new(names)?.signed_by(&key, &authority)?;
    fs::write(directory.join("server.pem"), certificate.pem())?;
    fs::write(directory.join("server.key"), key.serialize_pem())?;
    Ok(())
}
