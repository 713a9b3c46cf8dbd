//! What hosts do while servers are gone.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use bulkhead_channel::{FILES, digest, push};
use bulkhead_fleet::Repository;
use bulkhead_testkit::setting;

use crate::fleet::{Fleet, inventory, policy};
use crate::site::Site;
use crate::swarm::{ALONE, Swarm, share};

/// A large policy, so that there is something to fetch in parts after the head.
pub fn large(version: usize) -> String {
    (0..2_000)
        .map(|line| format!("// {version} {line} {:x}\n", (line + 1) * (version + 7) * 2_654_435_761))
        .collect::<String>()
        + &policy(version)
}

#[test]
fn all_have_a_change_though_the_leader_is_killed_in_its_midst() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let mut site = Site::closed(3).await;
        let fleet = Fleet::new(&large(0), &inventory(3, "tag:oms"));
        let publisher = site.service("publisher").await;
        push(&publisher, fleet.path()).await.unwrap();
        let count = setting("BULKHEAD_AGENTS", 100).min(300);
        let settings = (0..count).map(|number| site.agent_settings(&format!("host-{number}"))).collect();
        let mut swarm = Swarm::start(settings, &fleet, site.directory.path()).await;

        fleet.publish(Some(&large(1)), None);
        let wanted = digest(fleet.bundle(Repository::Policy).as_bytes());
        let leader = site.cluster.leader(FILES).unwrap();
        let begun = Instant::now();
        let path = fleet.path().to_owned();
        let pushing = tokio::spawn(async move { push(&publisher, &path).await });
        tokio::time::sleep(Duration::from_millis(15)).await;
        site.cluster.kill(leader);
        pushing.await.unwrap().unwrap();
        let times = swarm.all_have(&wanted, swarm.count(), begun).await;
        println!(
            "leader killed in a push: {} hosts: p50 {:?}, p99 {:?}, max {:?}",
            times.len(),
            share(&times, 0.5),
            share(&times, 0.99),
            times[times.len() - 1]
        );
        assert!(times[times.len() - 1] < Duration::from_secs(15));
    });
}

#[test]
fn hosts_are_current_soon_after_all_servers_come_back_by_one_request_each() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let mut site = Site::closed(3).await;
        let fleet = Fleet::new(&policy(0), &inventory(3, "tag:oms"));
        let publisher = site.service("publisher").await;
        push(&publisher, fleet.path()).await.unwrap();
        let count = setting("BULKHEAD_AGENTS", 100);
        let settings = (0..count).map(|number| site.agent_settings(&format!("host-{number}"))).collect();
        let mut swarm = Swarm::start(settings, &fleet, site.directory.path()).await;

        (0..3).for_each(|number| site.cluster.kill(number));
        let answered: Vec<u64> = swarm.channels.iter().map(|channel| channel.counts().heads).collect();
        // It is published while nobody can hear of it, and stored as soon as there is a majority of servers again.
        fleet.publish(Some(&policy(1)), None);
        let wanted = digest(fleet.bundle(Repository::Policy).as_bytes());
        let path = fleet.path().to_owned();
        let pushing = tokio::spawn(async move {
            // Whoever publishes does it again until it is done.
            while push(&publisher, &path).await.is_err() {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        });
        let gone = setting("BULKHEAD_OUTAGE", 6) as u64;
        tokio::time::sleep(Duration::from_secs(gone)).await;
        site.cluster.restart_all().unwrap();
        let back = Instant::now();
        let times = swarm.all_have(&wanted, swarm.count(), back).await;
        pushing.await.unwrap();
        tokio::time::sleep(Duration::from_secs(5)).await;
        let more = swarm.channels.iter().zip(answered).map(|(channel, before)| channel.counts().heads - before);
        let most = more.max().unwrap();
        println!(
            "all servers gone for {gone} s: {} hosts current: p50 {:?}, p99 {:?}, max {:?}; {most} answers to each at most",
            times.len(),
            share(&times, 0.5),
            share(&times, 0.99),
            times[times.len() - 1],
        );
        assert_eq!(most, 1, "one request each");
        assert!(times[times.len() - 1] < Duration::from_secs(30));
    });
}
