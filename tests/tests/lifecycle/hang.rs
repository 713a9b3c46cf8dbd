//! A disk that hangs holds up nothing but what is to be on it: packets are judged, what is meddled with is
//! restored, `status` answers, and who is to be cut off is.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use bulkhead_testkit::lab::{self, slower};

use crate::disk::run;
use crate::site::account::number;
use crate::site::{Over, Site, WEB};

/// The state directory of a site's agent, on a file system that can be frozen.
pub struct Disk {
    place: PathBuf,
    image: PathBuf,
    is_frozen: bool,
}

impl Disk {
    pub fn new(site: &Site) -> Self {
        let place = PathBuf::from("/var/lib/bulkhead").join(site.instance());
        let image = std::env::temp_dir().join(format!("bulkhead-disk-{}", site.instance()));
        std::fs::create_dir_all(&place).unwrap();
        std::fs::File::create(&image).unwrap().set_len(64 << 20).unwrap();
        let disk = Self { place, image, is_frozen: false };
        let (image, place) = (disk.image.display().to_string(), disk.place.display().to_string());
        run("mke2fs", &["-q", "-t", "ext4", &image]);
        run("mount", &["-o", "loop", &image, &place]);
        run("chmod", &["700", &place]);
        disk
    }

    pub fn freeze(&mut self) {
        run("fsfreeze", &["--freeze", &self.place.display().to_string()]);
        self.is_frozen = true;
    }

    pub fn thaw(&mut self) {
        if std::mem::take(&mut self.is_frozen) {
            run("fsfreeze", &["--unfreeze", &self.place.display().to_string()]);
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.thaw();
        // The agent may still have a file open there; the loop device goes with the last one.
        run("umount", &["-l", &self.place.display().to_string()]);
        let _ = std::fs::remove_file(&self.image);
    }
}

#[test]
fn a_disk_that_hangs_holds_up_nothing_but_what_is_to_be_on_it() {
    let mut site = Site::new("hang", Over::Ethernet, &[WEB]);
    let mut disk = Disk::new(&site);
    site.start();
    let mut connection = site.connect("client", 8080);
    disk.freeze();
    // There is something to write, which does not come to an end.
    assert!(site.is_denied("stranger", 8080));
    std::thread::sleep(slower(Duration::from_millis(300)));
    assert_eq!(site.status()["state"], "enforced");
    connection.goes_on();

    // Restored, and not only told of.
    let pin = site.link("eth0", "tcx-egress");
    std::fs::remove_file(&pin).unwrap();
    site.wait_for("the pin is back", |status| status["state"] == "enforced" && pin.exists());

    // Whoever is to be cut off is, although the command waits for the disk.
    let mut quarantine = Command::new(lab::bulkhead().unwrap());
    quarantine.args(["--instance", site.instance(), "quarantine", "client"]);
    site.namespace("server").prepare(&mut quarantine).unwrap();
    let mut quarantine = quarantine.spawn().unwrap();
    site.wait_for("cut off", |status| status["quarantined"][0]["node"] == "client");
    connection.is_cut();
    assert_eq!(site.status()["state"], "enforced");
    disk.thaw();
    assert!(quarantine.wait().unwrap().success());
    let written = site.wait_for("written", |status| number(&status["agent"]["events"]["written"]) > 0);
    assert_eq!(number(&written["agent"]["events"]["unwritten"]), 0, "{written}");
    site.kill();
    site.start();
    assert!(site.is_denied("client", 8080), "it is on the disk");
}
