//! Whoever asks says where the answer goes, and servers check no permission on that. So what anybody asks must not end as
//! a request to anything.

use std::path::PathBuf;
use std::time::Duration;

use bulkhead_channel::{
    Appended, Client, Credentials, ENROLMENTS, EVENTS, FILES, Offer, append, enrolled, invite, mark_removed,
    push,
};
use bytes::Bytes;

use crate::fleet::{Fleet, inventory, policy};
use crate::raw::Raw;
use crate::site::Site;

/// How many messages each stream holds, and the number of its last one.
pub async fn states(maker: &Client) -> Vec<(u64, u64)> {
    let mut states = Vec::new();
    for stream in [FILES, EVENTS, ENROLMENTS] {
        let info = maker.request(&format!("$JS.API.STREAM.INFO.{stream}"), &[], Bytes::new()).await.unwrap();
        let info: serde_json::Value = serde_json::from_slice(&info.payload).unwrap();
        let number = |key: &str| info.pointer(&format!("/state/{key}")).unwrap().as_u64().unwrap();
        states.push((number("messages"), number("last_seq")));
    }
    states
}

/// An invitation's file of credentials, and its id.
fn invited(site: &Site) -> (PathBuf, String) {
    let offer = Offer { node: "x".to_owned(), addresses: vec!["100.64.0.1".to_owned()], tags: Vec::new() };
    let one = invite(site.account(), &offer, 600, &site.cluster.urls(), None).unwrap();
    let file = site.directory.path().join("x.creds");
    std::fs::write(&file, &one.credentials).unwrap();
    let id = Credentials::read(&file).unwrap().name().to_owned();
    (file, id)
}

/// One thing that somebody asks, whose answer changes nothing: empty, full, or a refusal.
enum Ask {
    Plain(String, &'static [u8]),
    /// What is stored only after a message of that number, which there is not.
    Store(String),
}

impl Ask {
    fn send(&self, raw: &mut Raw, reply: &str) {
        match self {
            Self::Plain(subject, payload) => raw.publish(subject, reply, payload),
            Self::Store(subject) => {
                let expected = "Nats-Expected-Last-Subject-Sequence: 7777";
                raw.publish_with(expected, subject, reply, b"x");
            }
        }
    }

