//! A host that began conversations, and whose sockets are gone: nothing there sends any more, and whoever sends
//! to it is told at once.

use std::io::{Error, ErrorKind, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use bulkhead_engine::Reason;

use super::pairs::{AT_ONCE, Bulk, Kind, Pair};
use super::{BACKUP, Peer, empty_the_table, open, reasons};
use crate::site::{Over, Site, WEB};

/// What an end of a kind sends at a time, bytes.
const fn block(kind: Kind) -> usize {
    if matches!(kind, Kind::Bulk) { 64 << 10 } else { 1 }
}

/// Whether that is what a reset comes to. One that has heard a FIN is told in other words.
fn is_reset(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}

/// All of these ends send at once, and go on until they are reset: how long that took, by end. None: it was
/// not within the time.
fn resets(ends: &[(Kind, &TcpStream)]) -> Vec<Option<Duration>> {
    ends.iter().for_each(|(_, end)| end.set_nonblocking(true).unwrap());
    let mut begun = vec![None; ends.len()];
    let mut reset = vec![None; ends.len()];
    let deadline = Instant::now() + 3 * AT_ONCE;
    while reset.contains(&None) && Instant::now() < deadline {
        for (index, (kind, end)) in
            ends.iter().enumerate().filter(|(index, _)| reset[*index].is_none()).collect::<Vec<_>>()
        {
            let mut end: &TcpStream = end;
            let started = *begun[index].get_or_insert_with(Instant::now);
            match end.write(&vec![7; block(*kind)]) {
                Err(error) if is_reset(&error) => reset[index] = Some(started.elapsed()),
                Err(error) if error.kind() != ErrorKind::WouldBlock => panic!("{kind:?}: {error}"),
                _ => {}
            }
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    reset
}

fn are_told(label: &str, over: Over, with_peer: bool) {
    let mut site = Site::dual(label, over, &[WEB, BACKUP], &[]);
    site.start();
    let mut pairs = open(&site);
    pairs.retain(|pair| !pair.is_inward);
    let bulk = Bulk::start(&pairs);
    let peer = with_peer.then(|| Peer::start(&site));
    bulk.goes_on();
    bulk.stop();
    pairs.iter_mut().for_each(Pair::forget_server);
    empty_the_table(&mut site);
    let ends: Vec<_> = pairs.iter().filter_map(|pair| Some((pair.kind, pair.speaking_client()?))).collect();
    let told = resets(&ends);
    let mut times: Vec<_> = told.iter().flatten().collect();
    times.sort();
    println!(
        "{label}: {} of {} told, median {:?}, last {:?}",
        times.len(),
        ends.len(),
        times.get(times.len() / 2),
        times.last()
    );
    for ((kind, end), told) in ends.iter().zip(&told) {
        assert!(told.is_some_and(|time| time < AT_ONCE), "{kind:?} {end:?}: {told:?}");
    }
    assert_ne!(reasons(&site, Reason::NoFlow), 0, "what they sent stays dropped");
    drop(peer);
}

#[test]
fn who_only_sends_to_a_host_that_started_again_is_told_at_once() {
    are_told("convs", Over::Ethernet, false);
}

#[test]
fn who_only_sends_to_a_host_that_started_again_is_told_at_once_with_an_agent() {
    are_told("convsp", Over::Ethernet, true);
}

#[test]
fn who_only_sends_to_a_host_that_started_again_is_told_at_once_over_the_tunnel() {
    are_told("convst", Over::Tunnel, false);
}

#[test]
fn an_agent_that_may_not_send_resets_says_so_and_enforces_all_the_same() {
    let mut site = Site::dual("convw", Over::Ethernet, &[WEB, BACKUP], &[]);
    let pid = site.launch_without_raw_sockets();
    site.wait_for("the agent answers", |status| status["agent"]["pid"] == pid);
    assert!(site.log().contains("or with CAP_NET_RAW"), "{}", site.log());
    let mut pair = Pair::open(&site, Kind::Idle, 1);
    pair.forget_server();
    site.kill();
    std::fs::remove_file(site.layout().join("state/FLOWS")).unwrap();
    site.launch_without_raw_sockets();
    site.wait_for("a table of flows", |status| status["state"] == "enforced" && !status["agent"].is_null());
    let told = resets(&[(Kind::Idle, pair.speaking_client().unwrap())]);
    assert_eq!(told, [None]);
    assert_ne!(reasons(&site, Reason::NoFlow), 0);
}
