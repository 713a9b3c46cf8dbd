//! Three hosts, an agent on one of them, and what its operator types.
#![allow(dead_code, reason = "each test uses a part")]

pub mod account;
pub mod connection;
pub mod load;
pub mod stop;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use bulkhead_abi::VERSION;
use bulkhead_testkit::lab::{self, Lab, Namespace, Process, slower};
use serde_json::Value;

/// What one command may take.
const LIMIT: Duration = Duration::from_secs(20);
/// What a state may take to come about. Programs are verified meanwhile.
const PATIENCE: Duration = Duration::from_secs(60);

/// Lets the client use port 8080 of the server.
pub const WEB: &str =
    r#"{"name": "web", "action": "accept", "src": ["tag:client"], "dst": ["tag:server:8080"]}"#;
/// Lets the client use port 8081 of the server.
pub const OTHER: &str =
    r#"{"name": "other", "action": "accept", "src": ["tag:client"], "dst": ["tag:server:8081"]}"#;

/// Where the agent enforces.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// The Ethernet interface.
    Ethernet,
    /// The WireGuard tunnel.
    Tunnel,
}

/// The hosts `server`, which has the agent, `client` and `stranger`.
pub struct Site {
    agent: Option<Process>,
    instance: String,
    bulkhead: PathBuf,
    over: Over,
    /// Everybody has an IPv6 address, too.
    is_dual: bool,
    pub lab: Lab,
}

impl Site {
    /// Hosts, configuration and a policy of these acls; no agent yet.
    pub fn new(label: &str, over: Over, acls: &[&str]) -> Self {
        Self::with_hosts(label, over, acls, &[])
    }

    /// The same with further hosts, which are no nodes.
    pub fn with_hosts(label: &str, over: Over, acls: &[&str], more: &[&str]) -> Self {
        Self::made(label, over, acls, more, false, &[])
    }

    /// The same with an IPv6 address for everybody.
    pub fn dual(label: &str, over: Over, acls: &[&str], more: &[&str]) -> Self {
        Self::made(label, over, acls, more, true, &[])
    }

    /// The same with further addresses that the server routes.
    pub fn with_addresses(label: &str, over: Over, acls: &[&str], more: &[IpAddr]) -> Self {
        Self::made(label, over, acls, &[], true, more)
    }

