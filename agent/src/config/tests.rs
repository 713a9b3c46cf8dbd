use std::path::Path;

use bulkhead_abi::{AllowedReports, FlowState, Rate};
use bulkhead_api::hook::Kind;
use bulkhead_policy::resolve::{Overlay, PeerPorts};

use super::{Alarms, Binding, Config, Control, History, HookChoice, Link, Mode, Role, file};

pub(super) fn parse(text: &str) -> Result<Config, String> {
    file::parse(Path::new("/etc/bulkhead/agent.toml"), text).map_err(|error| error.to_string())
}

/// A file is refused at a place, with these words.
#[track_caller]
pub(super) fn is_refused(text: &str, place: &str, words: &str) {
    let error = parse(text).unwrap_err();
    let start = format!("/etc/bulkhead/agent.toml:{place}: ");
    assert!(error.starts_with(&start) && error.contains(words), "{text:?} gives {error}");
}

#[test]
fn an_empty_file_is_the_defaults() {
    assert_eq!(parse(""), Ok(Config::default()));
    assert_eq!(Config::default().table_memory, 256 << 20);
}

#[test]
fn every_setting_arrives() {
    let config = parse(
        r#"
        node = "engine-1"
        policy = "p.hujson"
        inventory = "/srv/inventory.json"
        mode = "audit"
        watch = true
        [[interface]]
        name = "wg0"
        zone = 7
        hook = "xdp"
        overlay = "tailscale"
        [[interface]]
        name = "tailscale1"
        overlay = "tailscale"
        [[interface]]
        name = "eth0.100"
        role = "exchange"
        optional = true
        link = ["lacp", "bfd"]
        wireguard = { port = 51820, peers = ["203.0.113.9", "2001:db8::/32"], peer_ports = [51821] }
        [[management]]
        from = ["100.64.0.9/32"]
        ports = [22, 2222]
        [flows]
        capacity = 4096
        [timeouts]
        tcp_established = 2592000
        sctp_closing = 1
        [events]
        ring_bytes = 8192
        aggregates = 128
        allowed = "sampled"
        allowed_one_in = 256
        allowed_budget = 9
        [control]
        read = "bulkhead"
        change = "4242"
        [limits]
        event_budget = 7
        read_back_seconds = 0
        new_flows_per_second = 250
        table_memory_mib = 64
        spare_addresses = 0
        [history]
        days = 30
        mib = 16
        flows_seconds = 5
        "#,
    )
    .unwrap();
    assert_eq!(config.node.as_deref(), Some("engine-1"));
    assert_eq!(config.policy, Path::new("/etc/bulkhead/p.hujson"), "beside the file");
    assert_eq!(config.inventory, Path::new("/srv/inventory.json"));
    assert_eq!((config.mode, config.watch), (Mode::Audit, true));
    assert_eq!(config.interfaces.len(), 3);
    let overlays: Vec<_> = config.exemptions("engine-1").overlays.iter().map(|all| all.overlay).collect();
    assert_eq!(overlays, [Overlay::Tailscale], "once for the node");
    assert_eq!((config.interfaces[0].zone, config.interfaces[0].hook), (Some(7), HookChoice::Xdp));
    assert_eq!((config.interfaces[2].zone, config.interfaces[2].hook), (None, HookChoice::Auto));
    assert_eq!(parse("").unwrap().binding, Binding::Enforce);
    assert_eq!(parse("[identity]\nbinding = \"report\"").unwrap().binding, Binding::Report);
    let history = History { days: 30, bytes: 16 << 20, flows_seconds: 5 };
    assert_eq!(config.history, Some(history));
    assert_eq!(parse("[history]\nenabled = false").unwrap().history, None);
    let exchange = &config.interfaces[2];
    assert_eq!(
        (exchange.role, exchange.is_optional, &*exchange.link),
        (Role::Exchange, true, &[Link::Lacp, Link::Bfd][..])
    );
    assert_ne!(exchange.zone(Kind::Ethernet), config.interfaces[0].zone(Kind::BareIp));
    let wireguard = &config.wireguard[0];
    assert_eq!(
        (wireguard.port, wireguard.peers.len(), &wireguard.peer_ports),
        (51820, 2, &PeerPorts::Of(vec![51821]))
    );
    assert_eq!(
        (config.management[0].sources[0].to_string(), config.management[0].ports.len()),
        ("100.64.0.9/32".to_owned(), 2)
    );
    assert_eq!(config.new_flows, Rate { interval: 4_000_000, tolerance: 1_000_000_000 });
    assert_eq!((config.event_budget, config.read_back_seconds), (7, 0));
    assert_eq!(config.allowed, AllowedReports { budget: 9, one_in: 256 });
    let all = AllowedReports { budget: 1000, one_in: 1 };
    assert_eq!(parse("[events]\nallowed = \"all\"").unwrap().allowed, all);
    assert_eq!(parse("[events]\nallowed = \"off\"").unwrap().allowed, AllowedReports::NONE);
    let control = Control { read: Some("bulkhead".to_owned()), change: Some("4242".to_owned()) };
    assert_eq!(config.control, control);
    let capacity = config.capacity;
    assert_eq!((capacity.flows, capacity.flow_buckets()), (4096, 1024));
    assert_eq!((capacity.event_bytes, capacity.aggregates, capacity.spare_addresses), (8192, 128, 0));
    assert_eq!(config.timeouts.0[FlowState::TcpEstablished as usize], 30 * 86_400);
    assert_eq!(config.timeouts.0[FlowState::SctpClosing as usize], 1);
    assert_eq!(config.timeouts.0[FlowState::UdpReplied as usize], 300, "the default stays");
    assert_eq!(config.table_memory, 64 << 20);
}

