//! Those who dawdle: a byte a second, half a request, nothing at all, or never read.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use bulkhead_testkit::lab::slower;
use rustix::process::{Gid, Uid};

use super::{Before, connect, send, socket};
use crate::site::{Over, Site, WEB};

const NOBODY: u32 = 65_534;
/// Connections of one user.
const PLACES: usize = 64;

/// Whether whoever is at the other end has gone.
fn has_ended(stream: &mut UnixStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let mut bytes = [0; 4096];
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != ErrorKind::WouldBlock,
        }
    }
}

#[test]
fn whoever_dawdles_is_cut_off_and_makes_room() {
    let mut site = Site::new("slow", Over::Ethernet, &[WEB]);
    site.start();
    let before = Before::of(&site);
    let head = b"POST /v1/apply HTTP/1.1\r\nhost: b\r\ncontent-length: 1000000\r\n\r\n{\"policy\": ";
    let mut dawdlers: Vec<UnixStream> = (0..20).map(|_| send(&site, b"GET /v1/status HTT")).collect();
    dawdlers.extend((0..20).map(|_| connect(&site)));
    dawdlers.extend((0..PLACES - 40).map(|_| send(&site, head)));
    std::thread::sleep(Duration::from_millis(300));
    // One more is told so.
    let mut answer = String::new();
    let _ = connect(&site).read_to_string(&mut answer);
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("too many connections"), "{answer:?}");
    let began = Instant::now();
    while !dawdlers.is_empty() {
        assert!(began.elapsed() < slower(Duration::from_secs(60)), "{} are still there", dawdlers.len());
        std::thread::sleep(Duration::from_secs(1));
        dawdlers.retain_mut(|stream| {
            stream.set_nonblocking(true).unwrap();
            let is_written = stream.write_all(b" ").is_ok();
            is_written && !has_ended(stream)
        });
    }
    println!("all were cut off within {:?}", began.elapsed());
    before.is_still_so(&site, 16 << 10);
}

#[test]
fn one_user_does_not_keep_another_out_and_watchers_stay() {
    let mut site = Site::new("places", Over::Ethernet, &[WEB]);
    let control = format!("[control]\nread = \"{NOBODY}\"\n");
    site.write("agent.toml", &(site.configuration("server", "eth0") + &control));
    site.start();
    let before = Before::of(&site);
    let path = socket(&site);
    // Watchers who never read, as many as come in.
    let watch = move || {
        let (gid, uid) = (Gid::from_raw(NOBODY), Uid::from_raw(NOBODY));
        rustix::thread::set_thread_groups(&[]).unwrap();
        rustix::thread::set_thread_res_gid(gid, gid, gid).unwrap();
        rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
        let watch = || {
            let mut stream = UnixStream::connect(&path).unwrap();
            let _ = stream.write_all(b"GET /v1/events HTTP/1.1\r\nhost: b\r\n\r\n");
            stream
        };
        (0..PLACES + 20).map(|_| watch()).collect::<Vec<_>>()
    };
    let mut watchers = std::thread::spawn(watch).join().unwrap();
    std::thread::sleep(Duration::from_secs(1));
    watchers.retain_mut(|stream| !has_ended(stream));
    assert_eq!(watchers.len(), PLACES, "the others are turned away");
    for _ in 0..10 {
        site.status();
    }
    // Longer than anything else may take: an event stream has no end.
    std::thread::sleep(Duration::from_secs(15));
    watchers.retain_mut(|stream| !has_ended(stream));
    assert_eq!(watchers.len(), PLACES, "who waits for events is no dawdler");
    drop(watchers);
    before.is_still_so(&site, 16 << 10);
}
