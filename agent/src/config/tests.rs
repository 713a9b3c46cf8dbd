use std::path::Path;

use bulkhead_engine::layout::FlowState;

use super::{Config, HookChoice, Mode, file};

fn parse(text: &str) -> Result<Config, String> {
    file::parse(Path::new("/etc/bulkhead/agent.toml"), text).map_err(|error| error.to_string())
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
        [[interface]]
        name = "wg0"
        zone = 7
        hook = "xdp"
        [[interface]]
        name = "eth0.100"
        [flows]
        unreplied = 2048
        established = 4096
        [timeouts]
        tcp_established = 65535
        sctp_closing = 1
        [events]
        ring_bytes = 8192
        aggregates = 128
        [limits]
        table_memory_mib = 64
        spare_addresses = 0
        "#,
    )
    .unwrap();
    assert_eq!(config.node.as_deref(), Some("engine-1"));
    assert_eq!(config.policy, Path::new("/etc/bulkhead/p.hujson"), "beside the file");
    assert_eq!(config.inventory, Path::new("/srv/inventory.json"));
    assert_eq!(config.mode, Mode::Audit);
    assert_eq!(config.interfaces.len(), 2);
    assert_eq!((config.interfaces[0].zone, config.interfaces[0].hook), (Some(7), HookChoice::Xdp));
    assert_eq!((config.interfaces[1].zone, config.interfaces[1].hook), (None, HookChoice::Tcx));
    let capacity = config.capacity;
    assert_eq!((capacity.unreplied, capacity.established), (2048, 4096));
    assert_eq!((capacity.event_bytes, capacity.aggregates, capacity.spare_addresses), (8192, 128, 0));
    assert_eq!(config.timeouts.0[FlowState::TcpEstablished as usize], 65535);
    assert_eq!(config.timeouts.0[FlowState::SctpClosing as usize], 1);
    assert_eq!(config.timeouts.0[FlowState::UdpReplied as usize], 300, "the default stays");
    assert_eq!(config.table_memory, 64 << 20);
}

#[test]
fn what_is_wrong_has_its_place() {
    for (text, place, words) in [
        ("nodes = \"a\"", "1:1", "unknown field `nodes`"),
        ("\nmode = \"off\"", "2:8", "unknown variant `off`"),
        ("[flows]\nunreplied = 1023", "2:13", "not between 1024 and"),
        ("[flows]\nunreplied = -1", "2:13", "not between 1024 and"),
        ("[events]\nring_bytes = 5000", "2:14", "not a power of two"),
        ("[timeouts]\necho = 0", "2:8", "not between 1 and 65535"),
        ("[timeouts]\necho = 65536", "2:8", "not between 1 and 65535"),
        ("[timeouts]\nudp = 1", "2:1", "unknown field `udp`"),
        ("[[interface]]\nzone = 1", "1:1", "missing field `name`"),
        ("[[interface]]\nname = \"a\"\nzone = 0", "3:8", "not between 1 and 65535"),
        ("[[interface]]\nname = \"a b\"", "2:8", "no interface can have that name"),
        ("[[interface]]\nname = \"a\"\n[[interface]]\nname = \"a\"", "4:8", "twice"),
        ("node = ", "1:8", ""),
    ] {
        let error = parse(text).unwrap_err();
        let start = format!("/etc/bulkhead/agent.toml:{place}: ");
        assert!(error.starts_with(&start) && error.contains(words), "{text:?} gives {error}");
    }
}
