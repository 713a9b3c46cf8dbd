//! Long proofs of the data path under live traffic: on Ethernet (native XDP, TCX) and on the
//! WireGuard tunnel over it (TCX both ways), IPv4 and IPv6, into the host and out of it. Every client
//! pauses for `BULKHEAD_PAUSE` ms after a request.

mod kills;
mod looks;
mod meddling;
mod record;
mod swaps;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bulkhead_testkit::lab::{Counts, INTERFACE, Load, Stream, Talk};
use bulkhead_testkit::setting;
use serde_json::Value;

use crate::site::{Over, Site, WEB, policy};

/// How long traffic goes on while nothing filters.
const OPEN: Duration = Duration::from_millis(1500);
/// On two interfaces, two each.
const HOOKS: usize = 4;
/// Further nodes of one of the two inventories.
const OTHERS: u8 = 60;

const HOSTS: [&str; 4] = ["server", "client", "second", "stranger"];
/// Who asks whom, at which port, and whether both policies admit it.
const PAIRS: [(&str, &str, u16, bool); 8] = [
    ("client", "server", 8080, true),
    ("second", "server", 8080, true),
    ("server", "client", 9000, true),
    ("client", "server", 8081, false),
    ("second", "server", 8081, false),
    ("stranger", "server", 8080, false),
    ("server", "client", 9001, false),
    ("server", "stranger", 9000, false),
];

const TRANSPORT: &str =
    r#"{"name": "transport", "action": "accept", "proto": "udp", "src": ["tag:*"], "dst": ["tag:*:51820"]}"#;
const SECOND: &str =
    r#"{"name": "second", "action": "accept", "src": ["tag:second"], "dst": ["tag:server:8080"]}"#;
const OUT: &str = r#"{"name": "out", "action": "accept", "src": ["tag:server"], "dst": ["tag:client:9000"]}"#;

/// The same for [`PAIRS`], with other rules around them, in another order, by other ports.
const OTHERWISE: [&str; 8] = [
    r#"{"action": "deny", "src": ["tag:stranger"], "dst": ["tag:server:8000-9999"]}"#,
    r#"{"action": "accept", "src": ["tag:other"], "dst": ["tag:server:22,443"]}"#,
    OUT,
    r#"{"action": "accept", "src": ["tag:client"], "dst": ["tag:server:7000-7010,8080"]}"#,
    r#"{"action": "deny", "src": ["tag:second"], "dst": ["tag:server:8081"]}"#,
    r#"{"action": "accept", "src": ["tag:other"], "dst": ["tag:client:9001"]}"#,
    r#"{"action": "accept", "src": ["tag:second"], "dst": ["tag:server:8080,8443"]}"#,
    TRANSPORT,
];

/// Hosts whose server enforces one of two policies on two interfaces.
struct Ground {
    site: Site,
}

impl Ground {
    /// Hosts that reach each other, and an agent that is not started yet.
    fn new(label: &str) -> Self {
        let site = Site::with_hosts(label, Over::Tunnel, &[], &["second"]);
        let ground = Self { site };
        let site = &ground.site;
        let config = site.configuration("server", "eth0");
        site.write("agent.toml", &format!("{config}[[interface]]\nname = \"{INTERFACE}\"\n"));
        for (number, acls) in [&[TRANSPORT, WEB, SECOND, OUT][..], &OTHERWISE].into_iter().enumerate() {
            site.write(&format!("policy-{number}"), &policy(acls));
            site.write(&format!("inventory-{number}"), &ground.inventory(number == 1));
        }
        // What the agent starts with.
        site.write_policy(&[TRANSPORT, WEB, SECOND, OUT]);
        site.write("inventory.json", &ground.inventory(false));
        ground
    }

    /// The addresses of a host: on the switch, and on the tunnel over it.
    fn addresses(&self, name: &str) -> [IpAddr; 3] {
        let [v4, v6] = self.site.lab.host(name).unwrap().overlay[..] else { panic!("two overlay addresses") };
        [self.site.underlay(name), v4, v6]
    }

