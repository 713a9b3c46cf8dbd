//! Objects of the Open Cybersecurity Schema Framework, version 1.8 (<https://schema.ocsf.io/1.8.0>).
//!
//! | event | class |
//! |---|---|
//! | `drop`, `would_differ`, `allowed` | Network Activity (4001) |
//! | `control` | Entity Management (3004); `start` and `stop`: Application Lifecycle (6002) |
//! | `unenforced`, `altered`, `binding`, `lost` | Detection Finding (2004) |
//! | `coverage`, `balance` | Compliance Finding (2003) |
//! | others | Base Event (0) |
//!
//! `unmapped` holds the whole event in its own words, `raw_data_hash` the SHA-256 of the record's bytes in the log.

mod control;
mod finding;
mod network;

use bulkhead_api::event::{Kind, Timestamp};
use bulkhead_api::record::Record;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::{Exported, PRODUCT};

/// The version of the schema that objects are of.
pub const VERSION: &str = "1.8.0";

/// Members of an object.
type Members = Map<String, Value>;

/// A class of the schema.
struct Class {
    uid: u32,
    name: &'static str,
    category: (u32, &'static str),
}

/// What happened, on a class's own scale.
type Activity = (u32, &'static str);

const BASE: Class = Class { uid: 0, name: "Base Event", category: (0, "Uncategorized") };

/// The object of a record.
#[must_use]
pub fn object(exported: &Exported) -> Value {
    let Some(record) = exported.record() else {
        return Value::Object(unknown(exported));
    };
    let mut object = match &record.event.kind {
        Kind::Drop(drop) => network::dropped(record, drop),
        Kind::WouldDiffer(differs) => network::would_differ(record, differs),
        Kind::Allowed(allowed) => network::allowed(record, allowed),
        Kind::Control(control) => control::changed(record, control),
        Kind::Unenforced(time) => finding::unenforced(exported, record, time),
        Kind::Altered(altered) => finding::altered(exported, record, altered),
        Kind::Binding(binding) => finding::binding(exported, record, binding),
        Kind::Workload(change) => finding::workload(exported, record, change),
        Kind::Alarm(alarm) => finding::alarm(exported, record, alarm),
        Kind::Lost(lost) => finding::lost(exported, record, lost),
        Kind::Coverage(coverage) => finding::coverage(exported, record, coverage),
        Kind::Balance(balance) => finding::balance(exported, record, balance),
        Kind::Missed(_) => of(&BASE, (0, "Unknown")),
    };
    let severity = exported.severity();
    set(&mut object, "severity_id", severity.ocsf());
    set(&mut object, "severity", severity.name());
    set(&mut object, "time", milliseconds(record.event.time));
    set(&mut object, "message", record.event.to_string());
    let mut metadata = metadata(exported);
    set(&mut metadata, "original_time", record.event.time.to_string());
    set(&mut metadata, "log_source", &*record.host);
    set(&mut object, "metadata", metadata);
    object.entry("device").or_insert_with(|| device(record, None));
    set(
        &mut object,
        "unmapped",
        json!({"event": record.event, "clock": record.clock, "files": record.files}),
    );
    seal(&mut object, exported);
    Value::Object(object)
}

/// A record that this version does not know: what is to be had of it, and all of it as text.
fn unknown(exported: &Exported) -> Members {
    let mut object = of(&BASE, (0, "Unknown"));
    let severity = exported.severity();
    set(&mut object, "severity_id", severity.ocsf());
    set(&mut object, "severity", severity.name());
    let read: Value = serde_json::from_slice(exported.bytes()).unwrap_or_default();
    let time = read["event"]["time"].as_str().and_then(|time| time.parse().ok());
    set(&mut object, "time", time.map_or(0, milliseconds));
    set(&mut object, "message", "a record of a kind that this version of the agent does not know");
    set(&mut object, "raw_data", String::from_utf8_lossy(exported.bytes()));
    set(&mut object, "metadata", metadata(exported));
    seal(&mut object, exported);
    object
}

/// Of a class: what says which.
fn of(class: &Class, (activity, activity_name): Activity) -> Members {
    let mut object = Members::new();
    let (category, category_name) = class.category;
    set(&mut object, "class_uid", class.uid);
    set(&mut object, "class_name", class.name);
    set(&mut object, "category_uid", category);
    set(&mut object, "category_name", category_name);
    set(&mut object, "activity_id", activity);
    set(&mut object, "activity_name", activity_name);
    set(&mut object, "type_uid", class.uid * 100 + activity);
    set(&mut object, "type_name", format!("{}: {activity_name}", class.name));
    object
}

fn metadata(exported: &Exported) -> Members {
    let product =
        json!({"name": "Bulkhead", "vendor_name": "Bulkhead", "version": env!("CARGO_PKG_VERSION")});
    let mut metadata = Members::new();
    set(&mut metadata, "version", VERSION);
    set(&mut metadata, "product", product);
    set(&mut metadata, "profiles", json!(["host", "security_control"]));
    set(&mut metadata, "log_name", PRODUCT);
    set(&mut metadata, "event_code", exported.kind());
    set(&mut metadata, "uid", exported.uid());
    set(&mut metadata, "sequence", exported.sequence);
    metadata
}

/// Adds what ties the object to the record in the event log.
fn seal(object: &mut Members, exported: &Exported) {
    let digest = format!("{:x}", Sha256::digest(exported.bytes()));
    set(object, "raw_data_hash", json!({"algorithm": "SHA-256", "algorithm_id": 3, "value": digest}));
    set(object, "raw_data_size", exported.bytes().len());
}

/// The host.
fn device(record: &Record, interface: Option<&str>) -> Value {
    let mut device = Members::new();
    set(&mut device, "hostname", &*record.host);
    set(&mut device, "type_id", 0);
    set(&mut device, "type", "Unknown");
    if !record.event.node.is_empty() {
        set(&mut device, "name", &*record.event.node);
    }
    set_some(&mut device, "interface_name", interface);
    Value::Object(device)
}

/// The policy of a generation.
fn policy(generation: u32, digest: Option<&str>) -> Members {
    let mut policy = Members::new();
    set(&mut policy, "name", PRODUCT);
    set(&mut policy, "version", generation.to_string());
    set_some(&mut policy, "uid", digest.map(|digest| format!("sha256:{digest}")));
    policy
}

fn set(object: &mut Members, name: &str, value: impl Into<Value>) {
    object.insert(name.to_owned(), value.into());
}

fn set_some(object: &mut Members, name: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        set(object, name, value);
    }
}

/// Milliseconds since the Unix epoch, as the schema counts.
fn milliseconds(time: Timestamp) -> u64 {
    time.unix() / 1_000_000
}
