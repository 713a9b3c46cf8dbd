//! A broker that means harm: it sends what never ends, what is too long, too slow, cut short or somebody else's. Hosts
//! hold little of it, wait for it a bounded time, and go on once an honest server is there.
//!
//! One test, so that the process's memory is its own.

#![allow(clippy::unwrap_used)] // helpers of a test are a test

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use bulkhead_channel::{Body, Channel, File, Head, Settings, compress, difference, digest};
use bulkhead_fleet::Origin;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// What a broker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Malice {
    /// A greeting that never ends.
    Greeting,
    /// A line that never ends.
    Line,
    /// A message of more bytes than there are.
    Huge,
    /// A message of a length that no computer counts.
    Overflow,
    /// One byte a second.
    Drip,
    /// Half an answer, then nothing.
    Half,
    /// Half an answer, then the end.
    Cut,
    /// The right answer to another question.
    Swapped,
    /// A head that unpacks to gigabytes.
    Bomb,
    /// A head of files that are others.
    Lies,
    /// News without end, which nobody has asked for.
    Flood,
    /// Questions without end whether the host is there.
    Pings,
    /// No answer at all.
    Silence,
    /// An old version.
    Old,
}

const ALL: [Malice; 14] = [
    Malice::Greeting,
    Malice::Line,
    Malice::Huge,
    Malice::Overflow,
    Malice::Drip,
    Malice::Half,
    Malice::Cut,
    Malice::Swapped,
    Malice::Bomb,
    Malice::Lies,
    Malice::Flood,
    Malice::Pings,
    Malice::Silence,
    Malice::Old,
];

const PATH: &str = "policy/targets/x.policy.hujson";
const BASE: &[u8] = b"what the host has";

/// Of 60 MB in a few kilobytes.
static BOMB: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
    (0..60).for_each(|_| encoder.write_all(&vec![b' '; 1 << 20]).unwrap());
    encoder.finish().unwrap()
});

/// A head that tells of the file truly.
fn honest(file: &[u8]) -> Head {
    let text = String::from_utf8(file.to_vec()).unwrap();
    let file = File { sha256: digest(file), length: file.len() as u64, body: Body::Text(text) };
    Head { made: 1, files: [(PATH.to_owned(), file)].into(), differences: Vec::new() }
}

/// A head whose file is in parts, and whose parts are whatever the broker makes up.
fn of_parts(file: &[u8]) -> Head {
    let bytes = compress(file).unwrap().len() as u64;
    let way = bulkhead_channel::Difference {
        from: digest(BASE),
        to: digest(file),
        body: Body::Parts { count: 1, bytes: difference(BASE, file).unwrap().len() as u64 },
    };
    let file =
        File { sha256: digest(file), length: file.len() as u64, body: Body::Parts { count: 1, bytes } };
    Head { made: 1, files: [(PATH.to_owned(), file)].into(), differences: vec![way] }
}

fn message(subject: &str, sid: &str, of: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("NATS/1.0\r\nNats-Sequence: 1\r\nNats-Subject: {of}\r\n\r\n");
    let mut frame =
        format!("HMSG {subject} {sid} {} {}\r\n{head}", head.len(), head.len() + payload.len()).into_bytes();
    frame.extend_from_slice(payload);
    frame.extend_from_slice(b"\r\n");
    frame
}

/// Sends without end, as fast as it is taken.
async fn flood(
    stream: &mut (impl AsyncWrite + Unpin),
    bytes: &[u8],
    sent: &AtomicU64,
) -> std::io::Result<()> {
    loop {
        stream.write_all(bytes).await?;
        sent.fetch_add(bytes.len() as u64, Ordering::Relaxed);
    }
}

/// The same with pings; counts the bytes of the answers.
async fn ping(stream: &mut TcpStream, answered: &AtomicU64) -> std::io::Result<()> {
    let (mut reader, mut writer) = stream.split();
    let (pings, unread) = (b"PING\r\n".repeat(1_000), AtomicU64::new(0));
    let read = async {
        let mut bytes = vec![0; 65_536];
        loop {
            match reader.read(&mut bytes).await? {
                0 => return Ok(()),
                read => _ = answered.fetch_add(read as u64, Ordering::Relaxed),
            }
        }
    };
    tokio::select! {
        over = read => over,
        over = flood(&mut writer, &pings, &unread) => over,
    }
}

