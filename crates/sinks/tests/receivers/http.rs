//! OTLP receivers: small HTTP servers that read requests as a collector does.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use bulkhead_export::Format;
use bulkhead_http::Tls;
use bulkhead_sinks::{Kind, Settings};
use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use prost::Message as _;

use crate::memory::Memory;
use crate::tls::{Authority, accept};
use crate::{LIMIT, assert_at_least_once, settings, start, wait_for};

/// A request: its head, and numbers of its records.
struct Request {
    head: String,
    numbers: Vec<u64>,
}

/// The head and the body of a request; none if the connection has ended.
pub fn read_request(stream: &mut impl Read) -> Option<(String, Vec<u8>)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let lower = head.to_lowercase();
    let length = lower.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    stream.read_exact(&mut body).unwrap();
    Some((head, body))
}

/// Reads a request, and answers it; none if the connection has ended.
fn serve(stream: &mut (impl Read + Write), answer: impl Fn(&Request) -> (u16, Vec<u8>)) -> Option<Request> {
    let (head, body) = read_request(stream)?;
    let head = head.to_lowercase();
    let request = ExportLogsServiceRequest::decode(&*body).unwrap();
    let records = &request.resource_logs[0].scope_logs[0].log_records;
    let number = |attributes: &[opentelemetry_proto::tonic::common::v1::KeyValue]| {
        let found = attributes.iter().find(|attribute| attribute.key == "bulkhead.sequence").unwrap();
        let Some(Any::IntValue(number)) = found.value.clone().unwrap().value else { panic!("{found:?}") };
        u64::try_from(number).unwrap()
    };
    let numbers = records.iter().map(|record| number(&record.attributes)).collect();
    let request = Request { head, numbers };
    let (status, body) = answer(&request);
    let head = format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\nretry-after: 0\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&body).unwrap();
    Some(request)
}

/// A server that answers every request, by its number, on a thread of its own; what it was sent.
fn server(
    answer: impl Fn(usize, &Request) -> (u16, Vec<u8>) + Send + 'static,
) -> (u16, Receiver<(u16, Request)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, requests) = channel();
    std::thread::spawn(move || {
        let mut count = 0;
        loop {
            let (mut stream, _) = listener.accept().unwrap();
            let status = std::cell::Cell::new(0);
            let told = |request: &Request| {
                let answer = answer(count, request);
                status.set(answer.0);
                answer
            };
            while let Some(request) = serve(&mut stream, told) {
                if sender.send((status.get(), request)).is_err() {
                    return;
                }
            }
            count += 1;
        }
    });
    (port, requests)
}

fn otlp(url: String, tls: Tls) -> Settings {
    let kind = Kind::Otlp { url, headers: None, tls, host: "h".to_owned() };
    Settings { format: Format::Ocsf, ..settings(kind) }
}

fn accepted(requests: &Receiver<(u16, Request)>) -> Vec<u64> {
    requests
        .try_iter()
        .filter(|(status, _)| *status == 200)
        .flat_map(|(_, request)| request.numbers)
        .collect()
}

#[test]
fn a_receiver_that_is_overloaded_or_takes_little_at_once_gets_all() {
    let state = tempfile::tempdir().unwrap();
    let (port, requests) = server(|connection, request| match request.numbers.len() {
        _ if connection < 2 => (503, Vec::new()),
        101.. => (413, Vec::new()),
        _ => (200, Vec::new()),
    });
    let source = Arc::new(Memory::of("h", 2000));
    let sinks =
        start(otlp(format!("http://127.0.0.1:{port}/v1/logs"), Tls::default()), &source, state.path());
    let progress = wait_for(&sinks, "all sent", |progress| progress.position == 2000);
    assert_eq!((progress.refused, progress.problem), (0, None));
    sinks.end(LIMIT);
    let received = accepted(&requests);
    assert_eq!(received, (0..2000).collect::<Vec<_>>(), "each was confirmed, and none sent again");
}

#[test]
fn records_that_a_receiver_refuses_are_counted_and_one_that_is_too_large_stops_nothing() {
    let state = tempfile::tempdir().unwrap();
    let (port, requests) = server(|_, request| {
        let partial =
            ExportLogsPartialSuccess { rejected_log_records: 2, error_message: "too old".to_owned() };
        match request.numbers.contains(&7) {
            true => (413, Vec::new()),
            false => (200, ExportLogsServiceResponse { partial_success: Some(partial) }.encode_to_vec()),
        }
    });
    let source = Arc::new(Memory::of("h", 8));
    let sinks =
        start(otlp(format!("http://127.0.0.1:{port}/v1/logs"), Tls::default()), &source, state.path());
    // 0 to 3, 4 and 5, 6, and 7 is given up: two of each of the first three.
    let progress = wait_for(&sinks, "all sent", |progress| progress.position == 8);
    assert_eq!(progress.refused, 7);
    sinks.end(LIMIT);
    assert_at_least_once(&accepted(&requests), 7);
}

