//! Open conversations whose flows are gone: a table that began anew, another agent, a host that
//! started again. Each goes on, or is reset at once; none hangs.

mod forgotten;
mod forwarded;
mod pairs;
mod probes;

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use bulkhead_engine::Reason;
use bulkhead_testkit::lab::{self, Process, slower};
use bulkhead_testkit::setting;

use crate::site::{Over, Site, WEB};
use pairs::{Bulk, Kind, Pair};

/// Lets the server use port 9000 of the client.
const BACKUP: &str =
    r#"{"name": "backup", "action": "accept", "src": ["tag:server"], "dst": ["tag:client:9000"]}"#;
const LIMIT: Duration = Duration::from_secs(20);

/// Conversations of each kind.
fn count() -> usize {
    setting("BULKHEAD_CONVERSATIONS", 100) as usize
}

/// The client's own agent.
struct Peer {
    namespace: String,
    instance: String,
    agent: Process,
}

impl Peer {
    fn start(site: &Site) -> Self {
        let instance = format!("{}-peer", site.instance());
        site.write("peer.toml", &site.configuration("client", site.interface()));
        let mut command = Command::new(lab::bulkhead().unwrap());
        command.args(["--instance", &instance, "run", "--config", &site.path("peer.toml")]);
        let (client, log) = (site.namespace("client"), site.path("peer.log"));
        let agent = Process::spawn(client, &mut command, log.as_ref()).unwrap();
        let peer = Self { namespace: client.name().to_owned(), instance, agent };
        let deadline = Instant::now() + slower(3 * LIMIT);
        while !peer.bulkhead("status").status.success() {
            assert!(Instant::now() < deadline, "{}", peer.agent.log());
            std::thread::sleep(Duration::from_millis(100));
        }
        peer
    }

    fn bulkhead(&self, word: &str) -> Output {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.namespace)).arg(lab::bulkhead().unwrap());
        command.args(["--instance", &self.instance, word]);
        lab::run_within(&mut command, slower(LIMIT)).unwrap()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.bulkhead("detach");
        for base in ["/run/bulkhead", "/var/lib/bulkhead"] {
            let _ = std::fs::remove_dir_all(format!("{base}/{}", self.instance));
        }
    }
}

/// The agent starts again with a table of flows that knows nothing, and records nothing: its own is
/// gone, and all else as it was.
fn empty_the_table(site: &mut Site) {
    site.kill();
    std::fs::remove_file(site.layout().join("state/FLOWS")).unwrap();
    site.start();
}

/// Of each kind so many conversations, of both families, begun by either end.
fn open(site: &Site) -> Vec<Pair> {
    allow_many_files();
    let kinds = [Kind::Idle, Kind::HalfClosed, Kind::Bulk, Kind::Pooled];
    let each = (0..count()).flat_map(|index| kinds.map(|kind| (kind, index)));
    each.map(|(kind, index)| Pair::open(site, kind, index)).collect()
}

/// As many open files as this process may have.
fn allow_many_files() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a limit to fill in, and then to read.
    let answers = unsafe {
        let read = libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        limit.rlim_cur = limit.rlim_max;
        [read, libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit)]
    };
    assert_eq!(answers, [0, 0], "{}", std::io::Error::last_os_error());
}

fn reasons(site: &Site, reason: Reason) -> u64 {
    crate::site::account::packets(&site.status(), reason)
}

fn goes_on(label: &str, over: Over, with_peer: bool) {
    let mut site = Site::dual(label, over, &[WEB, BACKUP], &[]);
    site.start();
    let mut pairs = open(&site);
    let bulk = Bulk::start(&pairs);
    let resumed = |site: &Site| reasons(site, Reason::Resumed);

    // First the agent alone, then with a table that knows nothing.
    site.kill();
    site.start();
    pairs.iter_mut().for_each(Pair::goes_on);
    assert_eq!(resumed(&site), 0, "another agent loses nothing");
    empty_the_table(&mut site);
    pairs.iter_mut().for_each(Pair::goes_on);
    bulk.goes_on();
    let found = resumed(&site);
    assert!(found >= pairs.len() as u64, "{found}: not all had lost their flows");

    // With an agent at the other end, too.
    empty_the_table(&mut site);
    let peer = with_peer.then(|| Peer::start(&site));
    pairs.iter_mut().for_each(Pair::goes_on);
    bulk.goes_on();
    drop(peer);
}

#[test]
fn conversations_outlive_their_flows_over_ethernet() {
    goes_on("conve", Over::Ethernet, true);
}

#[test]
fn conversations_outlive_their_flows_over_the_tunnel() {
    goes_on("convt", Over::Tunnel, false);
}