async fn serve(stream: TcpStream, malice: Malice, sent: &AtomicU64) -> std::io::Result<()> {
    let version = if malice == Malice::Old { "2.9.10" } else { "2.15.1" };
    let mut stream = BufReader::new(stream);
    let begin = format!("INFO {{\"version\":\"{version}\",\"headers\":true,\"max_payload\":1048576,\"x\":\"");
    stream.get_mut().write_all(begin.as_bytes()).await?;
    if malice == Malice::Greeting {
        return flood(stream.get_mut(), &[b'x'; 65_536], sent).await;
    }
    stream.get_mut().write_all(b"\"}\r\n").await?;
    let mut line = String::new();
    loop {
        line.clear();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        let stream = stream.get_mut();
        match words.as_slice() {
            ["PING"] => stream.write_all(b"PONG\r\n").await?,
            ["SUB", "fleet.head", sid] if malice == Malice::Flood => {
                let news = message("fleet.head", sid, "fleet.files.head", &vec![b'z'; 900_000]);
                return flood(stream, &news, sent).await;
            }
            ["SUB", "fleet.head", _] if malice == Malice::Pings => return ping(stream, sent).await,
            ["PUB", asked, reply, "0"] => {
                let of = asked.splitn(6, '.').nth(5).unwrap_or_default().to_owned();
                let answer = |payload: &[u8]| message(reply, "1", &of, payload);
                let truth = b"a policy of another".to_vec();
                match malice {
                    Malice::Line => return flood(stream, &[b'x'; 65_536], sent).await,
                    Malice::Huge => {
                        stream.write_all(format!("MSG {reply} 1 99999999999\r\n").as_bytes()).await?;
                        return flood(stream, &[b'x'; 65_536], sent).await;
                    }
                    Malice::Overflow => {
                        stream
                            .write_all(format!("MSG {reply} 1 18446744073709551615\r\n").as_bytes())
                            .await?;
                    }
                    Malice::Drip => loop {
                        stream.write_all(b"M").await?;
                        tokio::time::sleep(Duration::from_secs(1)).await;
                    },
                    Malice::Half | Malice::Cut => {
                        let whole = answer(&honest(&truth).write().unwrap());
                        stream.write_all(&whole[..whole.len() / 2]).await?;
                        if malice == Malice::Cut {
                            return Ok(());
                        }
                    }
                    Malice::Swapped => {
                        let other =
                            message(reply, "1", "fleet.files.other", &honest(&truth).write().unwrap());
                        stream.write_all(&other).await?;
                    }
                    Malice::Bomb => {
                        stream.write_all(&answer(&BOMB)).await?;
                    }
                    Malice::Lies if of.ends_with("head") => {
                        stream.write_all(&answer(&of_parts(&truth).write().unwrap())).await?;
                    }
                    // A part that is as long as it should be, and is nothing.
                    Malice::Lies => {
                        let head = of_parts(&truth);
                        let body =
                            if of.contains('-') { &head.differences[0].body } else { &head.files[PATH].body };
                        let Body::Parts { bytes, .. } = body else { unreachable!() };
                        stream.write_all(&answer(&vec![0x28; usize::try_from(*bytes).unwrap()])).await?;
                    }
                    Malice::Greeting | Malice::Flood | Malice::Pings | Malice::Silence | Malice::Old => {}
                }
            }
            _ => {}
        }
    }
}

/// A broker, at an address.
async fn broker(malice: Malice, sent: Arc<AtomicU64>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let sent = Arc::clone(&sent);
            tokio::spawn(async move { _ = serve(stream, malice, &sent).await });
        }
    });
    address
}

/// Resident memory of this process, in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

#[test]
fn whatever_a_broker_sends_little_is_held_and_nothing_is_taken() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    assert!(BOMB.len() < 900_000);
    for malice in ALL {
        runtime.block_on(async {
            let sent = Arc::new(AtomicU64::new(0));
            let address = broker(malice, Arc::clone(&sent)).await;
            let settings = Settings {
                servers: vec![format!("nats://{address}")],
                name: "host".to_owned(),
                ..Settings::default()
            };
            let (before, begun, mut most) = (resident(), Instant::now(), 0);
            let channel = Channel::new(settings).unwrap();
            let channel = channel.with_kept(|wanted| (wanted == digest(BASE)).then(|| BASE.to_vec()));
            let ask = channel.file(PATH, 1 << 20);
            tokio::pin!(ask);
            let answer = loop {
                tokio::select! {
                    answer = &mut ask => break answer,
                    () = tokio::time::sleep(Duration::from_millis(5)) => most = most.max(resident()),
                }
            };
            let took = begun.elapsed();
            // It goes on for a while: what is held does not grow with what is sent.
            let until = Instant::now() + Duration::from_millis(700);
            while Instant::now() < until {
                tokio::time::sleep(Duration::from_millis(5)).await;
                most = most.max(resident());
            }
            let held = most.saturating_sub(before);
            let why = match answer {
                Err(error) => error.to_string(),
                Ok(taken) => panic!("{malice:?}: {taken:?} was taken"),
            };
            println!(
                "{malice:?}: {} MB sent, {} KB held, refused after {took:?}: {why}",
                sent.load(Ordering::Relaxed) >> 20,
                held >> 10
            );
            assert!(held < 16 << 20, "{malice:?}: {held} bytes held");
            assert!(took < Duration::from_secs(12), "{malice:?}: {took:?}");
            if malice == Malice::Pings {
                // Each answer has 6 bytes; some more are on their way.
                let answers = sent.load(Ordering::Relaxed) / 6;
                let seconds = begun.elapsed().as_secs() + 1;
                assert!(answers <= 10_000 * (seconds + 1), "{answers} in {seconds} s");
            }
            if malice == Malice::Old {
                assert!(why.contains("2.9.10") && why.contains("2.14"), "{why}");
            }
        });
    }
}