#[test]
fn what_is_wrong_has_its_place() {
    for (text, place, words) in [
        ("nodes = \"a\"", "1:1", "unknown field `nodes`"),
        ("\nmode = \"off\"", "2:8", "unknown variant `off`"),
        ("[flows]\ncapacity = 1023", "2:12", "not between 1024 and"),
        ("[flows]\ncapacity = -1", "2:12", "not between 1024 and"),
        ("[identity]\nbinding = \"maybe\"", "2:11", "unknown variant"),
        ("[history]\nmib = 0", "2:7", "not between 1 and 65536"),
        ("[history]\nenabled = false\nflows_seconds = 4000", "3:17", "not between 1 and 3600"),
        ("[events]\nring_bytes = 5000", "2:14", "not a power of two"),
        ("[timeouts]\necho = 0", "2:8", "not between 1 and 2592000"),
        ("[timeouts]\necho = 2592001", "2:8", "not between 1 and 2592000"),
        ("[timeouts]\nudp = 1", "2:1", "unknown field `udp`"),
        ("[[interface]]\nzone = 1", "1:1", "missing field `name`"),
        ("[[interface]]\nname = \"a\"\nzone = 0", "3:8", "not between 1 and 65535"),
        ("[[interface]]\nname = \"a b\"", "2:8", "no interface can have that name"),
        ("[[interface]]\nname = \"a\"\n[[interface]]\nname = \"a\"", "4:8", "twice"),
        (
            "[[interface]]\nname = \"a\"\nwireguard = { port = 1, peers = [] }",
            "3:13",
            "only on interfaces with role",
        ),
        ("[[interface]]\nname = \"a\"\noverlay = \"zerotier\"", "3:11", "unknown variant `zerotier`"),
        (
            "[[interface]]\nname = \"a\"\nrole = \"exchange\"\noverlay = \"netbird\"",
            "4:11",
            "only on interfaces with role",
        ),
        (
            "[[interface]]\nname = \"a\"\nrole = \"exchange\"\nlink = [\"stp\"]",
            "4:9",
            "unknown variant `stp`",
        ),
        (
            "[[interface]]\nname = \"a\"\nrole = \"exchange\"\nwireguard = { port = 1, peers = [\"x\"] }",
            "4:34",
            "neither an address nor a prefix",
        ),
        (
            "[[interface]]\nname = \"a\"\nrole = \"exchange\"\nzone = 1\n[[interface]]\nname = \"b\"",
            "2:8",
            "zone 1 is an exchange interface's and an overlay's",
        ),
        ("[metrics]\nlisten = \"0.0.0.0:9465\"", "2:10", "not a loopback address; try 127.0.0.1:9465"),
        ("[control]\nchange = \"wheel\"", "2:10", "name a `read` group"),
        ("[control]\nread = \"a b\"", "2:8", "no group's name"),
        ("[[management]]\nfrom = [\"10.0.0.1\"]\nports = [0]", "3:10", "not between 1 and 65535"),
        (
            "[[management]]\nfrom = [\"10.0.0.1\", \"10.0.0.1/0\"]\nports = [22]",
            "2:21",
            "'10.0.0.1/0' is an address with the length of a prefix: 0.0.0.0/0 or 10.0.0.1/32?",
        ),
        ("[limits]\nnew_flows_per_second = -1", "2:24", "not between 0 and"),
        ("[limits]\nevent_budget = 0", "2:16", "not between 1 and"),
        ("[limits]\nread_back_seconds = 86401", "2:21", "not between 0 and 86400"),
        ("[events]\nallowed = \"some\"", "2:11", "unknown variant"),
        ("[events]\nallowed_one_in = 64", "2:18", "says nothing here"),
        ("[events]\nallowed = \"all\"\nallowed_one_in = 64", "3:18", "says nothing here"),
        ("[events]\nallowed = \"sampled\"\nallowed_one_in = 65", "3:18", "not a power of two"),
        ("node = ", "1:8", ""),
    ] {
        is_refused(text, place, words);
    }
}

