//! Child processes that are given so long and no longer.

use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

/// What one `ip` command may take; deleting a namespace waits for the kernel.
const IP_DEADLINE: Duration = Duration::from_secs(10);

/// Runs a command to its end, killed when `limit` is over. Its output must be small enough for a pipe.
///
/// # Errors
/// It does not start, or does not end in time. A failing exit status is the caller's to judge.
pub fn run_within(command: &mut Command, limit: Duration) -> anyhow::Result<Output> {
    let deadline = Instant::now() + limit;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("run {command:?}; is it installed?"))?;
    while child.try_wait()?.is_none() {
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            bail!("{command:?} did not end within {} s", limit.as_secs());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(child.wait_with_output()?)
}

/// Runs `ip` with these words and returns what it printed.
///
/// # Errors
/// It fails, with what it said.
pub fn ip(words: &str) -> anyhow::Result<String> {
    let output = run_within(Command::new("ip").args(words.split_whitespace()), super::slower(IP_DEADLINE))
        .context("`ip` is part of iproute2: apt-get install iproute2")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`ip {words}` failed: {}", said.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
