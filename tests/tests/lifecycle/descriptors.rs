//! An agent that has used up its descriptors: what is lost comes back as it does otherwise, and commands are
//! answered.

use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use bulkhead_testkit::lab;
use bulkhead_testkit::measure::bpf;

use crate::guard::nft;
use crate::site::{Over, Site, WEB};

/// Within which everything is to be restored.
const RESTORED: Duration = Duration::from_secs(1);

/// Leaves a process no number that a new descriptor could have; how many it may use.
fn use_up(pid: u32) -> u64 {
    let used = || -> Vec<u64> {
        let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
        open.map(|file| file.file_name().to_str().unwrap().parse().unwrap()).collect()
    };
    // Some are used for a moment only.
    let always: Vec<u64> = {
        let before = used();
        std::thread::sleep(Duration::from_millis(50));
        used().into_iter().filter(|number| before.contains(number)).collect()
    };
    let free = (0..).find(|number| !always.contains(number)).unwrap();
    let limit = libc::rlimit { rlim_cur: free, rlim_max: free };
    // SAFETY: one limit that is there; nothing is written.
    let done = unsafe {
        libc::prlimit(pid as libc::pid_t, libc::RLIMIT_NOFILE, &raw const limit, std::ptr::null_mut())
    };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
    free
}

/// Waits until something holds.
#[track_caller]
fn within(what: &str, site: &Site, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < lab::slower(RESTORED), "{what}; the agent said:\n{}", site.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    println!("{what}: {:?}", start.elapsed());
}

#[test]
fn without_descriptors_what_others_take_away_comes_back() {
    let mut site = Site::new("nofds", Over::Ethernet, &[WEB]);
    let pid = site.launch();
    site.wait_for("the agent answers", |status| status["agent"]["pid"] == pid);
    assert!(site.connects("client", 8080) && site.is_denied("stranger", 8080));
    let limit = use_up(pid);
    assert!(limit > 16, "{limit}");
    let status = site.status();
    assert_eq!(status["agent"]["pid"], pid, "the agent answers: {status}");

    let table = format!("inet bulkhead-{}", site.instance());
    let is_guarded = |site: &Site| {
        nft(site, "list tables").contains(&table)
            && nft(site, &format!("list chain {table} input")).contains("goto")
            && nft(site, &format!("list set {table} attached")).contains("elements")
    };
    for verb in ["flush", "delete"] {
        nft(&site, &format!("{verb} table {table}"));
        within(&format!("the guard is back after {verb}"), &site, || is_guarded(&site));
    }
    let id = |hook: &str| std::fs::metadata(site.link("eth0", hook)).map(|pin| inode(&pin)).ok();
    for hook in ["xdp-native", "tcx-egress"] {
        let before = id(hook);
        bpf::detach(&site.link("eth0", hook)).unwrap();
        // Another link has the pin's name.
        within(&format!("{hook} is attached again"), &site, || id(hook) != before);
        assert!(site.connects("client", 8080) && site.is_denied("stranger", 8080), "{hook}");
        std::fs::remove_file(site.link("eth0", hook)).unwrap();
        within(&format!("{hook} is pinned again"), &site, || id(hook).is_some());
    }
    // What was the reserve's is nobody else's, however many ask.
    let socket = format!("/run/bulkhead/{}/agent.sock", site.instance());
    let asking: Vec<_> = (0..100).filter_map(|_| UnixStream::connect(&socket).ok()).collect();
    assert!(asking.len() > 20, "{}", asking.len());
    let before = id("xdp-native");
    bpf::detach(&site.link("eth0", "xdp-native")).unwrap();
    within("it is attached again while many ask", &site, || id("xdp-native") != before);
    nft(&site, &format!("delete table {table}"));
    within("the guard is back while many ask", &site, || is_guarded(&site));
    drop(asking);
    site.replace_interface();
    within("an interface that comes is enforced", &site, || {
        id("xdp-native").is_some() && nft(&site, &format!("list set {table} attached")).contains("elements")
    });
    site.namespace("client").ip("neigh flush all").unwrap();
    assert!(site.connects("client", 8080) && site.is_denied("stranger", 8080));
    let status = site.wait_for("enforced", |status| status["state"] == "enforced");
    assert_eq!(status["agent"]["pid"], pid, "{status}");
}

fn inode(pin: &std::fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(pin)
}