#[cfg(feature = "agent")]
#[test]
fn sinks_have_what_their_kind_needs_and_nothing_else() {
    use bulkhead_export::Format;
    use bulkhead_http::Tls;
    use bulkhead_sinks::{From, Kind, Settings};

    let text = r#"
        [[sink]]
        name = "file"
        kind = "file"
        path = "out.jsonl"
        rotate_mib = 2
        keep = 0
        [[sink]]
        name = "siem"
        kind = "syslog"
        address = "[2001:db8::1]"
        ca = "/etc/ca.pem"
        certificate = "own.pem"
        key = "own.key"
        format = "bulkhead"
        from = "now"
        "#;
    let sinks = parse(text).unwrap().sinks;
    let beside = |name| Path::new("/etc/bulkhead").join(name);
    let file = Kind::File { path: beside("out.jsonl"), rotate_bytes: 2 << 20, keep: 0 };
    let tls = Tls { ca: Some("/etc/ca.pem".into()), identity: Some((beside("own.pem"), beside("own.key"))) };
    let siem = Kind::SyslogTls { host: "2001:db8::1".to_owned(), port: 6514, tls };
    assert_eq!(
        sinks,
        [
            Settings { name: "file".to_owned(), format: Format::Ocsf, from: From::Beginning, kind: file },
            Settings { name: "siem".to_owned(), format: Format::Bulkhead, from: From::Now, kind: siem },
        ]
    );
    let sink = |rest: &str| format!("[[sink]]\nname = \"s\"\n{rest}");
    for (text, place, words) in [
        (sink(""), "1:1", "missing field `kind`"),
        (sink("kind = \"kafka\""), "3:8", "unknown variant `kafka`"),
        (sink("kind = \"file\""), "3:8", "sink s needs `path`"),
        (sink("kind = \"stdout\"\npath = \"x\""), "4:8", "not of sinks of kind \"stdout\""),
        (sink("kind = \"file\"\npath = \"x\"\nkeep = -1"), "5:8", "not between 0 and 1000"),
        (sink("kind = \"syslog\""), "3:8", "needs `address` or `path`"),
        (sink("kind = \"syslog\"\naddress = \"h:0\""), "4:11", "neither a name nor an address"),
        (sink("kind = \"syslog\"\npath = \"/dev/log\"\nca = \"x\""), "5:6", "no TLS"),
        (sink("kind = \"syslog\"\naddress = \"h\"\nkey = \"x\""), "5:7", "its `certificate` is missing"),
        (sink("kind = \"otlp\"\nurl = \"collector:4318\""), "4:7", "not the whole URL"),
        (sink("kind = \"otlp\"\nurl = \"http://h/\"\nca = \"x\""), "5:6", "no TLS"),
        (sink("kind = \"stdout\"\nfile = \"x\""), "4:1", "unknown field `file`"),
        (sink("kind = \"stdout\"").replace("\"s\"", "\"a/b\""), "2:8", "letters, digits"),
        (sink("kind = \"stdout\"\n") + &sink("kind = \"stdout\""), "5:8", "sink s is there twice"),
    ] {
        is_refused(&text, place, words);
    }
}

