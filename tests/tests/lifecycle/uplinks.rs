//! Interfaces above others, as hosts have them: a bond, and a VLAN on a cable. The programs are on the upper one.

use bulkhead_testkit::lab::has_all_links;

use crate::site::{Over, Site, WEB};

/// Puts an interface of this kind over the host's eth0, and its address there. False where the kernel has none.
fn raise(site: &Site, host: &str, name: &str, kind: &str) -> bool {
    let (namespace, address) = (site.namespace(host), site.underlay(host));
    if let Err(error) = namespace.ip(&format!("link add {name} {kind}")) {
        assert!(!has_all_links(), "{error}");
        eprintln!("not shown: {error}");
        return false;
    }
    namespace.ip("addr flush dev eth0").unwrap();
    if name == "bond0" {
        namespace.ip("link set eth0 down").unwrap();
        namespace.ip("link set eth0 master bond0").unwrap();
    }
    namespace.ip(&format!("addr add {address}/24 dev {name}")).unwrap();
    namespace.ip(&format!("link set {name} up")).unwrap();
    true
}

fn is_enforced_on(site: &mut Site, interface: &str) {
    site.write("agent.toml", &site.configuration("server", interface));
    site.start();
    let status = site.wait_for("enforced", |status| status["state"] == "enforced");
    assert_eq!(status["problems"].to_string(), "[]");
    assert!(site.connects("client", 8080), "{status}");
    assert!(site.is_denied("stranger", 8080), "{status}");
    assert!(site.is_denied("client", 8081), "{status}");
}

#[test]
fn a_bond_is_enforced_and_stays_so_when_its_cable_changes() {
    let mut site = Site::new("bond", Over::Ethernet, &[WEB]);
    if !raise(&site, "server", "bond0", "type bond mode active-backup miimon 50") {
        return;
    }
    is_enforced_on(&mut site, "bond0");
    let server = site.namespace("server");
    server.ip("link set eth0 nomaster").unwrap();
    server.ip("link set eth0 down").unwrap();
    server.ip("link set eth0 master bond0").unwrap();
    site.wait_for("enforced", |status| status["state"] == "enforced");
    assert!(site.connects("client", 8080));
    assert!(site.is_denied("stranger", 8080));
}

#[test]
fn a_vlan_is_enforced_when_it_is_made_again() {
    let mut site = Site::new("vlan", Over::Ethernet, &[WEB]);
    const KIND: &str = "link eth0 type vlan id 7";
    for host in ["server", "client", "stranger"] {
        if !raise(&site, host, "eth0.7", KIND) {
            return;
        }
    }
    is_enforced_on(&mut site, "eth0.7");
    site.namespace("server").ip("link del eth0.7").unwrap();
    site.wait_for("it is gone", |status| status["state"] != "enforced");
    raise(&site, "server", "eth0.7", KIND);
    site.wait_for("enforced", |status| status["state"] == "enforced");
    assert!(site.connects("client", 8080));
    assert!(site.is_denied("stranger", 8080));
}
