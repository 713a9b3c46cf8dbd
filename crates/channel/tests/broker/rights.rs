//! What an agent's credentials allow.

use std::time::Duration;

use bulkhead_channel::{
    Appended, Client, ENROLMENTS, EVENTS, Error, FILES, Offer, append, enrolled, invite, push,
};
use bytes::Bytes;

use crate::fleet::{Fleet, inventory, policy};
use crate::raw::Raw;
use crate::site::{SOON, Site};

async fn denied(agent: &Client, subject: &str) {
    let answer = agent.request(subject, &[], Bytes::from_static(b"x")).await;
    assert!(matches!(answer, Err(Error::Denied(_))), "{subject}: {answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_reads_the_fleets_files_and_appends_to_its_own_evidence_and_nothing_else() {
    let site = Site::closed(1).await;
    let fleet = Fleet::new(&policy(1), &inventory(3, "tag:oms"));
    let publisher = site.service("publisher").await;
    push(&publisher, fleet.path()).await.unwrap();
    let agent = site.agent("oms-9").await;

    // What it may.
    let head = agent
        .request(&format!("$JS.API.DIRECT.GET.{FILES}.fleet.files.head"), &[], Bytes::new())
        .await
        .unwrap();
    assert_eq!(head.header("Nats-Subject"), Some("fleet.files.head"));
    assert_eq!(append(&agent, "oms-9", 0, Bytes::from_static(b"e")).await.unwrap(), Appended::Stored(1));

    // What it may not: eight things that somebody who has broken into a host would try.
    denied(&agent, "ev.oms-1").await;
    denied(&agent, "fleet.files.head").await;
    denied(&agent, &format!("$JS.API.CONSUMER.CREATE.{FILES}")).await;
    denied(&agent, &format!("$JS.API.STREAM.DELETE.{EVENTS}")).await;
    denied(&agent, "enrol.x").await;
    for subject in ["_INBOX_oms-1.>", "ev.>", "$JS.EVENT.>"] {
        let mut told = agent.denied();
        told.mark_unchanged();
        let _queue = agent.subscribe(subject, 1).await.unwrap();
        tokio::time::timeout(SOON, told.changed()).await.unwrap().unwrap();
        let words = told.borrow().to_ascii_lowercase();
        assert!(words.contains("subscription") && words.contains(&subject.to_ascii_lowercase()), "{words}");
    }
    // And some more.
    denied(&agent, &format!("$JS.API.STREAM.PURGE.{EVENTS}")).await;
    denied(&agent, &format!("$JS.API.STREAM.INFO.{FILES}")).await;
    denied(&agent, &format!("$JS.API.DIRECT.GET.{EVENTS}.ev.oms-1")).await;
    denied(&agent, &format!("$JS.API.DIRECT.GET.{ENROLMENTS}.enrolled.node.oms-1")).await;
    denied(&agent, &format!("$JS.API.STREAM.MSG.GET.{EVENTS}")).await;
    denied(&agent, "$SYS.REQ.CLAIMS.UPDATE").await;

    // Nobody at all comes in without credentials.
    let nobody = Client::new(site.settings(None, "oms-9")).unwrap();
    let refused = nobody.connected(Duration::from_secs(2)).await.unwrap_err();
    assert!(refused.to_string().contains("does not accept"), "{refused}");
    // Nor with credentials of another fleet.
    let other = bulkhead_channel::Account::create(&site.directory.path().join("other")).unwrap();
    let file = site.directory.path().join("stranger.creds");
    other.agent_credentials("oms-9").unwrap().write(&file).unwrap();
    let stranger = Client::new(site.settings(Some(file), "oms-9")).unwrap();
    assert!(stranger.connected(Duration::from_secs(2)).await.is_err());
    // Evidence cannot be taken away, by whoever publishes either.
    let answer = publisher.request(&format!("$JS.API.STREAM.PURGE.{EVENTS}"), &[], Bytes::new()).await;
    assert!(matches!(answer, Err(Error::Denied(_))), "{answer:?}");
}

/// How many messages a stream holds, and the number of its last one.
async fn state(service: &Client, stream: &str) -> Option<(u64, u64)> {
    let info = service.request(&format!("$JS.API.STREAM.INFO.{stream}"), &[], Bytes::new()).await.unwrap();
    let info: serde_json::Value = serde_json::from_slice(&info.payload).unwrap();
    let number = |key: &str| info.pointer(&format!("/state/{key}")).and_then(serde_json::Value::as_u64);
    Some((number("messages")?, number("last_seq")?))
}

/// Whoever asks says where the answer goes, and servers check no permission on that. So what a host asks, or somebody with
/// an invitation, must not end as a request to anything but what they may ask themselves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_no_request() {
    let site = Site::plain().await;
    let fleet = Fleet::new(&policy(1), &inventory(3, "tag:oms"));
    let publisher = site.service("publisher").await;
    push(&publisher, fleet.path()).await.unwrap();
    let service = site.service("enroller").await;
    bulkhead_channel::mark_removed(&service, "oms-1").await.unwrap();
    let agent = site.agent("oms-1").await;
    assert_eq!(append(&agent, "oms-1", 0, Bytes::from_static(b"e")).await.unwrap(), Appended::Stored(1));
    site.agent_settings("oms-9");
    let own = site.directory.path().join("oms-9.creds");
    let offer = Offer { node: "x".to_owned(), addresses: vec!["100.64.0.1".to_owned()], tags: Vec::new() };
    let one = invite(site.account(), &offer, 600, &site.cluster.urls(), None).unwrap();
    let (by_invitation, id) = (site.directory.path().join("x.creds"), id(&one.credentials));
    std::fs::write(&by_invitation, &one.credentials).unwrap();
    let (_, task) = crate::enrolments::enroller(&site).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let before = [
        state(&publisher, FILES).await,
        state(&publisher, EVENTS).await,
        state(&publisher, ENROLMENTS).await,
    ];

    let replies = [
        format!("$JS.API.STREAM.DELETE.{EVENTS}"),
        format!("$JS.API.STREAM.PURGE.{EVENTS}"),
        format!("$JS.API.STREAM.DELETE.{ENROLMENTS}"),
        format!("$JS.API.STREAM.DELETE.{FILES}"),
        "fleet.files.head".to_owned(),
        "fleet.files.parts.x.0".to_owned(),
        "enrolled.node.oms-1".to_owned(),
        "ev.oms-1".to_owned(),
        "ev.new".to_owned(),
        format!("enrol.{id}"),
    ];
    let files = format!("$JS.API.DIRECT.GET.{FILES}.fleet.files");
    // An empty answer, a full one, and one of a stream that refuses.
    let mut host = Raw::connect(&site.cluster.urls()[0], &own);
    for reply in &replies {
        for asked in [format!("{files}.none"), format!("{files}.head")] {
            host.publish(&asked, reply, b"");
        }
        host.publish_expecting(7, "ev.oms-9", reply, b"x");
    }
    host.settle();
    let mut invited = Raw::connect(&site.cluster.urls()[0], &by_invitation);
    for reply in &replies {
        invited.publish(&format!("enrol.{id}"), reply, b"x");
    }
    invited.settle();
    tokio::time::sleep(Duration::from_secs(1)).await;

    let after = [
        state(&publisher, FILES).await,
        state(&publisher, EVENTS).await,
        state(&publisher, ENROLMENTS).await,
    ];
    assert_eq!(before, after, "nothing is stored and nothing deleted");
    assert!(enrolled(&service, "oms-1").await.unwrap().unwrap().removed.is_some());
    push(&publisher, fleet.path()).await.unwrap();
    // What was stored by right is answered where it is asked.
    assert_eq!(append(&agent, "oms-1", 1, Bytes::from_static(b"f")).await.unwrap(), Appended::Stored(2));
    task.abort();
}

/// An invitation's id, which is its user's name.
fn id(credentials: &str) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), credentials).unwrap();
    bulkhead_channel::Credentials::read(file.path()).unwrap().name().to_owned()
}
