//! What an agent's credentials allow.

use std::time::Duration;

use bulkhead_channel::{Appended, Client, ENROLMENTS, EVENTS, Error, FILES, append, push};
use bytes::Bytes;

use crate::fleet::{Fleet, inventory, policy};
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
    // Evidence cannot be taken away, by any service either; nor does any change a stream, or have it deliver.
    for name in ["publisher", "enroller", "collector"] {
        let service = site.service(name).await;
        for verb in ["STREAM.PURGE", "STREAM.UPDATE", "STREAM.DELETE", "CONSUMER.CREATE"] {
            denied(&service, &format!("$JS.API.{verb}.{EVENTS}")).await;
        }
        denied(&service, &format!("$JS.API.STREAM.UPDATE.{FILES}")).await;
        denied(&service, "ev.oms-9").await;
    }
    let maker = site.service("streams").await;
    for stream in [EVENTS, ENROLMENTS] {
        denied(&maker, &format!("$JS.API.STREAM.PURGE.{stream}")).await;
    }
}
