//! Who may ask and who may change, by groups.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use rustix::process::{Gid, Uid};
use serde_json::Value;

use crate::site::account::reports;
use crate::site::{OTHER, Over, Site, WEB};

const NOBODY: u32 = 65_534;
const READERS: u32 = 64_001;
const CHANGERS: u32 = 64_002;

/// What a user in these groups is answered: the status line and the body, or the error at the socket.
fn answered(site: &Site, groups: &[u32], request: &str) -> Result<(u16, String), ErrorKind> {
    let socket = PathBuf::from(format!("/run/bulkhead/{}/agent.sock", site.instance()));
    let groups: Vec<_> = groups.iter().map(|group| Gid::from_raw(*group)).collect();
    let request = format!("{request} HTTP/1.1\r\nhost: b\r\nconnection: close\r\n");
    // Credentials are a thread's, and end with it.
    let ask = move || {
        rustix::thread::set_thread_groups(&groups).unwrap();
        let (gid, uid) = (Gid::from_raw(NOBODY), Uid::from_raw(NOBODY));
        rustix::thread::set_thread_res_gid(gid, gid, gid).unwrap();
        rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
        let mut stream = UnixStream::connect(socket).map_err(|error| error.kind())?;
        stream.write_all(request.as_bytes()).unwrap();
        stream.write_all(b"content-length: 0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let code = answer.split(' ').nth(1).unwrap().parse().unwrap();
        Ok((code, answer.split_once("\r\n\r\n").unwrap().1.to_owned()))
    };
    std::thread::spawn(ask).join().unwrap()
}

fn refused(site: &Site) -> Vec<Value> {
    let reports = reports(&site.journal_file()).into_iter();
    reports.filter(|report| report["kind"] == "control" && report["outcome"] == "refused").collect()
}

#[test]
fn who_may_ask_may_not_change() {
    let mut site = Site::new("rights", Over::Ethernet, &[WEB]);
    let control = format!("[control]\nread = \"{READERS}\"\nchange = \"{CHANGERS}\"\n");
    site.write("agent.toml", &(site.configuration("server", "eth0") + &control));
    site.start();
    let generation = site.status()["agent"]["generation"].clone();
    site.write_policy(&[OTHER]);

    // Who is in no group does not get to the agent at all.
    assert_eq!(answered(&site, &[NOBODY], "GET /v1/status"), Err(ErrorKind::PermissionDenied));
    assert_eq!(answered(&site, &[CHANGERS], "GET /v1/status"), Err(ErrorKind::PermissionDenied));

    // A reader sees everything and changes nothing, by no route.
    let (code, status) = answered(&site, &[READERS], "GET /v1/status").unwrap();
    assert_eq!(code, 200);
    assert_eq!(serde_json::from_str::<Value>(&status).unwrap()["state"], "enforced");
    for action in [
        "apply",
        "confirm",
        "rollback",
        "stage",
        "unstage",
        "promote",
        "quarantine",
        "release",
        "attach",
        "detach",
    ] {
        let (code, words) = answered(&site, &[READERS], &format!("POST /v1/{action}")).unwrap();
        assert_eq!(code, 403, "{action}: {words}");
        assert!(words.contains("user 65534 may not change") && words.contains("group 64002"), "{words}");
    }
    assert_eq!(site.status()["agent"]["generation"], generation);
    assert!(site.connects("client", 8080) && site.is_denied("client", 8081));
    let told = refused(&site);
    assert_eq!((&told[0]["action"], &told[0]["by"]["uid"]), (&"apply".into(), &NOBODY.into()), "{told:?}");
    assert!(told.len() < 10, "an attempt after the other does not fill the record: {told:?}");

    // Who is in both may do both.
    let (code, applied) = answered(&site, &[READERS, CHANGERS], "POST /v1/confirm").unwrap();
    assert_eq!((code, &*applied), (200, "false"));
    let (code, _) = answered(&site, &[READERS, CHANGERS], "POST /v1/detach").unwrap();
    assert_eq!(code, 200);
    assert!(site.has_ended());
}

#[test]
fn without_groups_the_socket_is_roots_alone() {
    let mut site = Site::new("root", Over::Ethernet, &[WEB]);
    let control = "[control]\nread = \"no-such-group-here\"\n";
    site.write("agent.toml", &(site.configuration("server", "eth0") + control));
    site.start();
    let socket = format!("/run/bulkhead/{}/agent.sock", site.instance());
    assert_eq!(std::fs::metadata(socket).unwrap().mode() & 0o777, 0o600);
    assert_eq!(answered(&site, &[READERS], "GET /v1/status"), Err(ErrorKind::PermissionDenied));
    let warnings = site.status()["agent"]["warnings"].to_string();
    assert!(warnings.contains("group no-such-group-here is not there"), "{warnings}");
}
