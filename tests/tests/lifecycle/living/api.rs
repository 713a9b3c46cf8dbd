//! Tailscale's HTTP API as far as it is asked, and its faults.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::site::Site;

/// How it answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// As it should.
    Well,
    /// By another status, such as `503 Service Unavailable`.
    Status(&'static str),
    /// By this, to whatever it is asked.
    Text(String),
    /// Not at all: the connection stays open.
    Hangs,
}

/// What it answers from.
pub struct Told {
    pub devices: Vec<Value>,
    pub users: Vec<Value>,
    pub attributes: Value,
    pub expiries: Value,
    pub way: Way,
    /// Rounds of questions that have begun, each with the list of devices.
    begun: u64,
    /// Devices of the last one that were not asked for yet.
    left: usize,
    /// The last round that is over, and since when.
    over: (u64, Instant),
    held: Vec<TcpStream>,
}

/// The API, served by a host of a site.
#[derive(Clone)]
pub struct Api {
    at: SocketAddr,
    told: Arc<(Mutex<Told>, Condvar)>,
}

impl Api {
    pub fn serve(site: &Site, host: &str) -> Self {
        let at = SocketAddr::new(site.underlay(host), 8443);
        let listener = site.namespace(host).run(|| TcpListener::bind(at)).unwrap().unwrap();
        let told = Told {
            devices: Vec::new(),
            users: Vec::new(),
            attributes: json!({}),
            expiries: json!({}),
            way: Way::Well,
            begun: 0,
            left: 0,
            over: (0, Instant::now()),
            held: Vec::new(),
        };
        let api = Self { at, told: Arc::new((Mutex::new(told), Condvar::new())) };
        let serving = api.clone();
        // It ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let api = serving.clone();
                std::thread::spawn(move || api.answer(stream.unwrap()));
            }
        });
        api
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.at)
    }

    pub fn told(&self) -> MutexGuard<'_, Told> {
        self.told.0.lock().unwrap()
    }

    /// Changes what it tells, and waits until somebody has been told all of it; when that was.
    pub fn tell(&self, change: impl FnOnce(&mut Told)) -> Instant {
        let (told, given) = &*self.told;
        let mut told = told.lock().unwrap();
        change(&mut told);
        let before = told.begun;
        let limit = Duration::from_secs(20);
        let (told, over) = given.wait_timeout_while(told, limit, |told| told.over.0 <= before).unwrap();
        assert!(!over.timed_out(), "nobody asks");
        told.over.1
    }

    fn answer(&self, mut stream: TcpStream) {
        loop {
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") {
                match stream.read(&mut byte) {
                    Ok(1) => head.push(byte[0]),
                    _ => return,
                }
            }
            let head = String::from_utf8_lossy(&head).into_owned();
            let (told, given) = &*self.told;
            let mut told = told.lock().unwrap();
            let (status, body) = match &told.way {
                Way::Well if !head.to_lowercase().contains("authorization: bearer secret-1\r\n") => {
                    ("401 Unauthorized", "{}".to_owned())
                }
                Way::Well => match told.of(&head) {
                    Some(body) => ("200 OK", body),
                    None => ("404 Not Found", "{}".to_owned()),
                },
                Way::Status(status) => (*status, "{}".to_owned()),
                Way::Text(text) => ("200 OK", text.clone()),
                Way::Hangs => {
                    told.held.push(stream);
                    return;
                }
            };
            if head.contains("/devices?") {
                (told.begun, told.left) = (told.begun + 1, told.devices.len());
            }
            let is_of_device = head.contains("/attributes ");
            drop(told);
            let length = body.len();
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}");
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
            if is_of_device {
                let mut told = self.told();
                told.left = told.left.saturating_sub(1);
                if told.left == 0 {
                    told.over = (told.begun, Instant::now());
                    given.notify_all();
                }
            }
        }
    }
}

impl Told {
    fn of(&self, head: &str) -> Option<String> {
        let path = head.split(' ').nth(1)?;
        Some(match path {
            "/api/v2/tailnet/example.com/devices?fields=all" => json!({"devices": self.devices}).to_string(),
            "/api/v2/tailnet/example.com/users" => json!({"users": self.users}).to_string(),
            _ => {
                let id = path.strip_prefix("/api/v2/device/")?.strip_suffix("/attributes")?;
                let known = self.attributes.get(id).cloned().unwrap_or_else(|| json!({}));
                let expiries = self.expiries.get(id).cloned().unwrap_or_else(|| json!({}));
                json!({"attributes": known, "expiries": expiries}).to_string()
            }
        })
    }
}
