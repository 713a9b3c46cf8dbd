//! Programs that the configuration names: they are given nothing of the caller's environment, and end when they have to.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};

/// A program that reads nothing, knows where the system's programs are and nothing else of the environment, and has a
/// process group of its own.
#[must_use]
pub fn program(name: impl AsRef<OsStr>, arguments: &[String]) -> Command {
    let mut command = Command::new(name);
    command.args(arguments).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command.stdin(Stdio::null()).process_group(0);
    command
}

/// Kills such a program with whatever it has started in its process group, and waits for it.
///
/// # Errors
/// If its end cannot be waited for.
pub fn kill(child: &mut Child) -> std::io::Result<()> {
    // It may just have ended.
    let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
    child.wait().map(drop)
}
