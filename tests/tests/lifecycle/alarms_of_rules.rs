//! Alarms of rules' use on real packets: an order session above its usual rate, a rule that was idle for long.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, SystemTime};

use bulkhead_history::answer::OfHost;
use bulkhead_history::{Batch, DAY, History};
use bulkhead_testkit::lab::slower;

use crate::alarms::{alarms, until};
use crate::exchange::exchange_site;
use crate::site::{Over, Site, WEB};

/// Sends single bytes, each in a packet of its own.
fn send(mut stream: &TcpStream, count: u32, pause: Duration) {
    for _ in 0..count {
        stream.write_all(b"o").unwrap();
        std::thread::sleep(pause);
    }
}

#[test]
fn an_order_session_above_its_usual_rate_is_told_once_with_its_end() {
    let mut site = exchange_site("orders");
    let text = std::fs::read_to_string(site.path("agent.toml")).unwrap();
    let bounds = "[alarms]\nsession_least = 100\nsession_times = 3\nspike_seconds = 2\n";
    site.write("agent.toml", &(text + bounds));
    site.start();
    let at = SocketAddr::new(site.underlay("other"), 443);
    let listener = site.namespace("other").run(|| TcpListener::bind(at)).unwrap().unwrap();
    let connect = || TcpStream::connect_timeout(&at, slower(Duration::from_secs(5)));
    let session = site.namespace("server").run(connect).unwrap().unwrap();
    session.set_nodelay(true).unwrap();
    let (_venue, _) = listener.accept().unwrap();

    // What is usual: more than three windows of some 20 packets each.
    send(&session, 100, Duration::from_millis(100));
    let none = alarms(&site, "session_rate", "raised");
    assert!(none.is_empty(), "{none:#?}");
    send(&session, 600, Duration::from_millis(1));
    until(&site, "it is told", || !alarms(&site, "session_rate", "raised").is_empty());
    let status = site.status();
    assert_eq!(status["agent"]["alarms"]["active"][0]["alarm"], "session_rate", "{status}");
    send(&session, 30, Duration::from_millis(100));
    until(&site, "it ends", || !alarms(&site, "session_rate", "ended").is_empty());
    let [raised, ended] = ["raised", "ended"].map(|state| alarms(&site, "session_rate", state));
    assert_eq!((raised.len(), ended.len()), (1, 1), "{raised:#?}");
    let number = |name: &str| raised[0][name].as_u64().unwrap();
    assert_eq!(raised[0]["rule"]["name"], "venue:a session 1", "{raised:#?}");
    assert!(number("count") >= 100 && (1..60).contains(&number("usual")), "{raised:#?}");
    assert_eq!((number("seconds"), &raised[0]["since"]), (2, &ended[0]["since"]));
}

/// Ends the agent, which records who has used what, and tells of it.
fn end(site: &mut Site) {
    site.signal(libc::SIGTERM);
    assert!(site.has_ended(), "{}", site.log());
}

/// Has the history say that today's rules have been in force for 100 days, and nobody has used any.
fn nobody_for_100_days(history: &Path) {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let rules = OfHost::read(history, 0, now).unwrap().rules.into_iter().map(|seen| seen.note).collect();
    for ending in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(history.with_extension(format!("db{ending}")));
    }
    let then = now - 100 * DAY;
    let (mut history, _) = History::open(history, "server", then).unwrap();
    history.write(&Batch { rules: Some(rules), looks: 1, ..Batch::default() }, then).unwrap();
}

#[test]
fn use_of_a_rule_that_was_idle_is_told_once_with_who_uses_it() {
    let mut site = Site::new("idle", Over::Ethernet, &[WEB]);
    let text = site.configuration("server", "eth0") + "[history]\nflows_seconds = 1\n";
    site.write("agent.toml", &text);
    site.start();
    end(&mut site);
    nobody_for_100_days(&site.journal_file().with_file_name("history.db"));

    site.start();
    let mut connection = site.connect("client", 8080);
    connection.goes_on();
    std::thread::sleep(slower(Duration::from_millis(2500)));
    end(&mut site);
    let told = alarms(&site, "idle_rule", "raised");
    assert_eq!(told.len(), 1, "{}", site.log());
    let ends = [&told[0]["source"]["name"], &told[0]["destination"]["name"], &told[0]["rule"]["name"]];
    assert_eq!(ends, ["client", "server", "web"], "{told:#?}");
    let words = "web was used by client, for the first time in 100 days";
    assert_eq!((&told[0]["detail"], &told[0]["cause"]), (&words.into(), &"idle_rule web".into()));

    // Today it is used: nothing more is told, over a restart and a kill.
    site.start();
    let active = site.status()["agent"]["alarms"]["active"].clone();
    assert_eq!((active.as_array().unwrap().len(), &active[0]["alarm"]), (1, &"idle_rule".into()), "{active}");
    connection.goes_on();
    std::thread::sleep(slower(Duration::from_millis(1500)));
    site.kill();
    site.start();
    connection.goes_on();
    end(&mut site);
    assert_eq!(alarms(&site, "idle_rule", "raised").len(), 1);
}