#[cfg(feature = "agent")]
#[test]
fn anchors_have_what_their_kind_needs_and_nothing_else() {
    use std::time::Duration;

    use bulkhead_http::Tls;
    use bulkhead_sinks::{AnchorKind, AnchorSettings};
    use bulkhead_tlog::{Algorithm, SignerKey};

    let key = |algorithm| SignerKey::generate("witness.example", algorithm).unwrap().public().clone();
    let witness = key(Algorithm::Cosignature);
    let text = format!(
        "[[anchor]]\nname = \"worm\"\nkind = \"directory\"\npath = \"kept\"\n\
         [[anchor]]\nname = \"w\"\nkind = \"witness\"\nurl = \"http://w.example\"\nwitness_key = \"{witness}\"\n\
         every_seconds = 5\n"
    );
    let anchor = |name: &str, every, kind| AnchorSettings {
        name: name.to_owned(),
        every: Duration::from_secs(every),
        kind,
    };
    let directory = AnchorKind::Directory { path: "/etc/bulkhead/kept".into() };
    let (url, tls) = ("http://w.example".to_owned(), Tls::default());
    let asked = AnchorKind::Witness { url, key: Box::new(witness.clone()), headers: None, tls };
    assert_eq!(parse(&text).unwrap().anchors, [anchor("worm", 300, directory), anchor("w", 5, asked)]);

    let anchor = |rest: &str| format!("[[anchor]]\nname = \"a\"\n{rest}");
    let of_witness = |key: &str| {
        anchor(&format!("kind = \"witness\"\nurl = \"https://w.example\"\nwitness_key = \"{key}\""))
    };
    let log = key(Algorithm::Ed25519).to_string();
    for (text, place, words) in [
        (anchor("kind = \"s3\""), "3:8", "unknown variant `s3`"),
        (anchor("kind = \"directory\""), "3:8", "anchor a needs `path`"),
        (
            anchor("kind = \"directory\"\npath = \"x\"\nurl = \"x\""),
            "5:7",
            "not of anchors of kind \"directory\"",
        ),
        (anchor("kind = \"http\"\nurl = \"w.example\""), "4:7", "not the whole URL of a receiver"),
        (anchor("kind = \"http\"\nurl = \"http://w/\"\nca = \"x\""), "5:6", "no TLS"),
        (anchor("kind = \"http\"\nurl = \"http://w:99999/\""), "4:7", "not the whole URL"),
        (anchor("kind = \"http\"\nurl = \"http://[::1]:0/\""), "4:7", "not the whole URL"),
        (anchor("kind = \"witness\"\nurl = \"http://w/?a\""), "4:7", "neither `?` nor `#`"),
        (anchor("kind = \"directory\"\npath = \"\""), "4:8", "path: is empty"),
        (anchor("kind = \"witness\"\nurl = \"http://w/\""), "3:8", "anchor a needs `witness_key`"),
        (of_witness("w+1+2"), "5:15", "no verifier key"),
        (
            [of_witness(&witness.to_string()), of_witness(&witness.to_string()).replace("\"a\"", "\"b\"")]
                .join("\n"),
            "10:15",
            "another anchor has this witness",
        ),
        (of_witness(&log), "5:15", "the key of a log"),
        (anchor("kind = \"directory\"\npath = \"x\"\nevery_seconds = 4"), "5:17", "not between 5 and 86400"),
        (anchor("kind = \"http\"\n").replace("\"a\"", "\"a b\""), "2:8", "letters, digits"),
    ] {
        is_refused(&text, place, words);
    }
}

#[test]
fn a_rate_may_be_none() {
    assert_eq!(parse("[limits]\nnew_flows_per_second = 0").unwrap().new_flows, Rate::default());
    assert_eq!(Config::default().new_flows.interval, 1_000_000, "a thousand a second, unless it is set");
}

