//! Every object validates against the schema that it claims to be of, by the schema's own JSON Schemas.

#![allow(clippy::unwrap_used)] // helpers of a test are a test

mod events;
mod messages;

use std::collections::BTreeMap;
use std::process::Command;

use bulkhead_export::{Exported, ocsf};
use jsonschema::Validator;
use serde_json::{Value, json};

/// Where `cargo xtask setup` installs the schemas.
const SCHEMAS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/ocsf");

const CLASSES: [&str; 6] = [
    "network_activity",
    "entity_management",
    "application_lifecycle",
    "detection_finding",
    "compliance_finding",
    "base_event",
];

/// The classes' schemas, with the profiles that objects say they have.
struct Schemas(BTreeMap<String, Validator>);

impl Schemas {
    fn read() -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/ocsf/schema.py");
        let mut python = Command::new("/usr/bin/python3");
        python
            .env("PYTHONPATH", SCHEMAS)
            .arg(script)
            .args([ocsf::VERSION, "host,security_control"])
            .args(CLASSES);
        let printed = python.output().unwrap();
        let problem = String::from_utf8_lossy(&printed.stderr);
        assert!(printed.status.success(), "run `cargo xtask setup` first: {problem}");
        let schemas: BTreeMap<String, Value> = serde_json::from_slice(&printed.stdout).unwrap();
        let validator = |(class, schema)| (class, jsonschema::validator_for(&schema).unwrap());
        Self(schemas.into_iter().map(validator).collect())
    }

    /// What is wrong with an object.
    fn faults(&self, object: &Value) -> Vec<String> {
        let class = object["class_uid"].to_string();
        let validator =
            self.0.get(&class).unwrap_or_else(|| panic!("class {class} is not among {CLASSES:?}"));
        validator.iter_errors(object).map(|error| format!("{}: {error}", error.instance_path())).collect()
    }
}

#[test]
fn every_object_is_valid() {
    let schemas = Schemas::read();
    let all: Vec<Exported> = events::all().into_iter().chain(events::unknown()).collect();
    let mut classes = BTreeMap::<String, usize>::new();
    for exported in &all {
        let object = ocsf::object(exported);
        assert_eq!(schemas.faults(&object), Vec::<String>::new(), "{object:#}");
        assert_eq!(
            object["type_uid"],
            json!(object["class_uid"].as_u64().unwrap() * 100 + object["activity_id"].as_u64().unwrap())
        );
        *classes.entry(object["class_uid"].to_string()).or_default() += 1;
    }
    assert_eq!(classes.keys().collect::<Vec<_>>(), ["0", "2003", "2004", "3004", "4001", "6002"]);
    println!("{} objects by class: {classes:?}", all.len());
}

#[test]
fn a_spoilt_object_is_refused() {
    let schemas = Schemas::read();
    let object = ocsf::object(&events::record(3, &events::drop()));
    assert_eq!(schemas.faults(&object), Vec::<String>::new());
    for (pointer, value) in [
        ("/activity_id", json!(77)),
        ("/src_endpoint/ip", json!("100.64.0.256")),
        ("/src_endpoint/port", json!(70_000)),
        ("/count", json!("three")),
        ("/disposition_id", json!(1000)),
        ("/connection_info/direction_id", json!("1")),
        ("/metadata/product", json!({"vendor_name": "Bulkhead"})),
        ("/policy/is_applied", json!("no")),
        ("/raw_data_hash/algorithm_id", Value::Null),
    ] {
        let mut spoilt = object.clone();
        *spoilt.pointer_mut(pointer).unwrap_or_else(|| panic!("no {pointer} in {object:#}")) = value;
        assert!(!schemas.faults(&spoilt).is_empty(), "{pointer} is not checked");
    }
    let mut more = object.clone();
    more["firewall"] = json!("of no schema");
    assert!(!schemas.faults(&more).is_empty(), "further members are not checked");
    for needed in ["time", "metadata", "severity_id", "type_uid"] {
        let mut less = object.clone();
        less.as_object_mut().unwrap().remove(needed);
        assert!(!schemas.faults(&less).is_empty(), "{needed} is not missed");
    }
}

#[test]
fn what_was_done_to_packets_is_said_as_it_was() {
    let of = |change: Value| {
        let mut event = events::drop();
        event.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let object = ocsf::object(&events::record(3, &event));
        let said =
            ["activity_name", "action", "disposition"].map(|name| object[name].as_str().unwrap().to_owned());
        (
            said,
            object["policy"]["is_applied"].as_bool().unwrap(),
            object["severity"].as_str().unwrap().to_owned(),
        )
    };
    let [refuse, traffic] = [["Refuse", "Denied", "Blocked"], ["Traffic", "Observed", "Logged"]];
    let words = |words: [&str; 3]| words.map(str::to_owned);
    assert_eq!(of(json!({})), (words(refuse), true, "Low".to_owned()));
    assert_eq!(of(json!({"audit": true})), (words(traffic), false, "Informational".to_owned()));
    let differs = json!({"kind": "would_differ", "enforced": {"reason": "no_rule", "passed": false}});
    let allowed = json!({"kind": "allowed", "reason": "rule", "one_in": 1});
    let open = ["Open", "Allowed", "Allowed"];
    assert_eq!(of(allowed), (words(open), true, "Informational".to_owned()));
    assert_eq!(of(differs), (words(traffic), false, "Informational".to_owned()));
}
