//! What hosts need of an Ethernet link beside what the policy is about, in all roles.

use serde_json::Value;

use crate::frames::{self, LLDP, ROUTER_ADDRESS};
use crate::site::account::reports;
use crate::site::{Over, Site, WEB};

/// A site whose server's eth0 has a role.
fn site_of(label: &str, role: &str) -> Site {
    let site = Site::new(label, Over::Ethernet, &[WEB]);
    if role != "overlay" {
        let underlay = site.underlay("server");
        let node = format!(
            r#"{{"name": "server", "addresses": ["100.64.0.1"], "underlay": ["{underlay}"], "tags": ["tag:server"]}}"#
        );
        let client = r#"{"name": "client", "addresses": ["100.64.0.2"], "tags": ["tag:client"]}"#;
        site.write("inventory.json", &format!(r#"{{"nodes": [{node}, {client}]}}"#));
    }
    site
}

fn configure(site: &Site, role: &str, link: &str) {
    let config = site.configuration("server", "eth0");
    site.write("agent.toml", &format!("{config}role = \"{role}\"\nlink = [{link}]\n"));
}

fn warnings(status: &Value) -> String {
    status["agent"]["warnings"].to_string()
}

#[test]
fn router_advertisements_pass_where_they_are_named_and_are_missed_elsewhere() {
    for role in ["overlay", "exchange", "underlay"] {
        let mut site = site_of("ra", role);
        let learns = |site: &Site| frames::learns_route(site.namespace("client"), site.namespace("server"));
        assert!(learns(&site), "before anything filters, {role}");
        configure(&site, role, "\"lldp\"");
        site.start();
        assert!(!learns(&site), "{role}");
        let named = format!("router advertisements of {ROUTER_ADDRESS} are dropped");
        let status = site.wait_for("status tells of it", |status| warnings(status).contains(&named));
        let reasons = status["reasons"].as_array().unwrap();
        assert!(reasons.iter().any(|count| count["reason"] == "router_discovery"), "{status}");
        site.kill();
        configure(&site, role, "\"ra\"");
        site.start();
        assert!(learns(&site), "{role}");
        let status = site.status();
        assert!(!warnings(&status).contains("router advertisements"), "{status}");
        let shown = match role {
            "overlay" => &status["agent"]["linked"],
            other => &status["agent"][other],
        };
        assert_eq!(shown[0]["link"], serde_json::json!(["ra"]), "{status}");
    }
}

#[test]
fn a_dropped_frame_is_told_of_by_its_ethertype() {
    let mut site = site_of("frame", "overlay");
    site.start();
    assert!(!frames::heard(site.namespace("client"), site.namespace("server"), LLDP));
    let journal = site.journal_file();
    site.wait_for("an event tells of it", |_| {
        reports(&journal).iter().any(|report| {
            report["ethertype"] == "0x88cc"
                && report["reason"] == "link_protocol"
                && report["destination_port"].is_null()
        })
    });
}
