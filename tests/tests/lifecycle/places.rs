//! Where the agent keeps its socket, state and pins: closed to others, and refused where others could
//! put something else in their place.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use bulkhead_testkit::lab;

use crate::site::{Over, Site, WEB};

/// A user who is not root.
const OTHER: u32 = 4321;

/// The directories that an instance has for itself: socket, state and pins.
fn own(site: &Site) -> [PathBuf; 3] {
    ["/run/bulkhead", "/var/lib/bulkhead", "/sys/fs/bpf/bulkhead"]
        .map(|base| Path::new(base).join(site.instance()))
}

fn run(site: &Site) -> Output {
    site.bulkhead(&["run", "--config", &site.path("agent.toml")])
}

fn refusal(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Everything below a path that others than root may do anything with.
fn open_to_others(path: &Path, found: &mut Vec<String>) {
    let data = fs::symlink_metadata(path).unwrap();
    if !data.is_symlink() && (data.mode() & 0o077 != 0 || data.uid() != 0) {
        found.push(format!("{} {:o}", path.display(), data.mode()));
    }
    if data.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            open_to_others(&entry.unwrap().path(), found);
        }
    }
}

#[test]
fn what_an_agent_makes_is_closed_to_others_whatever_the_umask() {
    let mut site = Site::new("umask", Over::Ethernet, &[WEB]);
    // Left by an earlier agent.
    for directory in own(&site) {
        fs::create_dir_all(&directory).unwrap();
        fs::set_permissions(&directory, Permissions::from_mode(0o775)).unwrap();
    }
    site.start();
    site.done(&["apply"]);
    let mut found = Vec::new();
    own(&site).iter().for_each(|directory| open_to_others(directory, &mut found));
    assert!(found.is_empty(), "{found:?}");
    let socket = fs::metadata(own(&site)[0].join("agent.sock")).unwrap();
    assert_eq!(socket.mode() & 0o7777, 0o600);
}

#[test]
fn a_directory_that_another_user_made_is_refused_by_name() {
    let site = Site::new("foreign", Over::Ethernet, &[WEB]);
    for directory in own(&site) {
        fs::create_dir_all(&directory).unwrap();
        chown(&directory, Some(OTHER), None).unwrap();
        let error = refusal(&run(&site));
        assert!(error.contains(&format!("{} belongs to user {OTHER}", directory.display())), "{error}");
        fs::remove_dir(&directory).unwrap();
    }
    assert!(own(&site).iter().all(|directory| !directory.exists()), "nothing is made");
    // Closed by the agent, which then finds what was put there meanwhile.
    let state = &own(&site)[1];
    fs::create_dir(state).unwrap();
    fs::set_permissions(state, Permissions::from_mode(0o777)).unwrap();
    fs::write(state.join("quarantine.json"), "[]").unwrap();
    chown(state.join("quarantine.json"), Some(OTHER), None).unwrap();
    let error = refusal(&run(&site));
    assert!(error.contains("quarantine.json belongs to user"), "{error}");
    assert!(!site.layout().exists(), "nothing is pinned");
}

#[test]
fn names_of_the_default_instances_files_are_no_instances() {
    let site = Site::new("names", Over::Ethernet, &[WEB]);
    for name in ["generation-7", "generation-x", "seen-policy"] {
        let mut command = Command::new(lab::bulkhead().unwrap());
        command.args(["--instance", name, "run", "--config", &site.path("agent.toml")]);
        site.namespace("server").prepare(&mut command).unwrap();
        let output = lab::run_within(&mut command, Duration::from_secs(20)).unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(error.contains("choose another --instance"), "{error}");
        assert!(!Path::new("/var/lib/bulkhead").join(name).exists());
    }
}

/// Runs the agent in a container of its own processes and mounts, where `prepare` is done first. Its
/// network is the server's.
fn in_container(site: &Site, prepare: &str, flags: &str) -> Output {
    let agent = format!(
        "{prepare} exec timeout -s KILL 15 {} --instance {} run --config {} {flags}",
        lab::bulkhead().unwrap().display(),
        site.instance(),
        site.path("agent.toml")
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-ec", &agent]);
    site.namespace("server").prepare(&mut command).unwrap();
    lab::run_within(&mut command, Duration::from_secs(40)).unwrap()
}

#[test]
fn in_a_container_the_bpf_file_system_must_be_said_to_be_the_hosts() {
    let site = Site::new("container", Over::Ethernet, &[WEB]);
    assert!(site.connects("client", 8081), "nothing filters yet");
    let own = "mount -t bpf bpf /sys/fs/bpf;";
    // The host's, inherited; one of its own; none, which is not mounted there.
    for prepare in ["", own, "mount -t tmpfs none /sys/fs/bpf;"] {
        let error = refusal(&in_container(&site, prepare, ""));
        assert!(error.contains("container") && error.contains("--bpffs-is-the-hosts"), "{error}");
        assert!(site.connects("client", 8081) && !site.layout().exists(), "{prepare}");
    }
    // In the host's process namespace it is asked.
    let mut command = Command::new("unshare");
    let agent = format!(
        "{own} exec {} --instance {} run --config {}",
        lab::bulkhead().unwrap().display(),
        site.instance(),
        site.path("agent.toml")
    );
    command.args(["--mount", "sh", "-ec", &agent]);
    site.namespace("server").prepare(&mut command).unwrap();
    let error = refusal(&lab::run_within(&mut command, Duration::from_secs(20)).unwrap());
    assert!(error.contains("private mount namespace"), "{error}");

    // The operator's word: it is killed with its container, and what it enforced still is.
    let killed = in_container(&site, "", "--bpffs-is-the-hosts");
    assert!(!killed.status.success());
    assert!(site.link("eth0", "tcx-egress").exists(), "{killed:?}");
    assert!(site.connects("client", 8080) && site.is_denied("client", 8081));
}