    fn inventory(&self, with_others: bool) -> String {
        let node = |name: &str, tag: &str, addresses: &[String]| {
            let addresses = addresses.join("\", \"");
            format!(r#"{{"name": "{name}", "addresses": ["{addresses}"], "tags": ["tag:{tag}"]}}"#)
        };
        let mut nodes: Vec<String> = HOSTS
            .map(|name| node(name, name, &self.addresses(name).map(|address| address.to_string())))
            .to_vec();
        if with_others {
            let others = (1..=OTHERS).map(|last| {
                let addresses = [format!("100.64.7.{last}"), format!("fd7a:115c:a1e0::7:{last:x}")];
                node(&format!("other-{last}"), "other", &addresses)
            });
            // In front, so that every number changes.
            nodes.splice(0..0, others);
        }
        format!(r#"{{"nodes": [{}]}}"#, nodes.join(",\n"))
    }

    /// Every pair by every way and in every manner; the denied ones begin anew all the time.
    fn streams(&self) -> Vec<Stream> {
        let mut streams = Vec::new();
        for (from, to, port, admitted) in PAIRS {
            for (source, at) in self.addresses(from).into_iter().zip(self.addresses(to)) {
                let talks = Talk::ALL.into_iter();
                for talk in
                    talks.filter(|talk| admitted || matches!(talk, Talk::Connections | Talk::Openings))
                {
                    let (from, to, at) = (from.to_owned(), to.to_owned(), SocketAddr::new(at, port));
                    streams.push(Stream { from, source, to, at, talk, admitted });
                }
            }
        }
        streams
    }

    /// Traffic. First shows that all of it arrives and is counted while nothing filters; then starts
    /// the agent.
    fn start(&mut self) -> Load {
        let streams = self.streams();
        let pause = Duration::from_millis(setting("BULKHEAD_PAUSE", 100));
        let open = Load::start(&self.site.lab, &streams, pause).unwrap();
        std::thread::sleep(OPEN);
        let counts = open.stop().unwrap();
        assert_eq!((counts.unanswered, counts.silent), (0, 0), "without an agent: {counts:#?}");
        assert!(counts.denied_answered > 0, "without an agent: {counts:#?}");
        self.site.start();
        Load::start(&self.site.lab, &streams, pause).unwrap()
    }

    /// The words of `apply` for one of the two policies.
    fn apply(&self, number: usize) -> [String; 4] {
        let path = |name: &str| self.site.path(&format!("{name}-{number}"));
        ["apply".into(), path("policy"), "--inventory".into(), path("inventory")]
    }

    /// Every hook runs the same generation, there is no other, and nothing is wrong.
    #[track_caller]
    fn is_whole(&self) -> u64 {
        let status = self.site.status();
        let generation = status["agent"]["generation"].as_u64().unwrap();
        let links = status["links"].as_array().unwrap();
        let whole = status["state"] == "enforced"
            && status["mode"] == "enforce"
            && status["problems"] == Value::Array(Vec::new())
            && status["generations"] == serde_json::json!([generation])
            && links.len() == HOOKS
            && links.iter().all(|link| link["generation"] == generation);
        assert!(whole, "{status:#}\nthe agent said:\n{}", self.site.log());
        generation
    }
}

/// Nothing admitted was lost, nothing denied was heard.
fn check(load: Load, what: &str) -> Counts {
    let counts = load.stop().unwrap();
    println!(
        "{what}: {} requests, {} unanswered, the longest answer took {:.2?}; {} denied, {} heard",
        counts.sent, counts.unanswered, counts.longest, counts.denied_sent, counts.denied_through
    );
    let wrong = (counts.unanswered, counts.denied_answered, counts.denied_through);
    assert_eq!(wrong, (0, 0, 0), "{what}: {counts:#?}");
    assert!(counts.sent > 200 && counts.denied_sent > 200, "{what}: too little traffic: {counts:#?}");
    counts
}
