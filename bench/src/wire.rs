//! A wire: frames sent on one end of a veth, received on the other in a namespace of its own.
//!
//! The frames are the kernel's own (`BPF_F_TEST_XDP_LIVE_FRAMES`), so that no system call and no
//! socket is measured. Sender and receiver share one CPU: a batch is put into the veth, then its
//! NAPI runs. A veth takes such frames only if the receiving end has XDP or GRO on, and else drops
//! them; so the receiver's counters are asked.

use std::ffi::CString;
use std::fs;
use std::net::UdpSocket;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bulkhead_testkit::lab::{Namespace, run_within};
use bulkhead_testkit::measure::bpf::{self, Place};
use bulkhead_testkit::measure::{Driver, Hook, Then, Write};

/// The receiving end's name.
pub const RECEIVER: &str = "rx0";

/// The address that test frames are for (`bulkhead_testkit::packets::build::ethernet`).
const RECEIVER_MAC: &str = "02:00:00:00:00:01";

/// The end behind every filter.
const END: &str = "table ip end {
    counter through { }
    chain end {
        type filter hook prerouting priority -200; policy drop;
        counter name through drop
    }
}
";

/// Frames of one call: short enough to be interrupted between.
const CHUNK: u32 = 1 << 16;

/// What a command that sets something up may take.
const SETUP_LIMIT: Duration = Duration::from_secs(60);

/// One wire. The receiver's namespace goes when it is dropped, and the wire with it.
pub struct Wire {
    /// The receiving namespace.
    pub receiver: Namespace,
    /// Index of the sending end.
    sender: u32,
}

impl Wire {
    /// Connects a new namespace `label` to `sender`.
    ///
    /// # Errors
    /// What the system refused.
    pub fn new(sender: &Namespace, label: &str) -> Result<Self> {
        let receiver = Namespace::create(label)?;
        // An interface's name holds 15 bytes, which a label may exceed.
        static WIRES: AtomicU32 = AtomicU32::new(0);
        let near = format!("tx{}", WIRES.fetch_add(1, Ordering::Relaxed));
        sender.ip(&format!("link add {near} type veth peer name {RECEIVER} netns {}", receiver.name()))?;
        receiver.ip(&format!("link set {RECEIVER} address {RECEIVER_MAC}"))?;
        for name in [RECEIVER, "lo"] {
            receiver.ip(&format!("link set {name} up"))?;
        }
        sender.ip(&format!("link set {near} up"))?;
        let sender = sender.run(|| index_of(&near))??;
        Ok(Self { receiver, sender })
    }

    /// Makes the receiving end take frames as packets of the stack (skbs).
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn as_packets(&self) -> Result<()> {
        self.receiver.run(|| set_gro(RECEIVER))?
    }

    /// Ends the way of every packet at IP's prerouting, behind all filters: a chain counts and drops it.
    ///
    /// # Errors
    /// If nft refuses.
    pub fn count_at_the_end(&self) -> Result<()> {
        self.command(&["nft", "-f", "-"], END).map(drop)
    }

    /// Packets that came to that end.
    ///
    /// # Errors
    /// If nft refuses.
    pub fn through(&self) -> Result<u64> {
        let text = self.command(&["nft", "--json", "list", "counter", "ip", "end", "through"], "")?;
        let json: serde_json::Value = serde_json::from_str(&text).context("read `nft --json`")?;
        let objects = json["nftables"].as_array().context("`nft --json` lists nothing")?;
        let packets = objects.iter().find_map(|object| object["counter"]["packets"].as_u64());
        packets.context("`nft --json` tells no packets")
    }

