//! Exit codes: 0 done, 1 negative result, 2 usage (clap's own), 3 the system refused.

use std::process::ExitCode;

use bulkhead_api::text::plain;

/// How a command ended without failing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Done.
    Yes,
    /// Negative result: policy invalid, test failed, verdict deny where asked.
    No,
}

/// The caller's mistake (exit 2), where clap could not see it: an unreadable file, a missing flag.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// Prints an error. What it quotes may be a stranger's.
pub fn tell(error: &anyhow::Error) {
    let text = format!("bulkhead: {error:#}");
    text.lines().for_each(|line| eprintln!("{}", plain(line)));
}

/// Turns a command's result into the process's exit code, and prints its error.
pub fn finish(result: anyhow::Result<Answer>) -> ExitCode {
    match result {
        Ok(Answer::Yes) => ExitCode::SUCCESS,
        Ok(Answer::No) => ExitCode::from(1),
        Err(error) => {
            tell(&error);
            ExitCode::from(if error.is::<Usage>() { 2 } else { 3 })
        }
    }
}
