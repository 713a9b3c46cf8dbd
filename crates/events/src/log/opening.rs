//! Opens the log, and sets one aside that is damaged.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::time::{Duration, Instant};

use bulkhead_tlog::{Error, Log, Opening, Options, check_name};

/// What the log is called before the host's name.
const PREFIX: &str = "bulkhead/";

/// How long another writer is waited for, and between two looks.
const PATIENCE: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(5);

/// The log; and why the one before was set aside and where it is, if it was.
///
/// # Errors
/// If it cannot be opened now. It is said.
pub(super) fn open(directory: &Path, host: &str) -> Result<(Log, Option<String>), ()> {
    match open_alone(directory, host) {
        Ok((log, opening)) => {
            if opening.torn != 0 {
                tracing::warn!(bytes = opening.torn, "event log: a record that was just written is lost");
            }
            Ok((log, None))
        }
        Err(error) if is_passing(&error) => {
            tracing::error!("event log: {error}");
            Err(())
        }
        Err(error) => set_aside(directory, host, &error),
    }
}

/// Waits for a writer that is just ending.
fn open_alone(directory: &Path, host: &str) -> Result<(Log, Opening), Error> {
    let until = Instant::now() + PATIENCE;
    loop {
        match Log::open(directory, &options(host)) {
            Err(Error::InUse { .. }) if Instant::now() < until => std::thread::sleep(LOOK),
            opened => return opened,
        }
    }
}

/// Whether it may open later as it is. A file of it that is missing will not come back.
fn is_passing(error: &Error) -> bool {
    match error {
        Error::Io { source, .. } => !matches!(source.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory),
        Error::InUse { .. } => true,
        _ => false,
    }
}

/// A damaged log stays as evidence, under another name.
fn set_aside(directory: &Path, host: &str, error: &Error) -> Result<(Log, Option<String>), ()> {
    let aside = bulkhead_tlog::aside(directory, super::now().unix());
    let detail = format!("{error}; it is kept as {}", aside.display());
    let renamed = fs::rename(directory, &aside).map_err(|error| tracing::error!("event log: {error}"));
    let opened = renamed.and_then(|()| {
        Log::open(directory, &options(host)).map_err(|error| tracing::error!("event log: {error}"))
    });
    opened.map(|(log, _)| (log, Some(detail)))
}

fn options(host: &str) -> Options {
    let origin = format!("{PREFIX}{host}");
    // A host may be called what no key may be.
    Options::new(if check_name(&origin).is_ok() { origin } else { format!("{PREFIX}host") })
}
