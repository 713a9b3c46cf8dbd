//! OpenSSH's agent.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long it may take to answer.
const LIMIT: Duration = Duration::from_secs(10);

/// OpenSSH's agent at a socket, until it is let go.
#[derive(Debug)]
pub struct SshAgent(Child);

impl SshAgent {
    /// Starts it, and waits until it answers.
    ///
    /// # Panics
    /// If it is not installed (openssh-client), or does not answer.
    #[must_use]
    pub fn start(socket: &Path) -> Self {
        let child = Command::new("ssh-agent").arg("-D").arg("-a").arg(socket).stdout(Stdio::null()).spawn();
        let agent = Self(child.expect("ssh-agent (openssh-client)"));
        let deadline = Instant::now() + LIMIT;
        while UnixStream::connect(socket).is_err() {
            assert!(Instant::now() < deadline, "ssh-agent does not answer at {}", socket.display());
            std::thread::sleep(Duration::from_millis(10));
        }
        agent
    }
}

impl Drop for SshAgent {
    fn drop(&mut self) {
        // One that has ended by itself is what was wanted.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