#[cfg(feature = "agent")]
#[test]
fn generic_xdp_is_for_bare_ip_alone_and_only_where_it_is_asked_for() {
    use bulkhead_api::hook::Hook;

    for (hook, ethernet, bare) in [
        ("", &[Hook::XdpNative, Hook::TcxIngress][..], Hook::TcxIngress),
        ("hook = \"auto\"", &[Hook::XdpNative, Hook::TcxIngress], Hook::TcxIngress),
        ("hook = \"tcx\"", &[Hook::TcxIngress], Hook::TcxIngress),
        ("hook = \"xdp\"", &[Hook::XdpNative], Hook::XdpGeneric),
    ] {
        let config = parse(&format!("[[interface]]\nname = \"x\"\n{hook}\n")).unwrap();
        assert_eq!(config.interfaces[0].ingress(Kind::Ethernet), ethernet, "{hook}");
        assert_eq!(config.interfaces[0].ingress(Kind::BareIp), [bare], "{hook}");
    }
}

#[test]
fn a_wireguard_file_named_by_mistake_is_not_repeated() {
    let secret = "B2tvx9Lm3QeRzYwUiOpAsDfGhJkLzXcVbNmQwErTyU0=";
    for text in [
        format!("[Interface]\nPrivateKey = {secret}\n"),
        format!("PrivateKey = {secret}\n"),
        format!("[Interface]\nPrivateKey = \"{secret}\"\n"),
        format!("{secret}\t{secret}\t51820\toff\n"),
    ] {
        let error = file::parse(Path::new("wg0.conf"), &text).unwrap_err().to_string();
        assert!((0..secret.len() - 8).all(|at| !error.contains(&secret[at..at + 8])), "{error}");
    }
}

#[test]
fn alarms_are_on_and_nobody_is_cut_off_unless_asked() {
    let read = |text: &str| parse(text).map(|config| config.alarms);
    let alarms = read("").unwrap().unwrap();
    assert_eq!(alarms, Alarms::default());
    assert_eq!(alarms.quarantine, None);
    assert_eq!(read("[alarms]\nenabled = false\n").unwrap(), None);
    let limits =
        read("[alarms]\nexpiry_warning_days = 30\nexpiry_critical_hours = 48\n").unwrap().unwrap().expiry;
    let hour = 3_600_000_000_000;
    assert_eq!((limits.warning, limits.critical), (30 * 24 * hour, 48 * hour));
    assert_eq!(read("[alarms]\nscan_targets = 40\n").unwrap().unwrap().scan.targets, 40);
    let wg0 = "[[interface]]\nname = \"wg0\"\n";
    let quarantine = |words: &str| read(&format!("{wg0}[alarms.quarantine]\n{words}"));
    assert_eq!(quarantine("denials = 5\n").unwrap().unwrap().quarantine, None);
    let on = quarantine("enabled = true\ninterfaces = [\"wg0\"]\nminutes = 2\n")
        .unwrap()
        .unwrap()
        .quarantine
        .unwrap();
    assert_eq!((on.hold, on.at_once, on.denials), (120, 2, 50));
    for (text, words) in [
        ("[alarms]\nscan_targets = 1\n".to_owned(), ":2:16: scan_targets: 1 is not between"),
        ("[alarms]\nscan_ports = 1\n".to_owned(), ": unknown field"),
        (
            "[alarms]\nexpiry_warning_days = 91\n".to_owned(),
            ":2:23: expiry_warning_days: 91 is not between 1 and 90",
        ),
        (
            "[alarms]\nexpiry_critical_hours = 0\n".to_owned(),
            ":2:25: expiry_critical_hours: 0 is not between 1 and 720",
        ),
        (
            "[alarms]\nexpiry_warning_days = 1\nexpiry_critical_hours = 25\n".to_owned(),
            ":3:25: expiry_critical_hours: 25 hours are more than the 1 days",
        ),
        (format!("{wg0}[alarms.quarantine]\nenabled = true\n"), ": quarantine: name in `interfaces`"),
        (format!("{wg0}[alarms.quarantine]\ninterfaces = [\"wg1\"]\n"), ":4:15: interfaces: 'wg1' is no"),
        (
            format!(
                "{wg0}[alarms]\nenabled = false\n[alarms.quarantine]\nenabled = true\ninterfaces = [\"wg0\"]\n"
            ),
            "[alarms] is not",
        ),
    ] {
        let said = read(&text).unwrap_err();
        assert!(said.contains(words), "{text}: {said}");
    }
}
