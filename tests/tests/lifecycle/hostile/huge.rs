//! Requests without measure.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::{Before, connect, memory};
use crate::site::stop::Stop;
use crate::site::{Over, Site, WEB};

/// Routes that change something, by requests that ask for nothing that can be.
const CHANGES: [&str; 7] = ["apply", "stage", "promote", "rollback", "quarantine", "release", "attach"];

/// Writes until it is not taken any more, or this is all; how much was.
fn pour(stream: &mut UnixStream, piece: &[u8], most: usize) -> usize {
    let mut written = 0;
    while written < most && stream.write_all(piece).is_ok() {
        written += piece.len();
    }
    written
}

/// The first line of an answer; empty if there is none.
fn answer(stream: &mut UnixStream) -> String {
    let mut text = Vec::new();
    // It may be reset behind the answer.
    let _ = stream.take(200).read_to_end(&mut text);
    String::from_utf8_lossy(&text).lines().next().unwrap_or_default().to_owned()
}

#[test]
fn no_request_is_without_measure() {
    const MOST: usize = 1 << 30;
    let mut site = Site::new("huge", Over::Ethernet, &[WEB]);
    site.start();
    let before = Before::of(&site);
    let (stop, most) = (Stop::default(), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let _stopping = stop.at_end();
        scope.spawn(|| {
            while !stop.is_over() {
                most.fetch_max(memory(before.pid), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let text = vec![b' '; 1 << 16];
        for route in CHANGES {
            for framing in ["content-length: 1073741824\r\n\r\n", "transfer-encoding: chunked\r\n\r\n"] {
                let mut stream = connect(&site);
                write!(stream, "POST /v1/{route} HTTP/1.1\r\nhost: b\r\n{framing}").unwrap();
                let chunk = [b"10000\r\n", &*text, b"\r\n"].concat();
                let piece = if framing.starts_with("transfer") { &chunk } else { &text };
                let taken = pour(&mut stream, piece, MOST);
                assert!(taken < 8 << 20, "{route} takes {taken} bytes");
                let line = answer(&mut stream);
                assert!(
                    line.contains(" 400 ") || line.contains(" 413 ") || line.is_empty(),
                    "{route}: {line}"
                );
            }
        }
        // Heads: one long line, and many.
        for start in ["GET /v1/status?", "GET /v1/status HTTP/1.1\r\nhost: b\r\nx: "] {
            let mut stream = connect(&site);
            stream.write_all(start.as_bytes()).unwrap();
            let taken = pour(&mut stream, &[b'x'; 4096], MOST);
            assert!(taken < 1 << 20, "{start} takes {taken} bytes");
        }
        let mut stream = connect(&site);
        stream.write_all(b"GET /v1/status HTTP/1.1\r\n").unwrap();
        assert!(pour(&mut stream, b"a: b\r\n", MOST) < 1 << 20);
        // A body that nobody asked for.
        let mut stream = connect(&site);
        stream
            .write_all(b"GET /v1/version HTTP/1.1\r\nhost: b\r\ncontent-length: 1073741824\r\n\r\n")
            .unwrap();
        assert!(pour(&mut stream, &text, MOST) < 8 << 20);
        assert!(answer(&mut stream).contains(" 200 "));
        // Requests one behind the other, of which no answer is read.
        let mut stream = connect(&site);
        stream.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
        assert!(
            pour(&mut stream, "GET /v1/status HTTP/1.1\r\nhost: b\r\n\r\n".repeat(100).as_bytes(), MOST)
                < 8 << 20
        );
    });
    let grown = most.load(Ordering::Relaxed).saturating_sub(before.memory);
    println!("{grown} KiB more than {} at most", before.memory);
    assert!(grown < 32 << 10, "{grown} KiB");
    before.is_still_so(&site, 32 << 10);
}

#[test]
fn what_is_announced_is_bounded_over_all_requests() {
    let mut site = Site::new("budget", Over::Ethernet, &[WEB]);
    site.start();
    let before = Before::of(&site);
    let announce = |bytes: u64| {
        let head = format!(
            "{{\"policy\":{{\"name\":\"p\",\"bytes\":{bytes}}},\"inventory\":{{\"name\":\"i\",\"bytes\":{bytes}}},\"mode\":null,\"confirm\":null}}\n"
        );
        let mut stream = connect(&site);
        let length = head.len() as u64 + 2 * bytes;
        write!(stream, "POST /v1/apply HTTP/1.1\r\nhost: b\r\ncontent-length: {length}\r\n\r\n{head}")
            .unwrap();
        stream
    };
    let held: Vec<UnixStream> = (0..2).map(|_| announce(1 << 30)).collect();
    std::thread::sleep(Duration::from_millis(500));
    let mut text = String::new();
    let _ = announce(1 << 20).take(300).read_to_string(&mut text);
    assert!(text.contains(" 503 ") && text.to_lowercase().contains("retry-after: "), "{text}");
    // Who leaves makes room.
    drop(held);
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while !site.bulkhead(&["apply"]).status.success()
        || !site.bulkhead(&["apply", &site.path("policy.hujson")]).status.success()
    {
        assert!(std::time::Instant::now() < deadline, "{}", site.log());
    }
    assert_eq!(site.status()["agent"]["pid"], before.pid);
}
