//! Network namespaces, named under /run/netns, entered by thread or by child.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, anyhow};

use super::bounded;

/// What every name of a lab starts with; the maker's process id follows.
pub const PREFIX: &str = "bh-";

/// A network namespace that is removed when dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes `bh-<pid>-<label>`.
    ///
    /// # Errors
    /// It exists, or the system refuses.
    pub fn create(label: &str) -> anyhow::Result<Namespace> {
        let name = format!("{PREFIX}{}-{label}", std::process::id());
        bounded::ip(&format!("netns add {name}"))?;
        Ok(Namespace { name })
    }

    /// Its whole name, as `ip netns` has it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name without prefix and process id.
    pub fn label(&self) -> &str {
        self.name.splitn(3, '-').nth(2).unwrap_or_default()
    }

    /// The file that holds it, for `nsenter --net=…`.
    pub fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.name)
    }

    /// Runs `ip -n <this>` with these words.
    ///
    /// # Errors
    /// It fails, with what it said.
    pub fn ip(&self, words: &str) -> anyhow::Result<String> {
        bounded::ip(&format!("-n {} {words}", self.name))
    }

    /// Runs a closure on a thread of its own inside the namespace. Sockets it makes stay there. Only the network
    /// changes: files, pins and processes are the machine's.
    ///
    /// # Errors
    /// The namespace is gone, or the closure panicked.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> anyhow::Result<T> {
        let file = self.open()?;
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || enter(&file).map(|()| work()));
            let result = thread.join().map_err(|_| anyhow!("a thread in {} panicked", self.name))?;
            result.with_context(|| format!("enter {}", self.name))
        })
    }

    /// Makes a command start inside the namespace, in a process group of its own (the terminal's interrupt is for
    /// us to handle), ended by SIGTERM if the calling thread dies.
    ///
    /// # Errors
    /// The namespace is gone.
    pub fn prepare(&self, command: &mut Command) -> anyhow::Result<()> {
        let file = self.open()?;
        command.process_group(0).stdin(Stdio::null());
        // SAFETY: the closure runs in the child between fork and exec and makes two system calls, no allocation.
        unsafe {
            command.pre_exec(move || {
                enter(&file)?;
                if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) != 0 {
                    return Err(io::Error::last_os_error());
                }
                Ok(())
            });
        }
        Ok(())
    }

    /// A handle on it.
    ///
    /// # Errors
    /// It is gone.
    pub fn open(&self) -> anyhow::Result<File> {
        File::open(self.path()).with_context(|| format!("open namespace {}", self.name))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = bounded::ip(&format!("netns del {}", self.name)) {
            eprintln!("lab: cannot remove namespace {}: {error:#}", self.name);
        }
    }
}

/// Moves the calling thread into the namespace, for good.
pub(super) fn enter(namespace: &File) -> io::Result<()> {
    // SAFETY: a valid descriptor of a network namespace; only this thread's network changes.
    match unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Whether the process that a lab name belongs to still runs; `None` if it is not a lab's name.
pub fn alive(name: &str) -> Option<bool> {
    let pid: u32 = name.strip_prefix(PREFIX)?.split('-').next()?.parse().ok()?;
    Some(fs::exists(format!("/proc/{pid}")).unwrap_or(true))
}

/// Removes what labs of dead processes left: their processes, namespaces and directories. What cannot be
/// removed is said and left.
pub fn sweep() {
    for name in leftovers("/run/netns".into()) {
        eprintln!("lab: removing {name}, left by a process that is gone");
        if let Ok(pids) = bounded::ip(&format!("netns pids {name}")) {
            for pid in pids.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok()) {
                // SAFETY: a signal to a process that lives in a lab's namespace.
                unsafe { libc::kill(pid, libc::SIGKILL) };
            }
        }
        if let Err(error) = bounded::ip(&format!("netns del {name}")) {
            eprintln!("lab: {error:#}");
        }
    }
    for name in leftovers(std::env::temp_dir()) {
        let path = std::env::temp_dir().join(name);
        if let Err(error) = fs::remove_dir_all(&path) {
            eprintln!("lab: cannot remove {path:?}: {error}");
        }
    }
}

fn leftovers(directory: PathBuf) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| alive(name) == Some(false)).collect()
}
