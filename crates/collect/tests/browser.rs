//! The fleet page in a browser: what it shows, and that nothing that a host says runs there.

#![allow(clippy::unwrap_used)] // helpers of a test are a test

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use bulkhead_collect::{Bundle, Denied, Limits, Report, Settings, State, Store, router, seal};
use bulkhead_tlog::{Log, Options};

/// A text that would change the title if any of it ran.
const EVIL: &str = "<script>document.title='ran'</script><img src=x onerror=\"document.title='ran'\">\
                    <svg/onload=document.title='ran'>\"><style>*{display:none}</style>";

fn tell(store: &Store, root: &Path, node: &str, made: u64, report: &Report) {
    let directory = root.join(node);
    let mut log = Log::open(&directory, &Options::new(format!("bulkhead/{node}"))).unwrap().0;
    log.append(br#"{"event":{}}"#).unwrap();
    log.checkpoint().unwrap();
    store.take(None, &seal(&directory, node, made, 0, report).unwrap().bytes).unwrap();
}

/// Runs Chromium without a window. `cargo xtask setup` installs it.
fn chromium(profile: &Path, words: &[&str]) -> String {
    let mut command = Command::new("timeout");
    // Root has no sandbox, and a container little shared memory.
    command.args([
        "120",
        "chromium",
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
    ]);
    command
        .arg(format!("--user-data-dir={}", profile.display()))
        .args(["--no-first-run", "--window-size=1280,1600"]);
    let output = command.args(words).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_shows_each_host_and_runs_nothing() {
    let root = tempfile::tempdir().unwrap();
    let settings = Settings { most_nodes: 10, ..Settings::default() };
    let store = Arc::new(Store::open(&root.path().join("store"), settings).unwrap());
    let good = Report {
        version: "0.1.0".to_owned(),
        state: State::Enforced,
        generation: 4,
        policy: Bundle { version: Some(2), sha256: Some("0123456789abcdef".repeat(4)) },
        denied: vec![Denied { direction: "ingress".to_owned(), reason: "no_rule".to_owned(), packets: 1234 }],
        ..Report::default()
    };
    tell(&store, root.path(), "good-host", 1, &good);
    let open = Report { state: State::Detached, gaps: vec!["eth0: no program".to_owned()], ..good.clone() };
    tell(&store, root.path(), "open-host", 1, &open);
    let hostile = Report {
        version: EVIL.to_owned(),
        gaps: vec![EVIL.to_owned()],
        refusal: Some(EVIL.to_owned()),
        denied: vec![Denied { direction: EVIL.to_owned(), reason: EVIL.to_owned(), packets: 1 }],
        policy: Bundle { version: Some(2), sha256: Some(EVIL.to_owned()) },
        ..good
    };
    tell(&store, root.path(), "evil-host", 1, &hostile);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        axum::serve(listener, router(store, Limits::default(), Vec::new())).await.unwrap();
    });
    let (profile, picture) = (root.path().join("profile"), root.path().join("page.png"));
    let (page, picture) = tokio::task::spawn_blocking(move || {
        let page = chromium(&profile, &["--dump-dom", &url]);
        let shot = format!("--screenshot={}", picture.display());
        chromium(&profile, &[&shot, &url]);
        (page, std::fs::read(picture).unwrap())
    })
    .await
    .unwrap();
    assert!(page.contains("<title>Fleet</title>"), "what a host says has run:\n{page}");
    assert!(!page.contains("<script") && !page.contains("<img") && !page.contains("<svg"));
    assert_eq!(page.matches("<style").count(), 1, "{page}");
    for words in ["good-host", "open-host", "evil-host", "eth0: no program", "no_rule", "2,468", "2 of 3"] {
        assert!(page.contains(words), "{words}:\n{page}");
    }
    assert!(picture.starts_with(b"\x89PNG") && picture.len() > 20_000, "{} bytes", picture.len());
    if let Some(keep) = std::env::var_os("COLLECT_PICTURE") {
        std::fs::write(keep, picture).unwrap();
    }
}

#[tokio::test]
async fn another_name_reads_nothing() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let root = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(root.path(), Settings::default()).unwrap());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let names = vec!["fleet.example".to_owned()];
    tokio::spawn(
        async move { axum::serve(listener, router(store, Limits::default(), names)).await.unwrap() },
    );
    for (method, path, host, expected) in [
        ("GET", "/", "localhost:8480", "200"),
        ("GET", "/status.json", "127.0.0.1", "200"),
        ("GET", "/", "[::1]:8480", "200"),
        ("GET", "/", "Fleet.example:1", "200"),
        ("GET", "/status.json", "evil.example", "421"),
        ("GET", "/", "localhost.evil.example", "421"),
        ("GET", "/", "", "421"),
        ("GET", "/other", "localhost", "404"),
        ("POST", "/", "localhost", "405"),
        ("DELETE", "/status.json", "localhost", "405"),
    ] {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer.split(' ').nth(1), Some(expected), "{method} {path} {host}: {answer}");
        let head = answer.split("\r\n\r\n").next().unwrap();
        assert!(head.contains("content-security-policy: default-src 'none';"), "{head}");
        assert!(head.contains("x-content-type-options: nosniff"), "{head}");
    }
}
