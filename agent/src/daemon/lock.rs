//! One agent an instance: whoever holds a lock on a file in the state directory and on one beside the socket, so
//! that either of these directories may be moved away meanwhile.

use std::fs::{File, Metadata, TryLockError};
use std::io::{ErrorKind, Read as _, Seek as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;

/// What an agent may take to end, asked nicely. What it leaves at any moment the next one understands.
const SIGTERM_GRACE: Duration = Duration::from_secs(2);

/// What the kernel may take to end it.
const SIGKILL_GRACE: Duration = Duration::from_secs(10);

/// What a dead agent's lock may outlive it.
const STALE_LOCK_WAIT: Duration = Duration::from_secs(5);

/// Between two looks at whether it is free.
const INTERVAL: Duration = Duration::from_millis(20);

/// Whether a directory is the state of an instance, whose agent has run.
pub fn is_of_an_instance(state: &Path) -> bool {
    place(state).exists()
}

fn place(state: &Path) -> PathBuf {
    state.join("agent.lock")
}

/// Takes the lock in one of an instance's directories for an agent. The file keeps the process number of the one that holds it.
///
/// A process that a killed agent was just starting has all that was open in the agent until it
/// runs its own program, so the lock of one that is dead is waited for.
///
/// # Errors
/// If another agent has it.
pub fn hold(state: &Path, instance: &str) -> anyhow::Result<File> {
    let path = place(state);
    let mut file = File::options()
        .create(true)
        .read(true)
        .write(true)
        .truncate(false)
        .open(&path)
        .with_context(|| format!("{}: opening", path.display()))?;
    let deadline = Instant::now() + STALE_LOCK_WAIT;
    while !locked(&file, &path)? {
        let pid = written(&mut file);
        anyhow::ensure!(
            !Path::new("/proc").join(&pid).exists() && Instant::now() < deadline,
            "instance {instance} is run by process {pid} already; stop it first, or choose another --instance"
        );
        std::thread::sleep(INTERVAL);
    }
    let pid = format!("{}\n", std::process::id());
    // Over what is there, which needs no room on a full disk; the lock is what counts.
    let written = file.rewind().and_then(|()| file.write_all(pid.as_bytes()));
    if let Err(error) = written.and_then(|()| file.set_len(pid.len() as u64)) {
        tracing::error!("{}: writing: {error}; commands cannot name this process", path.display());
    }
    Ok(file)
}

/// Tries the lock.
fn locked(file: &File, path: &Path) -> anyhow::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("{}: locking", path.display())),
    }
}

/// The process that the file names.
fn written(file: &mut File) -> String {
    let mut pid = String::new();
    let _ = file.rewind().and_then(|()| file.read_to_string(&mut pid));
    pid.trim().to_owned()
}

/// The agent that runs, if one does and has this directory's lock: answering on its socket, starting or waiting. The lock is not
/// tried, which would be in the way of one that starts.
#[must_use]
pub fn holder(state: &Path) -> Option<u32> {
    let mut file = File::open(place(state)).ok()?;
    let pid = written(&mut file).parse().ok()?;
    let file = file.metadata().ok()?;
    // What is written outlives its process, whose number may be anybody's by now.
    let is_it = |open: Metadata| (open.dev(), open.ino()) == (file.dev(), file.ino());
    let mut open = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
    open.any(|fd| std::fs::metadata(fd.path()).is_ok_and(is_it)).then_some(pid)
}

/// Ends the agent that runs without answering, and keeps others from starting as long as what is
/// returned is held. Nothing is returned where no agent has ever run.
///
/// # Errors
/// If it does not end.
pub fn take(state: &Path) -> anyhow::Result<Option<File>> {
    let path = place(state);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("{}: opening", path.display())),
    };
    let started = Instant::now();
    while !locked(&file, &path)? {
        let pid = holder(state);
        if let Some(pid) = pid {
            end(pid, if started.elapsed() < SIGTERM_GRACE { libc::SIGTERM } else { libc::SIGKILL });
        }
        anyhow::ensure!(
            started.elapsed() < SIGKILL_GRACE,
            "an agent ({}) neither answers nor ends; end it, then try again",
            pid.map_or("unknown process".to_owned(), |pid| format!("process {pid}"))
        );
        std::thread::sleep(INTERVAL);
    }
    Ok(Some(file))
}

fn end(pid: u32, signal: libc::c_int) {
    // SAFETY: no memory is passed. The process has the agent's lock file open.
    unsafe { libc::kill(pid.cast_signed(), signal) };
}

#[cfg(test)]
mod tests {
    use super::{hold, holder, take};

    #[test]
    fn one_agent_holds_it_and_is_known() {
        let state = std::env::temp_dir().join(format!("bulkhead-lock-{}", std::process::id()));
        std::fs::create_dir_all(&state).unwrap();
        assert!(holder(&state).is_none() && take(&state).unwrap().is_none(), "nobody has ever run");
        let held = hold(&state, "x").unwrap();
        assert_eq!(holder(&state), Some(std::process::id()));
        let refused = format!("{:#}", hold(&state, "x").unwrap_err());
        assert!(refused.contains(&format!("process {} already", std::process::id())), "{refused}");
        // It is locked before it is written: until then the file names an earlier agent.
        std::fs::write(state.join("agent.lock"), "1\n").unwrap();
        assert_eq!(holder(&state), None, "process 1 has no such file open");
        drop(held);
        assert_eq!(holder(&state), None);
        let taken = take(&state).unwrap();
        assert!(taken.is_some() && hold(&state, "x").is_err(), "no agent starts meanwhile");
        std::fs::remove_dir_all(state).unwrap();
    }
}
