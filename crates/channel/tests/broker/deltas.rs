//! Large inventories and small changes.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use bulkhead_channel::{Channel, digest, push};
use bulkhead_fleet::{Client, Origin, Repository};
use bulkhead_testkit::setting;

use crate::fleet::{Fleet, below, inventory, policy};
use crate::site::Site;

/// What a host keeps: bundles by digest.
type Kept = Arc<Mutex<Vec<Vec<u8>>>>;

fn channel(site: &Site, kept: &Kept) -> Arc<Channel> {
    let kept = Arc::clone(kept);
    let find = move |wanted: &str| kept.lock().unwrap().iter().find(|file| digest(file) == wanted).cloned();
    Arc::new(Channel::new(site.settings(None, "host")).unwrap().with_kept(find))
}

/// Verifies and fetches the inventory.
async fn fetch(client: &mut Client, channel: &Arc<Channel>) -> Vec<u8> {
    let origin: Arc<dyn Origin> = channel.clone();
    let checked = client.check(&origin).await.unwrap();
    checked.bundle(&*origin).await.unwrap().into_bytes()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_changes_among_many_nodes_are_a_few_kilobytes() {
    let nodes = usize::try_from(setting("BULKHEAD_NODES", 10_000)).unwrap();
    let site = Site::open(1).await;
    let fleet = Fleet::new(&policy(0), &inventory(nodes, "tag:web"));
    let publisher = site.service("publisher").await;
    let first = push(&publisher, fleet.path()).await.unwrap();
    let kept = Kept::default();
    let one = channel(&site, &kept);
    let mut client = Client::open(
        Repository::Inventory,
        &fleet.root(Repository::Inventory),
        &below(site.directory.path(), "one"),
    )
    .unwrap();
    let begun = Instant::now();
    let old = fetch(&mut client, &one).await;
    println!("{nodes} nodes: {} B, {} B stored, whole in {:?}", old.len(), first.stored, begun.elapsed());
    assert_eq!(one.counts().wholes, 1);
    kept.lock().unwrap().push(old.clone());

    // Two tags and a node more.
    fleet.publish(None, Some(&inventory(nodes + 1, "tag:oms")));
    let begun = Instant::now();
    let pushed = push(&publisher, fleet.path()).await.unwrap();
    let made = begun.elapsed();
    one.changed().await;
    let begun = Instant::now();
    let new = fetch(&mut client, &one).await;
    let applied = begun.elapsed();
    let size = pushed.differences[0].2;
    println!(
        "three changes: difference of {size} B, pushed in {made:?}, verified and applied in {applied:?}, head {} B",
        pushed.head
    );
    assert_eq!(new, fleet.bundle(Repository::Inventory).into_bytes());
    assert!(size <= 8 << 10, "{size}");
    assert!(applied < bulkhead_testkit::lab::slower(std::time::Duration::from_secs(1)), "{applied:?}");
    assert_eq!((one.counts().differences, one.counts().wholes, one.counts().fallbacks), (1, 1, 0));

    // Pushed again, there is nothing to do; a host whose base is damaged fetches the whole.
    assert!(!push(&publisher, fleet.path()).await.unwrap().is_new);
    let liar = old.clone();
    let lying = move |_: &str| {
        let mut base = liar.clone();
        base[1000] ^= 1;
        Some(base)
    };
    let two = Arc::new(Channel::new(site.settings(None, "two")).unwrap().with_kept(lying));
    let mut client = Client::open(
        Repository::Inventory,
        &fleet.root(Repository::Inventory),
        &below(site.directory.path(), "two"),
    )
    .unwrap();
    assert_eq!(fetch(&mut client, &two).await, new);
    assert_eq!((two.counts().fallbacks, two.counts().wholes), (1, 1));
    // What nobody speaks of any more is removed: the third change on, the first inventory is gone.
    for change in 0..3 {
        fleet.publish(None, Some(&inventory(nodes + 2 + change, "tag:db")));
        push(&publisher, fleet.path()).await.unwrap();
    }
    let info = publisher
        .request(
            "$JS.API.STREAM.INFO.BULKHEAD_FLEET",
            &[],
            bytes::Bytes::from_static(b"{\"subjects_filter\":\"fleet.files.>\"}"),
        )
        .await
        .unwrap();
    let info = String::from_utf8_lossy(&info.payload).into_owned();
    assert!(!info.contains(&format!("parts.{}.", digest(&old))), "{info}");
    // A host that was away for all of it, and has the first one, gets there by one difference.
    let late = channel(&site, &kept);
    let mut client = Client::open(
        Repository::Inventory,
        &fleet.root(Repository::Inventory),
        &below(site.directory.path(), "late"),
    )
    .unwrap();
    assert_eq!(fetch(&mut client, &late).await, fleet.bundle(Repository::Inventory).into_bytes());
    assert_eq!((late.counts().differences, late.counts().wholes), (1, 0));
}