#[test]
fn a_receiver_gets_more_at_once_again() {
    let state = tempfile::tempdir().unwrap();
    let (port, requests) = server(|_, request| match request.numbers {
        ref numbers if numbers.contains(&100) && numbers.len() > 8 => (413, Vec::new()),
        _ => (200, Vec::new()),
    });
    let source = Arc::new(Memory::of("h", 5000));
    let sinks =
        start(otlp(format!("http://127.0.0.1:{port}/v1/logs"), Tls::default()), &source, state.path());
    wait_for(&sinks, "all sent", |progress| progress.position == 5000);
    sinks.end(LIMIT);
    let requests: Vec<_> =
        requests.try_iter().map(|(status, request)| (status, request.numbers.len())).collect();
    let after = requests.iter().rev().take_while(|(status, _)| *status == 200);
    let largest = after.map(|(_, length)| *length).max();
    assert!(largest > Some(100), "{requests:?}");
}

#[test]
fn a_key_of_another_certificate_and_what_is_secret_in_a_url_are_told_of_without_it() {
    let state = tempfile::tempdir().unwrap();
    let (one, other) = (Authority::new(state.path(), "one"), Authority::new(state.path(), "other"));
    let (chain, _) = one.client().identity.unwrap();
    let (_, key) = other.client().identity.unwrap();
    let tls = Tls { identity: Some((chain, key)), ..one.client() };
    let source = Arc::new(Memory::of("h", 1));
    let sinks = start(otlp("https://127.0.0.1:1/v1/logs".to_owned(), tls), &source, state.path());
    let told = wait_for(&sinks, "a problem", |progress| progress.problem.is_some()).problem.unwrap();
    assert!(told.contains("client.pem") && told.contains("client.key"), "{told}");
    sinks.end(LIMIT);

    let (port, _requests) = server(|_, _| (500, Vec::new()));
    for port in [port, 1] {
        let url = format!("http://user:word@127.0.0.1:{port}/v1/logs?key=word");
        let sinks = start(otlp(url, Tls::default()), &source, state.path());
        let told = wait_for(&sinks, "a problem", |progress| progress.problem.is_some()).problem.unwrap();
        assert!(told.contains(&format!("http://127.0.0.1:{port}/v1/logs")), "{told}");
        assert!(!told.contains("word"), "{told}");
        sinks.end(LIMIT);
    }
}

#[test]
fn https_goes_to_whom_the_authority_vouches_for_with_the_headers_of_a_file() {
    let state = tempfile::tempdir().unwrap();
    let authority = Authority::new(state.path(), "ca");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let headers = state.path().join("headers");
    fs::write(&headers, "# of the collector\nAuthorization: Bearer secret\n").unwrap();
    let source = Arc::new(Memory::of("h", 10));
    let kind = Kind::Otlp {
        url: format!("https://localhost:{port}/v1/logs"),
        headers: Some(headers.clone()),
        tls: authority.client(),
        host: "h".to_owned(),
    };
    let sinks = start(settings(kind.clone()), &source, state.path());
    let mut connection = accept(&listener, &authority.server());
    let request = serve(&mut connection, |_| (200, Vec::new())).unwrap();
    assert!(request.head.starts_with("post /v1/logs http/1.1\r\n"), "{}", request.head);
    assert!(request.head.contains("authorization: bearer secret\r\n"), "{}", request.head);
    assert_eq!(request.numbers, (0..10).collect::<Vec<_>>());
    wait_for(&sinks, "all sent", |progress| progress.position == 10);
    sinks.end(LIMIT);

    fs::write(&headers, "Bearer-secret").unwrap();
    source.grow(1);
    let sinks = start(settings(kind), &source, state.path());
    let problem = wait_for(&sinks, "a problem", |progress| progress.problem.is_some()).problem.unwrap();
    assert!(problem.contains("headers:1: is no header") && !problem.contains("secret"), "{problem}");
    sinks.end(LIMIT);
}

#[test]
fn an_answer_that_is_no_success_keeps_the_records() {
    let state = tempfile::tempdir().unwrap();
    let (port, _requests) = server(|_, _| (401, b"who are you?".to_vec()));
    let source = Arc::new(Memory::of("h", 10));
    let sinks =
        start(otlp(format!("http://127.0.0.1:{port}/v1/logs"), Tls::default()), &source, state.path());
    let progress = wait_for(&sinks, "a problem", |progress| progress.problem.is_some());
    assert!(progress.problem.as_ref().unwrap().contains("401"), "{progress:?}");
    assert_eq!((progress.position, progress.behind), (0, 10));
    sinks.end(LIMIT);
}
