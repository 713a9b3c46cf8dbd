//! A full disk keeps nobody from what makes the host safer or restores access; what it does keep from fails
//! with a clear error and changes nothing.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use bulkhead_testkit::lab;

use crate::site::{OTHER, Over, Site, WEB};

/// The state directory of a site's agent, on a disk of its own.
struct Disk(PathBuf);

impl Disk {
    fn new(site: &Site) -> Self {
        let disk = Self(PathBuf::from("/var/lib/bulkhead").join(site.instance()));
        std::fs::create_dir_all(&disk.0).unwrap();
        let place = disk.0.display().to_string();
        run("mount", &["-t", "tmpfs", "-o", "size=1024k,mode=700", "tmpfs", &place]);
        disk
    }

    /// Takes all the room that there is.
    fn fill(&self) {
        let junk = self.0.join("junk");
        let error = std::fs::write(junk, vec![0; 2_000_000]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    }

    fn free(&self) {
        std::fs::remove_file(self.0.join("junk")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // The agent may still have a file open there.
        run("umount", &["-l", &self.0.display().to_string()]);
    }
}

/// Runs a program that must succeed.
pub fn run(program: &str, arguments: &[&str]) {
    let output = lab::run_within(Command::new(program).args(arguments), Duration::from_secs(10)).unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
}

fn is_unsaved(site: &Site) -> bool {
    site.status()["problems"].to_string().contains("takes nothing")
}

#[test]
fn what_is_not_confirmed_goes_back_on_a_full_disk() {
    let mut site = Site::new("fullconf", Over::Ethernet, &[WEB]);
    let disk = Disk::new(&site);
    site.start();
    let mut connection = site.connect("client", 8080);
    site.write_policy(&[OTHER]);
    site.done(&["apply", "--confirm", "6s"]);
    connection.is_cut();
    disk.fill();
    assert!(site.status()["agent"]["confirm_within"].is_u64(), "it still waits");
    site.wait_for("back", |status| status["agent"]["confirm_within"].is_null());
    assert!(site.connects("client", 8080) && site.is_denied("client", 8081), "{}", site.log());
    assert!(is_unsaved(&site), "{}", site.log());
    // The file that locked us out is still the one that `run` names.
    site.kill();
    site.start();
    assert!(site.connects("client", 8080) && site.is_denied("client", 8081), "{}", site.log());
    disk.free();
    site.wait_for("saved", |status| !status["problems"].to_string().contains("takes nothing"));
    site.kill();
    site.start();
    assert!(site.connects("client", 8080) && site.is_denied("client", 8081));

    // By command, long before the time is over: nor does a restart take it up again.
    site.done(&["apply", "--confirm", "60s"]);
    disk.fill();
    let output = site.bulkhead(&["confirm"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(3) && said.contains("nothing is confirmed"), "{output:?}");
    assert!(site.status()["agent"]["confirm_within"].is_u64(), "it still waits");
    let output = site.bulkhead(&["rollback"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("not on disk"), "{output:?}");
    assert!(site.connects("client", 8080));
    site.kill();
    site.start();
    assert!(site.connects("client", 8080) && site.is_denied("client", 8081), "{}", site.log());
}

#[test]
fn a_full_disk_keeps_nobody_from_cutting_off_restoring_and_starting() {
    let mut site = Site::new("fulldisk", Over::Ethernet, &[WEB]);
    let disk = Disk::new(&site);
    disk.fill();
    // A first start protects the host.
    site.start();
    assert!(site.connects("client", 8080) && site.is_denied("client", 8081));
    assert!(is_unsaved(&site), "{}", site.log());
    // A change of rules is refused, and changes nothing.
    let before = site.status();
    site.write_policy(&[OTHER]);
    for command in [&["apply"][..], &["apply", "--confirm", "5s"], &["stage", &site.path("policy.hujson")]] {
        let output = site.bulkhead(command);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(3) && said.contains("No space left"), "{command:?}: {output:?}");
    }
    let after = site.status();
    assert_eq!((&after["links"], &after["state"]), (&before["links"], &before["state"]));
    assert!(site.connects("client", 8080));
    // Whoever is cut off is, and whoever is released is.
    let mut connection = site.connect("client", 8080);
    site.done(&["quarantine", "client"]);
    connection.is_cut();
    let output = site.bulkhead(&["release", "client"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).contains("not on disk"));
    connection.is_restored();
    site.done(&["quarantine", "client", "--for", "2s"]);
    connection.is_cut();
    site.wait_for("released", |status| status["quarantined"].as_array().unwrap().is_empty());
    connection.is_restored();
    // An interface that comes back is enforced.
    site.replace_interface();
    site.namespace("client").ip("neigh flush all").unwrap();
    site.wait_for("attached again", |status| {
        status["links"].as_array().unwrap().iter().all(|link| link["index"] != 0)
    });
    site.done(&["attach", "eth0", "--wait=10"]);
    assert!(site.connects("client", 8080) && site.is_denied("stranger", 8080));
    // What is in force is on disk as soon as there is room.
    disk.free();
    site.wait_for("saved", |status| !status["problems"].to_string().contains("takes nothing"));
    site.kill();
    site.write_policy(&[WEB]);
    site.start();
    assert!(site.connects("client", 8080));
    disk.fill();
    site.done(&["detach"]);
    assert_eq!(site.status()["state"], "detached");
    assert!(site.connects("stranger", 8080));
}

#[test]
fn whoever_needs_new_tables_to_be_cut_off_gets_them_on_a_full_disk() {
    let mut site = Site::new("fullroom", Over::Ethernet, &[WEB]);
    let disk = Disk::new(&site);
    site.write("agent.toml", &(site.configuration("server", "eth0") + "[limits]\nspare_addresses = 2\n"));
    site.start();
    disk.fill();
    let generation = |site: &Site| site.status()["agent"]["generation"].clone();
    let first = generation(&site);
    let mut cut = 0;
    while generation(&site) == first {
        cut += 1;
        assert!(cut < 60, "there is always room");
        site.done(&["quarantine", &format!("198.51.{cut}.7")]);
    }
    assert_eq!(site.status()["quarantined"].as_array().unwrap().len(), cut);
    assert!(site.connects("client", 8080) && site.is_denied("stranger", 8080));
    // A restart finds the files that are enforced.
    site.kill();
    site.start();
    assert!(site.connects("client", 8080) && site.is_denied("stranger", 8080), "{}", site.log());
}
