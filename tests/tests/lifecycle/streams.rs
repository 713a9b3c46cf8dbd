//! Sinks of a running agent: every record at least once and in order, over receivers that die and agents that are
//! killed.

use std::io::Read as _;
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bulkhead_testkit::lab::slower;
use serde_json::Value;

use crate::site::account::number;
use crate::site::{Over, Site, WEB};

/// Whole lines of JSON.
fn lines(bytes: &[u8]) -> Vec<Value> {
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let lines = bytes[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
}

/// Numbers of records, in the order in which they came.
fn sequences(records: &[Value]) -> Vec<u64> {
    records.iter().map(|record| number(&record["sequence"])).collect()
}

/// Every record up to a number is there, and what came again began anew at an earlier one.
fn is_whole(received: &[u64], end: u64) -> bool {
    let mut next = 0;
    for pair in std::iter::once(&0).chain(received).zip(received) {
        let (before, now) = (*pair.0, *pair.1);
        assert!(now <= next && (now <= before + 1), "{now} after {before}: {received:?}");
        next = next.max(now + 1);
    }
    next >= end
}

fn knock(site: &Site, ports: std::ops::Range<u16>) {
    let any = SocketAddr::from(([0, 0, 0, 0], 0));
    let socket = site.namespace("stranger").run(|| UdpSocket::bind(any)).unwrap().unwrap();
    for port in ports {
        socket.send_to(b"?", SocketAddr::new(site.address("server"), port)).unwrap();
    }
}

fn read(path: &Path) -> Vec<Value> {
    lines(&std::fs::read(path).unwrap_or_default())
}

/// Waits until so many drops are in a sink's file.
fn wait_for_drops(site: &Site, path: &Path, count: usize) {
    let until = Instant::now() + slower(Duration::from_secs(30));
    let drops = || {
        let records = read(path);
        let mut ports: Vec<_> =
            records.iter().filter_map(|record| record["event"]["destination_port"].as_u64()).collect();
        ports.sort_unstable();
        ports.dedup();
        ports.len()
    };
    while drops() < count {
        assert!(Instant::now() < until, "{} of {count} drops in {}: {}", drops(), path.display(), site.log());
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn records_go_out_in_order_over_kills_of_the_agent_and_of_a_receiver() {
    let mut site = Site::new("streams", Over::Ethernet, &[WEB]);
    let [file, ocsf, socket] =
        ["out.jsonl", "ocsf.jsonl", "collector.sock"].map(|name| PathBuf::from(site.path(name)));
    let sinks = format!(
        "[[sink]]\nname = \"file\"\nkind = \"file\"\nformat = \"bulkhead\"\npath = {file:?}\n\
         [[sink]]\nname = \"ocsf\"\nkind = \"file\"\npath = {ocsf:?}\n\
         [[sink]]\nname = \"collector\"\nkind = \"socket\"\nformat = \"bulkhead\"\npath = {socket:?}\n"
    );
    site.write("agent.toml", &(site.configuration("server", "eth0") + &sinks));
    site.start();
    knock(&site, 1000..1100);
    wait_for_drops(&site, &file, 100);
    // Nobody listens yet: that is told, and costs the others nothing.
    // It looks how far behind it is when it tries again.
    site.wait_for("a sink that does not send is told of", |status| {
        let warnings = status["agent"]["warnings"].as_array().unwrap();
        let is_told = warnings
            .iter()
            .any(|warning| warning.as_str().unwrap().starts_with("sink collector does not send"));
        let behind = |name: &str| {
            let sinks = status["agent"]["sinks"].as_array().unwrap();
            let sink = sinks.iter().find(|sink| sink["name"] == name).unwrap();
            number(&sink["behind"])
        };
        is_told && behind("collector") >= 100 && behind("file") < 100
    });

    // A receiver that dies in the middle, and an agent that is killed.
    let listener = UnixListener::bind(&socket).unwrap();
    let (mut first, _) = listener.accept().unwrap();
    let mut beginning = vec![0; 5000];
    first.read_exact(&mut beginning).unwrap();
    drop(first);
    let mut received = sequences(&lines(&beginning));
    site.kill();
    knock(&site, 1100..1200);
    site.start();
    knock(&site, 1200..1300);
    wait_for_drops(&site, &file, 300);
    // Connections of the agent that was killed come first, and end.
    let reading = std::thread::spawn(move || {
        let mut connections = Vec::new();
        loop {
            let (mut connection, _) = listener.accept().unwrap();
            let mut all = Vec::new();
            let _ = connection.read_to_end(&mut all);
            let is_last = lines(&all).iter().any(|record| record["event"]["action"] == "stop");
            connections.push(all);
            if is_last {
                return connections;
            }
        }
    });
    site.signal(libc::SIGTERM);
    assert!(site.has_ended(), "{}", site.log());

    // More than a pipe has room for.
    let output =
        site.command().args(["--instance", site.instance(), "audit", "show", "--json"]).output().unwrap();
    let log = lines(&output.stdout);
    let end = log.len() as u64;
    assert!(end >= 300, "{end} records");
    let records = read(&file);
    assert!(is_whole(&sequences(&records), end), "the file lacks records: {}", site.log());
    for record in &records {
        assert_eq!(*record, log[usize::try_from(number(&record["sequence"])).unwrap()], "byte by byte");
    }
    let objects = read(&ocsf);
    let of: Vec<u64> = objects.iter().map(|object| number(&object["metadata"]["sequence"])).collect();
    assert!(is_whole(&of, end), "objects are missing: {}", site.log());
    for connection in reading.join().unwrap() {
        received.extend(sequences(&lines(&connection)));
    }
    assert!(is_whole(&received, end), "the collector lacks records: {}", site.log());
    println!(
        "{end} records: {} lines in the file, {} received by the collector",
        records.len(),
        received.len()
    );
}
