//! Evidence: each batch once, whatever dies.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bulkhead_channel::{Appended, Client, EVENTS, append, events_of};
use bulkhead_testkit::setting;
use bytes::Bytes;

use crate::site::{SOON, Site};

/// Batches of each host.
const BATCHES: u64 = 8;

/// What became of a batch, once somebody says it.
async fn settled(client: &Client, name: &str, last: u64, batch: &Bytes) -> Appended {
    let until = Instant::now() + Duration::from_secs(120);
    loop {
        match append(client, name, last, batch.clone()).await {
            Ok(appended) => return appended,
            Err(error) => assert!(error.is_passing() && Instant::now() < until, "{name}: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(100 + fastrand::u64(0..300))).await;
    }
}

/// Sends a batch; returns its number.
async fn send(client: &Client, name: &str, last: u64, batch: &Bytes, already: &AtomicU64) -> u64 {
    match settled(client, name, last, batch).await {
        Appended::Stored(number) => number,
        Appended::Already(number) => {
            already.fetch_add(1, Ordering::Relaxed);
            number
        }
        Appended::Behind(number) => panic!("{name}: {number} after {last}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_batch_is_stored_once_though_the_leader_is_killed() {
    let hosts = setting("BULKHEAD_SENDERS", 50);
    let mut site = Site::open(3).await;
    let (already, mut tasks) = (Arc::new(AtomicU64::new(0)), tokio::task::JoinSet::new());
    let begun = Instant::now();
    for host in 0..hosts {
        let (settings, already) = (site.settings(None, &format!("h{host}")), Arc::clone(&already));
        tasks.spawn(async move {
            let (client, name) = (Client::new(settings).unwrap(), format!("h{host}"));
            client.connected(SOON).await.unwrap();
            let (mut last, mut before) = (0, (0, Bytes::new()));
            for number in 0..BATCHES {
                let mut batch = vec![b'x'; 4_000];
                batch[..8].copy_from_slice(&number.to_le_bytes());
                let batch = Bytes::from(batch);
                before = (last, batch.clone());
                last = send(&client, &name, last, &batch, &already).await;
                tokio::time::sleep(Duration::from_millis(fastrand::u64(0..100))).await;
            }
            // A resend long after: refused by arithmetic, not by a window of time.
            assert_eq!(settled(&client, &name, before.0, &before.1).await, Appended::Already(last));
            // And one of a host that was told of more than there is.
            let ahead = settled(&client, &name, last + 1_000, &Bytes::from_static(b"y")).await;
            assert_eq!(ahead, Appended::Behind(last));
        });
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let leader = site.cluster.leader(EVENTS).unwrap();
    site.cluster.kill(leader);
    while let Some(result) = tasks.join_next().await {
        result.unwrap();
    }
    let took = begun.elapsed();

    // Read back, one after the other.
    let reader = site.service("collector").await;
    let (mut next, mut seen) = (1_u64, std::collections::HashMap::<String, u64>::new());
    loop {
        let ask = serde_json::json!({ "seq": next, "next_by_subj": "ev.*" }).to_string();
        let message = reader.request(&format!("$JS.API.DIRECT.GET.{EVENTS}"), &[], ask.into()).await;
        let message = match message {
            Ok(message) => message,
            Err(error) if error.is_passing() => continue,
            Err(error) => panic!("{error}"),
        };
        if message.status == Some(404) {
            break;
        }
        let number = u64::from_le_bytes(message.payload[..8].try_into().unwrap());
        let subject = message.header("Nats-Subject").unwrap().to_owned();
        let expected = seen.entry(subject).or_default();
        assert_eq!(number, *expected, "no gap, no duplicate");
        *expected += 1;
        next = message.header("Nats-Sequence").unwrap().parse::<u64>().unwrap() + 1;
    }
    let stored: u64 = seen.values().sum();
    println!(
        "{stored} of {} batches of {hosts} hosts in {took:?}, {} found stored already, 0 gaps, 0 duplicates",
        hosts * BATCHES,
        already.load(Ordering::Relaxed)
    );
    assert_eq!((stored, seen.len() as u64), (hosts * BATCHES, hosts));
    assert!(seen.contains_key(&events_of("h0")));
}
