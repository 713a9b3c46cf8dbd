//! One agent an instance.

use std::fs::{File, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

/// What a dead agent's lock may outlive it.
const AFTERLIFE: Duration = Duration::from_secs(5);

/// Takes the instance's lock. The file keeps the process number of the one that holds it.
///
/// A process that a killed agent was just starting has all that was open in the agent until it
/// runs its own program, so the lock of one that is dead is waited for.
///
/// # Errors
/// If another agent holds it, or the disk refuses.
pub fn take(state: &Path, instance: &str) -> anyhow::Result<File> {
    let path = state.join("agent.lock");
    let mut file = File::options()
        .create(true)
        .read(true)
        .write(true)
        .truncate(false)
        .open(&path)
        .with_context(|| format!("{}: opening", path.display()))?;
    let deadline = Instant::now() + AFTERLIFE;
    while let Err(error) = file.try_lock() {
        if let TryLockError::Error(error) = error {
            return Err(error).with_context(|| format!("{}: locking", path.display()));
        }
        let holder = holder(&mut file).with_context(|| format!("{}: reading", path.display()))?;
        if Path::new("/proc").join(&holder).exists() || Instant::now() > deadline {
            bail!(
                "instance {instance} is run by process {holder} already; stop it first, or choose another --instance"
            );
        }
        sleep(Duration::from_millis(10));
    }
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .with_context(|| format!("{}: writing", path.display()))?;
    Ok(file)
}

fn holder(file: &mut File) -> io::Result<String> {
    let mut pid = String::new();
    file.rewind()?;
    file.read_to_string(&mut pid)?;
    Ok(pid.trim().to_owned())
}
