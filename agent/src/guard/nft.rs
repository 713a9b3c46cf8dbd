//! Running nft.

use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::Context as _;
use bulkhead_host::spare;

/// Runs a script; what it printed.
pub fn nft(script: &str) -> anyhow::Result<String> {
    let _lent = spare::lend();
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("nft cannot be started")?;
    child.stdin.take().context("nft has no input")?.write_all(script.as_bytes()).context("writing to nft")?;
    let output = child.wait_with_output().context("waiting for nft")?;
    anyhow::ensure!(output.status.success(), "nft: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
