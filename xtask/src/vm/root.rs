//! The disk of a guest with a whole system: a Debian with systemd, made once.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use super::archive::Archive;
use super::image::{fresh, place};
use super::output;

/// What is installed besides the essential packages.
const PACKAGES: &str = "apt,dbus,ifupdown,iproute2,iputils-ping,kmod,nftables,procps,python3-minimal,systemd-sysv,udev,wireguard-tools";

/// Units that only take time.
const MASKED: [&str; 10] = [
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty@tty1.service",
    "serial-getty@ttyS0.service",
    "sys-kernel-debug.mount",
    "systemd-timesyncd.service",
];

/// Files that an installer writes.
const FILES: [(&str, &str); 4] = [
    ("etc/fstab", "/dev/vda / ext4 defaults 0 0\n"),
    ("etc/hostname", "vm\n"),
    ("etc/machine-id", "0123456789abcdef0123456789abcdef\n"),
    ("etc/network/interfaces", "auto lo\niface lo inet loopback\n"),
];

/// A release of Debian, by its name in the archive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum System {
    /// Debian 12.
    #[default]
    Bookworm,
    /// Debian 13.
    Trixie,
}

impl System {
    /// Its name in the archive.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
        }
    }
}

/// Makes the disk below `directory`, or finds it there.
pub fn prepare(archive: &Archive, system: System, directory: &Path) -> Result<PathBuf> {
    let name = system.name();
    let (disk, stamp) = (directory.join(format!("{name}.img")), directory.join(format!("{name}.recipe")));
    let recipe = format!("{PACKAGES}\n{MASKED:?}\n{FILES:?}\n");
    if disk.exists() && fs::read_to_string(&stamp).is_ok_and(|made| made == recipe) {
        return Ok(disk);
    }
    eprintln!("vm: making the disk of {name}");
    let root = fresh(&directory.join(name))?;
    let mut mmdebstrap = Command::new("mmdebstrap");
    mmdebstrap.args(["--quiet", "--variant=minbase", "--include", PACKAGES]);
    // Of documentation only Bulkhead's is wanted.
    mmdebstrap.args(["--dpkgopt=path-exclude=/usr/share/locale/*", name]).arg(&root).arg("-");
    let mut child = mmdebstrap.stdin(Stdio::piped()).spawn().context("mmdebstrap could not be started")?;
    let mut input = child.stdin.take().context("mmdebstrap has no input")?;
    input.write_all(archive.sources_of(name)?.as_bytes())?;
    drop(input);
    let status = child.wait()?;
    ensure!(status.success(), "mmdebstrap failed ({status}); its messages are above");
    for (file, text) in FILES {
        place(Path::new(file), text.as_bytes(), &root)?;
    }
    for unit in MASKED {
        std::os::unix::fs::symlink("/dev/null", root.join("etc/systemd/system").join(unit))
            .with_context(|| format!("mask {unit}"))?;
    }
    let partial = directory.join(format!("{name}.partial"));
    fs::File::create(&partial)?.set_len(900 << 20)?;
    let mut mke2fs = Command::new("mke2fs");
    mke2fs.args(["-q", "-t", "ext4", "-O", "^has_journal", "-E", "lazy_itable_init=1", "-m", "0", "-d"]);
    output(mke2fs.arg(&root).arg(&partial))?;
    fs::rename(partial, &disk)?;
    fs::remove_dir_all(root)?;
    fs::write(stamp, recipe)?;
    Ok(disk)
}
