//! Whoever can open the socket and means harm: no crash, no change, no memory, nobody kept out, no event late.

mod busy;
mod fuzzed;
mod huge;
mod slow;

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bulkhead_testkit::lab::slower;
use serde_json::Value;

use crate::site::Site;

fn socket(site: &Site) -> PathBuf {
    PathBuf::from(format!("/run/bulkhead/{}/agent.sock", site.instance()))
}

/// A connection that does not wait for ever.
fn connect(site: &Site) -> UnixStream {
    let stream = UnixStream::connect(socket(site)).unwrap();
    stream.set_read_timeout(Some(slower(Duration::from_secs(60)))).unwrap();
    stream.set_write_timeout(Some(slower(Duration::from_secs(60)))).unwrap();
    stream
}

/// A connection on which this has been sent, as far as it was taken.
fn send(site: &Site, bytes: &[u8]) -> UnixStream {
    let mut stream = connect(site);
    // It may be cut off in the middle.
    let _ = stream.write_all(bytes);
    stream
}

/// The agent as it was before it was harmed.
struct Before {
    pid: u64,
    memory: u64,
    files: usize,
    enforced: Value,
}

/// KiB of memory of its own that a process has.
fn memory(pid: u64) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// What is enforced, of a status.
fn enforced(status: &Value) -> Value {
    let of = |field: &str| status[field].clone();
    let agent = |field: &str| status["agent"][field].clone();
    [of("state"), of("links"), of("generations"), of("quarantined"), agent("policy"), agent("staged")].into()
}

impl Before {
    fn of(site: &Site) -> Self {
        let status = site.status();
        let pid = status["agent"]["pid"].as_u64().unwrap();
        Self { pid, memory: memory(pid), files: site.open_files(), enforced: enforced(&status) }
    }

    /// Nothing has become of it: the same agent enforces the same and answers at once, with no more memory than
    /// so many KiB.
    #[track_caller]
    fn is_still_so(&self, site: &Site, more: u64) {
        let began = Instant::now();
        let status = site.status();
        assert!(began.elapsed() < slower(Duration::from_secs(5)), "status took {:?}", began.elapsed());
        assert_eq!(status["agent"]["pid"], self.pid, "{}", site.log());
        assert_eq!(enforced(&status), self.enforced);
        assert!(site.connects("client", 8080) && site.is_denied("stranger", 8080));
        let now = memory(self.pid);
        assert!(now <= self.memory + more, "{now} KiB, {} before", self.memory);
        // Connections end a moment after whoever made them.
        let deadline = Instant::now() + slower(Duration::from_secs(5));
        while site.open_files() > self.files + 8 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(100));
        }
        assert!(site.open_files() <= self.files + 8, "{} files, {} before", site.open_files(), self.files);
    }
}
