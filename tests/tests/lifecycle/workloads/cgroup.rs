//! Cgroups of a test, below one of its own, and processes in them.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use bulkhead_testkit::lab::Namespace;

/// A part of the tree of cgroups, removed when dropped.
pub struct Cgroups {
    root: PathBuf,
    below: PathBuf,
}

impl Cgroups {
    pub fn new(label: &str) -> Self {
        let mounts = fs::read_to_string("/proc/mounts").unwrap();
        let mount = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"));
        let root = PathBuf::from(mount.expect("cgroup2 is mounted").split(' ').nth(1).unwrap());
        let below = root.join(format!("bulkhead-test-{}-{label}.slice", std::process::id()));
        fs::create_dir_all(&below).unwrap();
        Self { root, below }
    }

    /// The directory of one, which is made if it is not there.
    pub fn at(&self, path: &str) -> PathBuf {
        let directory = self.below.join(path);
        fs::create_dir_all(&directory).unwrap();
        directory
    }

    /// Removes one, whose processes are gone.
    pub fn remove(&self, path: &str) {
        remove(&self.below.join(path));
    }

    /// The path of one, as the agent tells of it.
    pub fn path(&self, path: &str) -> String {
        format!("/{}", self.below.join(path).strip_prefix(&self.root).unwrap().display())
    }

    pub fn id(&self, path: &str) -> u64 {
        fs::metadata(self.below.join(path)).unwrap().ino()
    }
}

/// What has just been left may need a moment.
fn remove(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
    for _ in 0..100 {
        match fs::remove_dir(directory) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            _ => return,
        }
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        remove(&self.below);
    }
}

/// A process in a cgroup, which does with sockets what it is told.
pub struct Actor {
    told: ChildStdin,
    answers: BufReader<ChildStdout>,
    child: Child,
}

impl Actor {
    /// In a namespace and a cgroup, by a user or as root.
    pub fn new(namespace: &Namespace, cgroup: &Path) -> Self {
        Self::by(Command::new(env!("CARGO_BIN_EXE_bulkhead-test-actor")), namespace, cgroup)
    }

    /// As nobody.
    pub fn nobody(namespace: &Namespace, cgroup: &Path) -> Self {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        command.arg(env!("CARGO_BIN_EXE_bulkhead-test-actor"));
        Self::by(command, namespace, cgroup)
    }

    fn by(mut command: Command, namespace: &Namespace, cgroup: &Path) -> Self {
        let procs: File = OpenOptions::new().write(true).open(cgroup.join("cgroup.procs")).unwrap();
        namespace.prepare(&mut command).unwrap();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        // SAFETY: one system call between fork and exec: 0 is whoever writes it.
        unsafe {
            command.pre_exec(move || {
                if libc::write(procs.as_raw_fd(), c"0".as_ptr().cast(), 1) == 1 {
                    return Ok(());
                }
                Err(std::io::Error::last_os_error())
            });
        }
        let mut child = command.spawn().unwrap();
        let (told, answers) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { told, answers, child }
    }

    /// Tells it to do something; what came of it.
    pub fn ask(&mut self, line: &str) -> String {
        self.begin(line);
        self.end()
    }

    /// Tells it to do something.
    pub fn begin(&mut self, line: &str) {
        writeln!(self.told, "{line}").unwrap();
    }

    /// What came of it.
    pub fn end(&mut self) -> String {
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        answer.trim().to_owned()
    }

    /// Ends it as nothing else can.
    pub fn kill(self) {
        drop(self);
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
