//! One boot in qemu's software emulation.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

/// How the guest's line begins that tells that the job does.
pub const BEGINS: &str = "vm: job begins";
/// How its line begins that tells of the job's end; an exit status follows.
pub const ENDED: &str = "vm: job ended with ";

/// How long a boot may take until its job begins.
const BOOT_LIMIT: Duration = Duration::from_secs(180);
/// How often a boot is tried that does not reach its job. Emulation of several CPUs breaks one boot in some
/// dozens, when the kernel changes its own code.
const TRIES: usize = 3;

/// What a guest said, and when.
#[derive(Debug, Default)]
pub struct Ran {
    /// All that came out of its console, each line without its end.
    pub console: Vec<String>,
    /// From the start to the job, if that was reached.
    pub boot: Option<Duration>,
    /// From the job's beginning to the end.
    pub job: Duration,
    /// How many boots it took.
    pub boots: usize,
}

/// What is booted.
#[derive(Clone, Copy, Debug)]
pub struct Guest<'a> {
    pub kernel: &'a Path,
    /// Archives that are the first file system, one over the other.
    pub files: [&'a Path; 2],
    pub disk: Option<&'a Path>,
    /// Which of the guests of a job it is, in its kernel's command line.
    pub name: &'a str,
}

/// Boots until the job is reached, and lets that take as long as `limit`. A job that failed is not tried again.
pub fn run(guest: Guest<'_>, limit: Duration, log: &Path) -> Result<Ran> {
    let mut all = Vec::new();
    for file in guest.files {
        all.extend(fs::read(file).with_context(|| format!("read {}", file.display()))?);
    }
    let initrd = log.with_extension("initrd");
    fs::write(&initrd, all)?;
    let mut ran = Ran::default();
    for boots in 1..=TRIES {
        ran = boot(guest, &initrd, limit, &mut fs::File::create(log)?)?;
        ran.boots = boots;
        if ran.boot.is_some() {
            break;
        }
        eprintln!("vm: boot {boots} did not reach its job; see {}", log.display());
        if boots < TRIES {
            fs::rename(log, log.with_extension(format!("boot-{boots}.log")))?;
        }
    }
    fs::remove_file(initrd)?;
    Ok(ran)
}

fn boot(guest: Guest<'_>, initrd: &Path, limit: Duration, log: &mut fs::File) -> Result<Ran> {
    let mut qemu = Command::new("qemu-system-x86_64");
    // Two programs are verified at a time, emulated for seconds without a pause: the third CPU is for the rest.
    qemu.args(["-machine", "q35", "-accel", "tcg,thread=multi,tb-size=512", "-smp", "3"]);
    // x86-64-v2, as RHEL 9 asks for: what newer CPUs have besides takes a sixth longer to emulate.
    qemu.args(["-cpu", "Nehalem"]);
    qemu.args(["-m", "3072", "-nodefaults", "-no-user-config", "-display", "none"]);
    qemu.args(["-serial", "stdio", "-kernel"]).arg(guest.kernel).arg("-initrd").arg(initrd);
    let mut words = "console=ttyS0 quiet loglevel=4 mitigations=off nokaslr tsc=reliable panic=-1".to_owned();
    words.push_str(&format!(" bulkhead.guest={}", guest.name));
    if let Some(disk) = guest.disk {
        // What is written is kept over a reboot of the guest, and forgotten with it.
        let drive = format!("if=none,id=root,format=raw,snapshot=on,cache=unsafe,file={}", disk.display());
        qemu.args(["-drive", &drive, "-device", "virtio-blk-pci,drive=root"]);
        words.push_str(" systemd.show_status=0");
    } else {
        qemu.arg("-no-reboot");
    }
    qemu.args(["-append", &words]);
    qemu.stdin(Stdio::null()).stdout(Stdio::piped());
    let started = Instant::now();
    let mut child = qemu.spawn().context("qemu-system-x86_64 could not be started")?;
    let output = child.stdout.take().context("qemu has no standard output")?;
    let (sender, lines) = channel();
    let reader = std::thread::spawn(move || {
        let mut reader = BufReader::new(output);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|length| length != 0) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            if sender.send(text).is_err() {
                break;
            }
            line.clear();
        }
    });
    let mut ran = Ran::default();
    let mut deadline = started + BOOT_LIMIT;
    loop {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                // As it comes, for who waits.
                writeln!(log, "{line}")?;
                if ran.boot.is_none() && line.starts_with(BEGINS) {
                    ran.boot = Some(started.elapsed());
                    deadline = Instant::now() + limit;
                } else if line.starts_with(ENDED) {
                    // What is left is to power off.
                    deadline = deadline.min(Instant::now() + Duration::from_secs(20));
                }
                ran.console.push(line);
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                ran.console.push(format!("vm: ended from outside after {} s", started.elapsed().as_secs()));
                child.kill()?;
                break;
            }
        }
    }
    child.wait()?;
    drop(lines);
    // Its pipe is closed.
    _ = reader.join();
    ran.job = started.elapsed() - ran.boot.unwrap_or_default();
    Ok(ran)
}