/// One end is a host that started again: it knows of no conversation. The other end has an agent, or not.
fn is_reset(label: &str, with_peer: bool) {
    let mut site = Site::dual(label, Over::Ethernet, &[WEB, BACKUP], &[]);
    site.start();
    // Those that the client began: what the server began and has forgotten, nobody hears of again.
    let mut pairs = open(&site);
    pairs.retain(|pair| pair.is_inward);
    let mut outward = open(&site);
    outward.retain(|pair| !pair.is_inward);
    let bulk = Bulk::start(&pairs);
    let peer = with_peer.then(|| Peer::start(&site));
    bulk.stop();
    pairs.iter_mut().for_each(Pair::forget_server);
    outward.iter_mut().for_each(Pair::forget_client);
    site.done(&["detach"]);
    assert!(site.has_ended());
    site.start();
    pairs.iter_mut().for_each(|pair| pair.client_is_reset());
    outward.iter_mut().for_each(|pair| pair.server_is_reset());
    // What is in flight may have been reset before.
    let idle = pairs.iter().filter(|pair| pair.kind == Kind::Idle).count();
    let found = reasons(&site, Reason::Reset);
    assert!(found >= idle as u64, "{found} resets");
    drop(peer);
}

#[test]
fn peers_of_a_host_that_started_again_are_told_at_once() {
    is_reset("convr", false);
}

#[test]
fn peers_with_an_agent_of_a_host_that_started_again_are_told_at_once() {
    is_reset("convp", true);
}

#[test]
fn a_revoked_or_quarantined_conversation_does_not_come_back() {
    let mut site = Site::dual("convq", Over::Ethernet, &[WEB, BACKUP], &[]);
    site.start();
    let open = |site: &Site| -> Vec<Pair> {
        // One that the client began, by IPv4, and one that the server did, by IPv6.
        [0, 3].map(|index| Pair::open(site, Kind::Pooled, index)).into()
    };
    let mut pairs = open(&site);
    site.done(&["quarantine", "client"]);
    pairs.iter_mut().for_each(Pair::is_cut);
    site.done(&["release", "client"]);
    pairs.iter_mut().for_each(Pair::comes_back);
    site.done(&["quarantine", "client"]);
    empty_the_table(&mut site);
    pairs.iter_mut().for_each(Pair::is_cut);
    // A host gives up within seconds what its own filter drops; these are others.
    site.done(&["release", "client"]);
    let mut pairs = open(&site);
    // The client may not begin, and the server may: the port is another one, and so is who began.
    site.write_policy(&[BACK]);
    site.done(&["apply"]);
    for pair in &mut pairs {
        if pair.is_inward {
            assert!(!pair.arrives(pairs::SILENCE)[0], "the client goes on: {pair:?}");
        } else {
            pair.goes_on();
        }
    }
}

/// The client may use every port of the server, and not the reverse.
const ANY: &str = r#"{"action": "accept", "src": ["tag:client"], "dst": ["tag:server:*"]}"#;
/// The other way round.
const BACK: &str = r#"{"action": "accept", "src": ["tag:server"], "dst": ["tag:client:*"]}"#;

#[test]
fn what_the_host_began_does_not_come_back_once_its_flow_is_forgotten() {
    let mut site = Site::dual("convf", Over::Ethernet, &[WEB, BACKUP], &[]);
    site.start();
    // By IPv4 and IPv6, each begun by the server.
    let mut pairs = [1, 3].map(|index| Pair::open(&site, Kind::Pooled, index));
    site.write_policy(&[ANY]);
    site.done(&["apply"]);
    empty_the_table(&mut site);
    for pair in &mut pairs {
        let [_, from_server] = pair.arrives(pairs::SILENCE)[..] else { panic!("{pair:?}") };
        assert!(!from_server, "the server goes on: {pair:?}");
    }
    assert_eq!(reasons(&site, Reason::Resumed), 0);
}

#[test]
fn a_first_attach_takes_no_conversation_for_its_own_that_was_begun_from_outside() {
    let mut site = Site::dual("convn", Over::Ethernet, &[BACK], &[]);
    let listeners = site.addresses("server").into_iter().map(|address| {
        let listener = site.namespace("server").run(|| TcpListener::bind((address, 8081)));
        listener.unwrap().unwrap()
    });
    let open = listeners.map(|listener| {
        let at = listener.local_addr().unwrap();
        let client = site.namespace("client").run(|| TcpStream::connect(at)).unwrap().unwrap();
        let (server, _) = listener.accept().unwrap();
        server.set_read_timeout(Some(pairs::SILENCE)).unwrap();
        (listener, client, server)
    });
    let open: Vec<_> = open.collect();
    // What the server began before the attach, and may begin, goes on.
    let mut outward = [1, 3].map(|index| Pair::open(&site, Kind::Pooled, index));
    site.start();
    outward.iter_mut().for_each(Pair::goes_on);
    for (_listener, mut client, mut server) in open {
        client.write_all(b"?").unwrap();
        let heard = server.read(&mut [0]);
        assert!(heard.is_err(), "goes on: {heard:?}");
    }
}