    fn made(
        label: &str,
        over: Over,
        acls: &[&str],
        more: &[&str],
        is_dual: bool,
        of_server: &[IpAddr],
    ) -> Self {
        let bulkhead = lab::bulkhead().unwrap();
        let mut lab = Lab::new(label).unwrap();
        let nodes = ["server", "client", "stranger"];
        for (last, name) in (1..).zip(nodes).chain((64..).zip(more.iter().copied())) {
            let more = if name == "server" { of_server } else { &[] };
            let host = lab.add_host(name, &[&overlay(last), more].concat()).unwrap();
            if is_dual {
                let address = underlay6(host.underlay);
                host.namespace.ip(&format!("addr add {address}/64 dev eth0 nodad")).unwrap();
            }
        }
        if over == Over::Tunnel {
            lab.mesh(&bulkhead).unwrap();
        }
        let instance = format!("lc-{}-{label}", std::process::id());
        let site = Self { agent: None, instance, bulkhead, over, is_dual, lab };
        let nodes = nodes.map(|name| {
            let addresses: Vec<_> =
                site.addresses(name).iter().map(|address| format!("\"{address}\"")).collect();
            let addresses = addresses.join(", ");
            format!(r#"{{"name": "{name}", "addresses": [{addresses}], "tags": ["tag:{name}"]}}"#)
        });
        site.write("inventory.json", &format!(r#"{{"nodes": [{}]}}"#, nodes.join(",")));
        site.write("agent.toml", &site.configuration("server", site.interface()));
        site.write_policy(acls);
        site
    }

    /// An `agent.toml`.
    pub fn configuration(&self, node: &str, interface: &str) -> String {
        format!(
            "node = \"{node}\"\npolicy = \"policy.hujson\"\ninventory = \"inventory.json\"\n\
             [[interface]]\nname = \"{interface}\"\n"
        )
    }

    pub fn interface(&self) -> &'static str {
        match self.over {
            Over::Ethernet => "eth0",
            Over::Tunnel => lab::INTERFACE,
        }
    }

    /// The agent's instance.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// The address that the policy knows a host by.
    pub fn address(&self, name: &str) -> IpAddr {
        self.addresses(name)[0]
    }

    /// All such addresses: an IPv4 one, and an IPv6 one if the site has them.
    pub fn addresses(&self, name: &str) -> Vec<IpAddr> {
        let host = self.lab.host(name).unwrap();
        match self.over {
            Over::Ethernet => {
                let v6 = self.is_dual.then(|| underlay6(host.underlay).into());
                [host.underlay.into()].into_iter().chain(v6).collect()
            }
            Over::Tunnel => host.overlay[..=usize::from(self.is_dual)].to_vec(),
        }
    }

    /// The address that a host has on the switch.
    pub fn underlay(&self, name: &str) -> IpAddr {
        self.lab.host(name).unwrap().underlay.into()
    }

    pub fn namespace(&self, name: &str) -> &Namespace {
        &self.lab.host(name).unwrap().namespace
    }

    pub fn path(&self, name: &str) -> String {
        self.lab.directory().join(name).display().to_string()
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.lab.directory().join(name), text).unwrap();
    }

    pub fn write_policy(&self, acls: &[&str]) {
        self.write("policy.hujson", &policy(acls));
    }

    /// The namespace of the switch.
    pub fn core(&self) -> String {
        format!("{}core", self.namespace("server").name().strip_suffix("server").unwrap())
    }

    /// Whether nftables has the instance's guard in the server's network.
    pub fn has_guard(&self) -> bool {
        let mut list = Command::new("nft");
        list.args(["list", "table", "inet", &format!("bulkhead-{}", self.instance)]);
        self.namespace("server").prepare(&mut list).unwrap();
        lab::run_within(&mut list, Duration::from_secs(5)).unwrap().status.success()
    }

    /// The server's Ethernet interface goes, if it is still there, and comes back under its name.
    pub fn replace_interface(&self) {
        let server = self.namespace("server");
        let address = self.address("server");
        // It may be gone already.
        let _ = server.ip("link del eth0");
        // The switch lost its end of the cable, too.
        let core = self.core();
        server.ip(&format!("link add eth0 type veth peer name again netns {core}")).unwrap();
        lab::ip(&format!("-n {core} link set again master br0 up")).unwrap();
        server.ip(&format!("addr add {address}/24 dev eth0")).unwrap();
        server.ip("link set eth0 up").unwrap();
    }

    /// The server's tunnel goes and comes back under its name.
    pub fn replace_tunnel(&mut self) {
        self.lab.replace_tunnel("server", &self.bulkhead).unwrap();
    }

    /// Any command, in the server's network.
    pub fn bulkhead(&self, words: &[&str]) -> Output {
        let mut command = Command::new(&self.bulkhead);
        command.args(["--instance", &self.instance]).args(words);
        self.namespace("server").prepare(&mut command).unwrap();
        lab::run_within(&mut command, slower(LIMIT)).unwrap()
    }

    /// A command that must succeed.
    pub fn done(&self, words: &[&str]) {
        let output = self.bulkhead(words);
        assert_eq!(output.status.code(), Some(0), "{words:?}: {output:?}");
    }

    pub fn status(&self) -> Value {
        let output = self.bulkhead(&["status", "--json"]);
        let status: Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
        let code = if status["state"] == "enforced" { 0 } else { 1 };
        assert_eq!(output.status.code(), Some(code), "{status}");
        status
    }

    /// The directory of its pins, of all layouts.
    pub fn pins(&self) -> PathBuf {
        PathBuf::from("/sys/fs/bpf/bulkhead").join(&self.instance)
    }

    /// The directory of its pins, of this layout.
    pub fn layout(&self) -> PathBuf {
        self.pins().join(format!("v{VERSION}"))
    }

    /// The pin of the program on an interface's hook.
    pub fn link(&self, interface: &str, hook: &str) -> PathBuf {
        self.layout().join("links").join(interface).join(hook)
    }

    /// Files that the agent has open: maps, programs and links among them. Those that it keeps in reserve count
    /// as well, though it gives them up for moments.
    pub fn open_files(&self) -> usize {
        let pid = self.agent_pid();
        let count = |_| {
            std::thread::sleep(Duration::from_millis(20));
            std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
        };
        (0..10).map(count).max().unwrap_or_default()
    }

    /// How many programs the agent has loaded and holds.
    pub fn loaded_programs(&self) -> usize {
        let pid = self.agent_pid();
        let open = std::fs::read_dir(format!("/proc/{pid}/fdinfo")).unwrap().flatten();
        let of = |text: String| text.lines().find(|line| line.starts_with("prog_id:")).map(str::to_owned);
        let programs = open.filter_map(|file| of(std::fs::read_to_string(file.path()).ok()?));
        programs.collect::<std::collections::BTreeSet<_>>().len()
    }

    /// The agent's process ID.
    pub fn agent_pid(&self) -> u32 {
        self.agent.as_ref().unwrap().pid()
    }

    /// What the agent has said.
    pub fn log(&self) -> String {
        self.agent.as_ref().map(Process::log).unwrap_or_default()
    }

    /// Starts the agent and waits until it answers.
    pub fn start(&mut self) {
        let pid = self.launch();
        self.wait_for("the agent answers", |status| status["agent"]["pid"] == pid);
    }

    /// Starts the agent; its process number.
    pub fn launch(&mut self) -> u32 {
        self.launch_with(&[])
    }

    /// The same, with more flags of `run`.
    pub fn launch_with(&mut self, more: &[&str]) -> u32 {
        self.launch_by(Command::new(&self.bulkhead), more)
    }

    /// The same on a kernel that calls itself 2.6.
    pub fn launch_on_2_6(&mut self) -> u32 {
        let mut command = Command::new("setarch");
        command.arg("--uname-2.6").arg(&self.bulkhead);
        self.launch_by(command, &[])
    }

    /// The same without CAP_NET_RAW.
    pub fn launch_without_raw_sockets(&mut self) -> u32 {
        let mut command = Command::new("setpriv");
        command.arg("--bounding-set=-net_raw").arg(&self.bulkhead);
        self.launch_by(command, &[])
    }

    /// A call of the binary, to which `launch_by` adds what to run.
    pub fn command(&self) -> Command {
        Command::new(&self.bulkhead)
    }

    /// Starts the agent by a command of one's own.
    pub fn launch_by(&mut self, mut command: Command, more: &[&str]) -> u32 {
        let config = self.path("agent.toml");
        command.args(["--instance", &self.instance, "run", "--config", &config]).args(more);
        let log = self.lab.directory().join("agent.log");
        let agent = Process::spawn(self.namespace("server"), &mut command, &log).unwrap();
        let pid = agent.pid();
        self.agent = Some(agent);
        pid
    }

    /// Ends the agent as nothing else can.
    pub fn kill(&mut self) {
        let mut agent = self.agent.take().unwrap();
        agent.signal(libc::SIGKILL);
        agent.wait(slower(LIMIT)).unwrap();
    }

    /// The exit code of an agent that ends by itself.
    pub fn exit_code(&mut self) -> Option<i32> {
        self.agent.as_mut().unwrap().wait(PATIENCE).unwrap().code()
    }

    /// Whether the agent has ended, within a moment.
    pub fn has_ended(&mut self) -> bool {
        let agent = self.agent.as_mut().unwrap();
        let deadline = Instant::now() + slower(Duration::from_secs(5));
        while agent.ended().unwrap().is_none() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        agent.ended().unwrap().is_some()
    }

    /// Sends the agent a signal.
    pub fn signal(&self, signal: i32) {
        self.agent.as_ref().unwrap().signal(signal);
    }

    /// Stops the agent until SIGCONT.
    pub fn suspend(&self) {
        self.agent.as_ref().unwrap().suspend().unwrap();
    }

    /// Waits for a state; the status in which it was there.
    pub fn wait_for(&mut self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + slower(PATIENCE);
        loop {
            let status = self.status();
            if holds(&status) {
                return status;
            }
            let log = self.log();
            assert!(Instant::now() < deadline, "not so: {what}; {status}\nthe agent said:\n{log}");
            if let Some(agent) = &mut self.agent {
                assert_eq!(agent.ended().unwrap(), None, "the agent ended:\n{log}");
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// The IPv6 address of whoever has this one on the switch.
fn underlay6(v4: Ipv4Addr) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(v4.octets()[3]))
}

/// A host's addresses on the tunnel.
fn overlay(last: u8) -> [IpAddr; 2] {
    [[100, 64, 0, last].into(), [0xfd7a, 0x115c, 0xa1e0, 0, 0, 0, 0, u16::from(last)].into()]
}

/// A policy file's text.
pub fn policy(acls: &[&str]) -> String {
    let tags = ["server", "client", "second", "stranger", "other"];
    let owners = tags.map(|tag| format!("\"tag:{tag}\": []")).join(", ");
    format!(r#"{{"tagOwners": {{{owners}}}, "acls": [{}]}}"#, acls.join(","))
}

impl Drop for Site {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(agent) = &self.agent
        {
            eprintln!("the agent said:\n{}", agent.log());
        }
        drop(self.agent.take());
        let mut detach = Command::new(&self.bulkhead);
        detach.args(["--instance", &self.instance, "detach"]);
        if let Err(error) = lab::run_within(&mut detach, slower(LIMIT)) {
            eprintln!("detach: {error:#}");
        }
        for base in ["/run/bulkhead", "/var/lib/bulkhead"] {
            // What was never made is fine.
            let _ = std::fs::remove_dir_all(format!("{base}/{}", self.instance));
        }
    }
}