    /// The same, without being carried out, for the trace of it.
    fn trace(&self, raw: &mut Raw, to: &str) {
        let (Self::Plain(subject, _) | Self::Store(subject)) = self;
        raw.publish_with(&format!("Nats-Trace-Dest: {to}\r\nNats-Trace-Only: true"), subject, "nowhere", b"");
    }
}

/// What each of those who have credentials may ask.
fn asks(id: &str) -> Vec<(&'static str, Vec<Ask>)> {
    let api = |verb: &str, stream: &str| format!("$JS.API.STREAM.{verb}.{stream}");
    let direct = |stream: &str, subject: &str| format!("$JS.API.DIRECT.GET.{stream}.{subject}");
    let files = || {
        vec![
            Ask::Plain(direct(FILES, "fleet.files.none"), b""),
            Ask::Plain(direct(FILES, "fleet.files.head"), b""),
        ]
    };
    let publishes = || {
        let own = vec![
            Ask::Plain(api("INFO", FILES), b""),
            Ask::Plain(api("PURGE", FILES), br#"{"filter":"fleet.files.none"}"#),
            Ask::Store("fleet.files.head".to_owned()),
        ];
        [files(), own].concat_asks()
    };
    let records = vec![
        Ask::Plain(direct(ENROLMENTS, "enrolled.node.oms-1"), b""),
        Ask::Plain(direct(ENROLMENTS, "enrolled.node.none"), b""),
        Ask::Store("enrolled.node.oms-1".to_owned()),
    ];
    let next = format!("$JS.API.DIRECT.GET.{EVENTS}");
    let collects = vec![
        Ask::Plain(next.clone(), br#"{"seq":1,"next_by_subj":"ev.*"}"#),
        Ask::Plain(next, br#"{"seq":99,"next_by_subj":"ev.*"}"#),
        Ask::Plain(api("INFO", EVENTS), b""),
    ];
    vec![
        ("host", [files(), vec![Ask::Store("ev.oms-9".to_owned())]].concat_asks()),
        ("invitation", vec![Ask::Plain(format!("enrol.{id}"), b"x")]),
        ("publisher", publishes()),
        ("enroller", [publishes(), records].concat_asks()),
        ("collector", collects),
    ]
}

trait Concat {
    fn concat_asks(self) -> Vec<Ask>;
}

impl<const N: usize> Concat for [Vec<Ask>; N] {
    fn concat_asks(self) -> Vec<Ask> {
        self.into_iter().flatten().collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_no_request() {
    let site = Site::plain(3).await;
    let fleet = Fleet::new(&policy(1), &inventory(3, "tag:oms"));
    let publisher = site.service("publisher").await;
    push(&publisher, fleet.path()).await.unwrap();
    let service = site.service("enroller").await;
    mark_removed(&service, "oms-1").await.unwrap();
    let agent = site.agent("oms-1").await;
    assert_eq!(append(&agent, "oms-1", 0, Bytes::from_static(b"e")).await.unwrap(), Appended::Stored(1));
    site.agent_settings("oms-9");
    let (by_invitation, id) = invited(&site);
    let (list, task) = crate::enrolments::enroller(&site).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let maker = site.service("streams").await;
    let before = states(&maker).await;

    let api = |verb: &str, stream: &str| format!("$JS.API.STREAM.{verb}.{stream}");
    let mut replies: Vec<String> = [FILES, EVENTS, ENROLMENTS]
        .iter()
        .flat_map(|stream| ["DELETE", "PURGE", "UPDATE"].map(|verb| api(verb, stream)))
        .collect();
    replies.extend(
        [
            "$JS.API.STREAM.CREATE.OTHER",
            "fleet.files.head",
            "fleet.files.parts.x.0",
            "fleet.head",
            "enrolled.node.oms-1",
            "enrolled.node.new",
            "ev.oms-1",
            "ev.new",
            "$SYS.REQ.CLAIMS.UPDATE",
            "fleet.api.PURGE.BULKHEAD_FLEET",
        ]
        .map(str::to_owned),
    );
    replies.push(format!("enrol.{id}"));
    for (who, asks) in asks(&id) {
        let file = match who {
            "host" => site.directory.path().join("oms-9.creds"),
            "invitation" => by_invitation.clone(),
            service => site.service_settings(service).credentials.unwrap(),
        };
        // At the server that leads a stream, and at those to which answers come over routes.
        for url in site.cluster.urls() {
            let mut raw = Raw::connect(&url, &file);
            for reply in &replies {
                asks.iter().for_each(|ask| ask.send(&mut raw, reply));
            }
            raw.settle();
            // Nor does a message say where its trace goes, beyond what whoever asks may publish to.
            asks.iter().for_each(|ask| ask.trace(&mut raw, "ev.oms-1"));
            raw.settle_refused();
        }
        tokio::time::sleep(Duration::from_millis(400)).await;
        assert_eq!(before, states(&maker).await, "{who}: nothing is stored and nothing deleted");
    }
    assert!(enrolled(&service, "oms-1").await.unwrap().unwrap().removed.is_some());
    assert!(list.is_empty());
    push(&publisher, fleet.path()).await.unwrap();
    // What was stored by right is answered where it is asked.
    assert_eq!(append(&agent, "oms-1", 1, Bytes::from_static(b"f")).await.unwrap(), Appended::Stored(2));
    // Within the streams' account all of it would have come about: no service may be there.
    let before = states(&maker).await;
    let mut raw =
        Raw::connect(&site.cluster.urls()[0], &site.service_settings("streams").credentials.unwrap());
    raw.publish(&api("INFO", FILES), "enrolled.node.oms-1", b"");
    raw.settle();
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_ne!(before, states(&maker).await, "the test sees what it looks for");
    task.abort();
}
