//! Bytes of any kind.

use std::io::Read as _;
use std::net::Shutdown;
use std::time::Duration;

use bulkhead_testkit::setting;
use fastrand::Rng;

use super::{Before, send};
use crate::site::{Over, Site, WEB};

/// Requests that change nothing, nor would one that is nearly the same.
const REQUESTS: [&str; 9] = [
    "GET /v1/status HTTP/1.1\r\nhost: b\r\n\r\n",
    "GET /v1/flows?with=client&limit=3 HTTP/1.1\r\nhost: b\r\n\r\n",
    "GET /v1/metrics HTTP/1.1\r\nhost: b\r\nconnection: keep-alive\r\n\r\nGET /v1/alive HTTP/1.1\r\n\r\n",
    "GET /v1/events HTTP/1.1\r\nhost: b\r\n\r\n",
    "POST /v1/apply HTTP/1.1\r\nhost: b\r\ncontent-length: 47\r\n\r\n{\"policy\":{\"name\":\"p\",\"bytes\":5},\"mode\":null}\n}}}}}",
    "POST /v1/stage HTTP/1.1\r\nhost: b\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{\"a\":\r\n3\r\n1}\n\r\n0\r\n\r\n",
    "POST /v1/quarantine HTTP/1.1\r\nhost: b\r\ncontent-length: 50\r\n\r\n{\"subject\":\"nobody\",\"seconds\":null,\"reason\":null}\n",
    "POST /v1/attach HTTP/1.1\r\nhost: b\r\nexpect: 100-continue\r\ncontent-length: 6\r\n\r\n\"eth7\"",
    "POST /v1/release HTTP/1.1\r\nhost: b\r\ncontent-length: 8\r\n\r\n\"nobody\"",
];

/// Bytes that are no request, or nearly one.
fn bytes(rng: &mut Rng) -> Vec<u8> {
    let mut bytes = if rng.u8(..8) == 0 {
        (0..rng.usize(..2000)).map(|_| rng.u8(..)).collect()
    } else {
        REQUESTS[rng.usize(..REQUESTS.len())].as_bytes().to_vec()
    };
    for _ in 0..rng.usize(..6) {
        if bytes.is_empty() {
            break;
        }
        let at = rng.usize(..bytes.len());
        match rng.u8(..5) {
            0 => bytes[at] = rng.u8(..),
            1 => bytes.truncate(at),
            2 => bytes.insert(at, *b"\r\n\0{\"}9: \xff".get(rng.usize(..10)).unwrap_or(&0)),
            3 => drop(bytes.remove(at)),
            _ => {
                let piece = bytes[at..].to_vec();
                bytes.extend_from_slice(&piece[..piece.len().min(300)]);
            }
        }
    }
    bytes
}

#[test]
fn bytes_of_any_kind_change_nothing() {
    let connections = setting("BULKHEAD_CONNECTIONS", 3000);
    let seed = setting("BULKHEAD_SEED", 1);
    let mut site = Site::new("fuzzed", Over::Ethernet, &[WEB]);
    site.start();
    let before = Before::of(&site);
    let mut rng = Rng::with_seed(seed);
    let mut answered = 0;
    let mut open = Vec::new();
    for _ in 0..connections {
        let mut stream = send(&site, &bytes(&mut rng));
        match rng.u8(..4) {
            // Leaves at once.
            0 => {}
            // Goes on to listen, and says no more.
            1 | 2 => {
                let _ = stream.shutdown(Shutdown::Write);
                stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
                answered += u32::from(stream.read(&mut [0; 12]).is_ok_and(|bytes| bytes > 0));
            }
            // Stays for a while.
            _ => {
                open.push(stream);
                if open.len() > 40 {
                    open.clear();
                }
            }
        }
    }
    drop(open);
    assert!(
        u64::from(answered) > connections / 10,
        "requests that are never answered prove nothing: {answered}"
    );
    before.is_still_so(&site, 32 << 10);
}
