//! Unix sockets.

use std::io::Read as _;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::sync::Arc;
use std::time::Instant;

use bulkhead_sinks::Kind;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::memory::Memory;
use crate::{LIMIT, assert_at_least_once, number, numbers, settings, start, wait_for};

#[test]
fn a_receiver_that_dies_with_unread_bytes_gets_all_once_it_is_back() {
    let state = tempfile::tempdir().unwrap();
    let path = state.path().join("collector.sock");
    let source = Arc::new(Memory::of("h", 2000));
    let sinks = start(settings(Kind::Socket { path: path.clone() }), &source, state.path());
    wait_for(&sinks, "a problem", |progress| progress.problem.is_some());
    let listener = UnixListener::bind(&path).unwrap();
    // It reads the beginning, and dies.
    let (mut first, _) = listener.accept().unwrap();
    let mut beginning = vec![0; 10_000];
    first.read_exact(&mut beginning).unwrap();
    drop(first);
    let mut received = numbers(&beginning[..=beginning.iter().rposition(|byte| *byte == b'\n').unwrap()]);
    let (mut second, _) = listener.accept().unwrap();
    let reading = std::thread::spawn(move || {
        let mut all = Vec::new();
        second.read_to_end(&mut all).unwrap();
        all
    });
    // The end waits until the receiver has read all of it.
    sinks.end(LIMIT);
    received.extend(numbers(&reading.join().unwrap()));
    assert_at_least_once(&received, 2000);
    assert_eq!(sinks.progress()[0].position, 2000);
    let again = start(settings(Kind::Socket { path }), &source, state.path());
    wait_for(&again, "nothing left", |progress| progress.position == 2000 && progress.behind == 0);
    again.end(LIMIT);
}

#[test]
fn a_listener_that_accepts_nobody_is_told_of_and_keeps_no_agent_from_ending() {
    let state = tempfile::tempdir().unwrap();
    let path = state.path().join("collector.sock");
    let listener = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    listener.bind(&SockAddr::unix(&path).unwrap()).unwrap();
    listener.listen(0).unwrap();
    // One waits to be accepted, and there is room for no other.
    let waits = UnixStream::connect(&path).unwrap();
    let source = Arc::new(Memory::of("h", 10));
    let sinks = start(settings(Kind::Socket { path }), &source, state.path());
    let problem = wait_for(&sinks, "a problem", |progress| progress.problem.is_some()).problem.unwrap();
    assert!(problem.contains("collector.sock"), "{problem}");
    let before = Instant::now();
    sinks.end(LIMIT);
    assert!(before.elapsed() < LIMIT / 2);
    drop(waits);
}

#[test]
fn a_daemons_datagram_socket_gets_messages() {
    let state = tempfile::tempdir().unwrap();
    let path = state.path().join("log");
    let daemon = UnixDatagram::bind(&path).unwrap();
    let source = Arc::new(Memory::of("h", 300));
    let sinks = start(settings(Kind::SyslogUnix { path }), &source, state.path());
    for sequence in 0..300 {
        let mut message = vec![0; 8192];
        let length = daemon.recv(&mut message).unwrap();
        let text = std::str::from_utf8(&message[..length]).unwrap();
        assert!(
            text.starts_with("<109>1 2026-11-28T08:53:14.000000Z h bulkhead - drop [meta sequenceId="),
            "{text}"
        );
        assert_eq!(number(&message[text.find('{').unwrap()..length]), sequence);
    }
    sinks.end(LIMIT);
}

#[test]
fn a_daemons_stream_socket_gets_frames() {
    let state = tempfile::tempdir().unwrap();
    let path = state.path().join("log");
    let daemon = UnixListener::bind(&path).unwrap();
    let source = Arc::new(Memory::of("h", 300));
    let sinks = start(settings(Kind::SyslogUnix { path }), &source, state.path());
    let (mut connection, _) = daemon.accept().unwrap();
    let received = crate::tls::frames(&mut connection, 300);
    assert_eq!(received, (0..300).collect::<Vec<_>>());
    drop(connection);
    sinks.end(LIMIT);
}