    /// Puts a program on the receiving end.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn attach(&self, place: Place, program: BorrowedFd) -> Result<OwnedFd> {
        self.receiver.run(|| bpf::attach(place, program, index_of(RECEIVER)?))?
    }

    /// A sender of such frames. To be used by a thread in the sending namespace.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn driver(&self, write: Write, frame: &[u8]) -> Result<Driver> {
        Driver::new(Hook::Xdp, Then::Interface(self.sender), write, frame)
    }

    /// Packets that the receiving end has taken.
    ///
    /// # Errors
    /// If `ip` fails.
    pub fn received(&self) -> Result<u64> {
        let text = self.receiver.ip(&format!("-json -statistics link show {RECEIVER}"))?;
        let links: serde_json::Value = serde_json::from_str(&text).context("read `ip -json`")?;
        links[0]["stats64"]["rx"]["packets"].as_u64().context("`ip` does not tell received packets")
    }

    /// Runs a command in the receiving namespace, with this text as its input.
    ///
    /// # Errors
    /// If it fails, with what it said.
    pub fn command(&self, words: &[&str], input: &str) -> Result<String> {
        let path = std::env::temp_dir().join(format!("{}.input", self.receiver.name()));
        fs::write(&path, input)?;
        // By nsenter: `ip netns exec` would hide the BPF file system.
        let mut command = Command::new("sh");
        command.args([
            "-c",
            "net=$1; input=$2; shift 2; exec nsenter --net=\"$net\" -- \"$@\" <\"$input\"",
            "sh",
        ]);
        command.arg(self.receiver.path()).arg(&path).args(words);
        let output = run_within(&mut command, SETUP_LIMIT);
        fs::remove_file(&path)?;
        let output = output?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "`{}` failed: {}", words.join(" "), said.trim());
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// Sends frames; ns of CPU for each, of this thread and of the kernel's that takes over when its
/// CPU has too much to receive. The thread must stay on `cpu`, and be in the sending namespace.
///
/// # Errors
/// If the kernel refuses.
pub fn send(driver: &Driver, frame: &[u8], count: u32, softirq: &Softirq) -> Result<f64> {
    let start = bpf::thread_time() + softirq.time()?;
    let mut left = count;
    while left > 0 {
        let chunk = left.min(CHUNK);
        driver.send(frame, chunk)?;
        left -= chunk;
    }
    softirq.settle()?;
    let time = (bpf::thread_time() + softirq.time()?).saturating_sub(start);
    Ok(time.as_nanos() as f64 / f64::from(count))
}

/// The kernel thread that receives on a CPU when interrupts are not enough.
pub struct Softirq {
    schedstat: String,
}

impl Softirq {
    /// That of a CPU.
    ///
    /// # Errors
    /// If there is none.
    pub fn of(cpu: usize) -> Result<Self> {
        let name = format!("ksoftirqd/{cpu}\n");
        for entry in fs::read_dir("/proc")?.flatten() {
            let path = entry.path();
            if fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm == name) {
                return Ok(Self { schedstat: path.join("schedstat").display().to_string() });
            }
        }
        anyhow::bail!("CPU {cpu} has no ksoftirqd")
    }

    fn time(&self) -> Result<Duration> {
        let text = fs::read_to_string(&self.schedstat).with_context(|| self.schedstat.clone())?;
        let time = text.split(' ').next().and_then(|time| time.parse().ok()).context("its time")?;
        Ok(Duration::from_nanos(time))
    }

    /// Waits until it has nothing left to do.
    fn settle(&self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_millis(50);
        let mut before = self.time()?;
        while Instant::now() < deadline {
            std::thread::yield_now();
            let now = self.time()?;
            if now == before {
                return Ok(());
            }
            before = now;
        }
        Ok(())
    }
}

/// An interface's index, in this thread's namespace.
///
/// # Errors
/// If it is not there.
pub fn index_of(name: &str) -> Result<u32> {
    let name = CString::new(name)?;
    // SAFETY: a NUL-terminated string.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    ensure!(index != 0, "interface {name:?} is not there");
    Ok(index)
}

/// `struct ethtool_value` of linux/ethtool.h.
#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

const SIOCETHTOOL: libc::c_ulong = 0x8946;
const ETHTOOL_SGRO: u32 = 0x2c;

fn set_gro(interface: &str) -> Result<()> {
    let socket = UdpSocket::bind("127.0.0.1:0").context("a socket to ask with")?;
    let mut value = EthtoolValue { command: ETHTOOL_SGRO, data: 1 };
    // SAFETY: all zeros is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(interface.bytes().take(libc::IFNAMSIZ - 1)) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    // SAFETY: an open socket, and an ifreq that points to a value of the command's layout.
    let answer = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
    if answer == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()).context("turn GRO on") }
}
