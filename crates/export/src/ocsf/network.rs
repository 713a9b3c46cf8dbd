//! Packets: Network Activity.

use bulkhead_api::event::{Allowed, Direction, Drop, End, Rule, WouldDiffer};
use bulkhead_api::record::Record;
use serde_json::{Value, json};

use super::{Activity, Class, Members, device, of, policy, set, set_some};

const CLASS: Class = Class { uid: 4001, name: "Network Activity", category: (4, "Network Activity") };

const OPEN: Activity = (1, "Open");
const REFUSE: Activity = (5, "Refuse");
const TRAFFIC: Activity = (6, "Traffic");

/// Packets that were dropped or, in audit mode, would have been.
pub(super) fn dropped(record: &Record, drop: &Drop) -> Members {
    let (activity, is_applied) = if drop.audit { (TRAFFIC, false) } else { (REFUSE, true) };
    let mut object = packets(record, drop, activity, is_applied);
    if drop.audit {
        observed(&mut object);
    } else {
        treated(&mut object, (2, "Denied"), (2, "Blocked"));
        set(&mut object, "status_id", 2);
        set(&mut object, "status", "Failure");
    }
    object
}

/// Packets that the staged policy would treat otherwise. They were told of as drops if they were dropped, so this is
/// an observation either way, and rule and policy are the staged ones, which were not applied.
pub(super) fn would_differ(record: &Record, differs: &WouldDiffer) -> Members {
    let mut object = packets(record, &differs.staged, TRAFFIC, false);
    observed(&mut object);
    let enforced = if differs.enforced.passed { "passed" } else { "dropped" };
    let staged = if differs.enforced.passed { "drop" } else { "pass" };
    let detail = format!("{enforced} by the enforced policy; the staged policy would {staged} it");
    set(&mut object, "status_detail", detail);
    object
}

/// A flow that a rule has let begin.
pub(super) fn allowed(record: &Record, allowed: &Allowed) -> Members {
    let mut object = packets(record, &allowed.first, OPEN, true);
    treated(&mut object, (1, "Allowed"), (1, "Allowed"));
    set(&mut object, "status_id", 1);
    set(&mut object, "status", "Success");
    if allowed.one_in > 1 {
        set(&mut object, "status_detail", format!("one of {} flows is told of", allowed.one_in));
    }
    object
}

/// Nothing was done to them.
fn observed(object: &mut Members) {
    treated(object, (3, "Observed"), (17, "Logged"));
}

/// What was done to them, and what came of it.
fn treated(object: &mut Members, action: (u8, &str), disposition: (u8, &str)) {
    set(object, "action_id", action.0);
    set(object, "action", action.1);
    set(object, "disposition_id", disposition.0);
    set(object, "disposition", disposition.1);
}

fn packets(record: &Record, drop: &Drop, activity: Activity, is_applied: bool) -> Members {
    let mut object = of(&CLASS, activity);
    set(&mut object, "status_code", drop.reason.to_string());
    set(&mut object, "count", drop.count);
    set(&mut object, "traffic", json!({"packets": drop.count, "bytes": drop.bytes}));
    set_some(&mut object, "src_endpoint", drop.source.as_ref().map(|end| endpoint(end, drop.source_port)));
    let destination = drop.destination.as_ref().map(|end| endpoint(end, drop.destination_port));
    set_some(&mut object, "dst_endpoint", destination);
    if drop.source.is_none() && drop.destination.is_none() {
        // The schema wants one of them. This host is the one that is known of a frame.
        let local = json!({"hostname": record.host, "interface_name": drop.interface});
        let end = if drop.direction == Direction::Ingress { "dst_endpoint" } else { "src_endpoint" };
        set(&mut object, end, without_nulls(local));
    }
    set(&mut object, "connection_info", connection(drop));
    set_some(&mut object, "firewall_rule", drop.rule.as_ref().map(rule));
    let digest = record.files.as_ref().map(|files| &*files.policy);
    let mut policy = policy(drop.generation, digest);
    set(&mut policy, "is_applied", is_applied);
    set(&mut object, "policy", policy);
    set(&mut object, "device", device(record, drop.interface.as_deref()));
    set(&mut object, "observables", observables(drop));
    object
}

fn endpoint(end: &End, port: Option<u16>) -> Members {
    let mut endpoint = Members::new();
    set(&mut endpoint, "ip", end.address.to_string());
    set_some(&mut endpoint, "port", port);
    set_some(&mut endpoint, "name", end.name.as_deref());
    set_some(&mut endpoint, "uid", end.key.as_deref());
    set_some(&mut endpoint, "owner", end.user.as_deref().map(|user| json!({"name": user})));
    endpoint
}

fn without_nulls(mut value: Value) -> Value {
    if let Value::Object(members) = &mut value {
        members.retain(|_, member| !member.is_null());
    }
    value
}

fn connection(drop: &Drop) -> Members {
    let mut connection = Members::new();
    let (direction_id, direction) = match drop.direction {
        Direction::Ingress => (1, "Inbound"),
        Direction::Egress => (2, "Outbound"),
    };
    set(&mut connection, "direction_id", direction_id);
    set(&mut connection, "direction", direction);
    if let Some(protocol) = drop.protocol {
        set(&mut connection, "protocol_num", protocol.0);
        set(&mut connection, "protocol_name", protocol.to_string());
    }
    if let Some(end) = drop.source.as_ref().or(drop.destination.as_ref()) {
        set(&mut connection, "protocol_ver_id", if end.address.is_ipv4() { 4 } else { 6 });
    }
    connection
}

fn rule(rule: &Rule) -> Members {
    let mut object = Members::new();
    set(&mut object, "uid", rule.number.to_string());
    set(&mut object, "name", rule.title());
    set_some(&mut object, "desc", rule.position.as_deref());
    object
}

/// What analysts look for.
fn observables(drop: &Drop) -> Value {
    let ends = [("src_endpoint.ip", &drop.source), ("dst_endpoint.ip", &drop.destination)];
    let address = |(name, end): (&str, &Option<End>)| {
        let value = end.as_ref()?.address.to_string();
        Some(json!({"name": name, "type_id": 2, "type": "IP Address", "value": value}))
    };
    ends.into_iter().filter_map(address).collect()
}
