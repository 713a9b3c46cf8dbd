//! A background process, ended when dropped.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::namespace::Namespace;

/// What a process gets between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(5);

/// A child that logs to a file. Keep it on the thread that spawned it: the kernel ends it with that thread.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a command inside a namespace; standard output and error go to `log`.
    ///
    /// # Errors
    /// It does not start.
    pub fn spawn(namespace: &Namespace, command: &mut Command, log: &Path) -> anyhow::Result<Process> {
        let file = File::create(log).with_context(|| format!("create {log:?}"))?;
        command.stdout(file.try_clone()?);
        Process::spawn_piped(namespace, command.stderr(file), log)
    }

    /// The same, with the standard streams as the command has them.
    ///
    /// # Errors
    /// It does not start.
    pub fn spawn_piped(namespace: &Namespace, command: &mut Command, log: &Path) -> anyhow::Result<Process> {
        namespace.prepare(command)?;
        let child = command.spawn().with_context(|| format!("start {command:?}"))?;
        Ok(Process { child, log: log.to_owned() })
    }

    /// The child itself, to take its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// The system does not say.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// What it wrote so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_else(|error| format!("({:?}: {error})", self.log))
    }

    /// Sends a signal.
    pub fn signal(&self, signal: i32) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            // SAFETY: our own child, not yet waited for, so the number is still its.
            unsafe { libc::kill(pid, signal) };
        }
    }

    /// Stops it by SIGSTOP, until SIGCONT: no thread of it runs any more once this returns.
    ///
    /// # Errors
    /// A thread still runs after `GRACE`, or the system does not say.
    pub fn suspend(&self) -> anyhow::Result<()> {
        self.signal(libc::SIGSTOP);
        let deadline = Instant::now() + GRACE;
        while self.runs()? {
            anyhow::ensure!(Instant::now() < deadline, "process {} does not stop", self.pid());
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Whether any thread is in a state other than stopped.
    fn runs(&self) -> io::Result<bool> {
        for thread in std::fs::read_dir(format!("/proc/{}/task", self.pid()))? {
            let stat = std::fs::read_to_string(thread?.path().join("stat"))?;
            // The name before the state may hold anything but ends with the last parenthesis.
            if !stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" T")) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Asks it to end, and kills it if it does not within `limit`.
    ///
    /// # Errors
    /// The system does not say how it ended.
    pub fn stop(&mut self, limit: Duration) -> io::Result<ExitStatus> {
        if let Some(status) = self.child.try_wait()? {
            return Ok(status);
        }
        self.signal(libc::SIGTERM);
        self.wait(limit)
    }

    /// Waits for its end, and kills it if that takes longer than `limit`.
    ///
    /// # Errors
    /// The system does not say how it ended.
    pub fn wait(&mut self, limit: Duration) -> io::Result<ExitStatus> {
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.child.kill()?;
        self.child.wait()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Err(error) = self.stop(GRACE) {
            eprintln!("lab: cannot end process {}: {error}", self.child.id());
        }
    }
}
