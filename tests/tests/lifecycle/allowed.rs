//! Flows on record as rules let them begin.

use serde_json::Value;

use crate::site::account::{number, reports};
use crate::site::{Over, Site, WEB};

/// What the log tells of flows that began.
fn allowed(site: &Site) -> Vec<Value> {
    reports(&site.journal_file()).into_iter().filter(|report| report["kind"] == "allowed").collect()
}

#[test]
fn a_flow_is_on_record_once_with_names_rule_and_digests_and_is_no_drop() {
    for over in [Over::Ethernet, Over::Tunnel] {
        let mut site = Site::new("allowed", over, &[WEB]);
        let configuration = site.configuration("server", site.interface());
        site.write("agent.toml", &(configuration + "[events]\nallowed = \"all\"\nattest_seconds = 1\n"));
        site.start();
        let mut web = site.connect("client", 8080);
        web.goes_on();
        assert!(site.is_denied("stranger", 8080));
        assert!(site.connects("client", 8080));
        let status = site.wait_for_balance();
        assert_eq!(number(&status["lost"]["flows"]), 0);
        // A flow of a client's port each.
        let told = allowed(&site);
        assert_eq!(told.len(), 2, "{told:?}");
        for event in &told {
            let ends = ["source", "destination"].map(|end| event[end]["name"].as_str().unwrap());
            assert_eq!(ends, ["client", "server"], "{event}");
            assert_eq!(event["rule"]["name"], "web", "{event}");
            assert_eq!(
                (&event["reason"], &event["destination_port"], &event["one_in"], &event["audit"]),
                (&"rule".into(), &8080.into(), &1.into(), &false.into()),
                "{event}"
            );
        }
        assert_ne!(told[0]["source_port"], told[1]["source_port"]);
        let shown =
            site.bulkhead(&["audit", "show", "--kind", "allowed", "--from", "client", "--port", "8080"]);
        let shown = String::from_utf8(shown.stdout).unwrap();
        assert_eq!(shown.matches(" allow ingress client (").count(), 2, "{shown}");
        assert_eq!(site.bulkhead(&["audit", "verify"]).status.code(), Some(0));
        assert_eq!(site.bulkhead(&["audit", "live"]).status.code(), Some(0));
    }
}
