//! What went wrong (Detection Finding), and whether the control held (Compliance Finding).

use bulkhead_api::event::{
    Alarm, AlarmState, Altered, Balance, Binding, BindingState, Coverage, Effect, LostEvents, Timestamp,
    Unenforced, WorkloadChange, WorkloadState,
};
use bulkhead_api::record::Record;
use serde_json::json;

use super::{Activity, Class, Members, milliseconds, of, policy, set, set_some};
use crate::Exported;

const DETECTION: Class = Class { uid: 2004, name: "Detection Finding", category: (2, "Findings") };
const COMPLIANCE: Class = Class { uid: 2003, name: "Compliance Finding", category: (2, "Findings") };

const CREATE: Activity = (1, "Create");
const CLOSE: Activity = (3, "Close");

/// How a control did: OCSF's `compliance.status_id`.
#[derive(Clone, Copy)]
enum Held {
    Pass,
    Warning,
    Fail,
}

/// A time without enforcement.
pub(super) fn unenforced(exported: &Exported, record: &Record, time: &Unenforced) -> Members {
    let title = format!("{} was not enforced", time.interface);
    let mut object = finding(&DETECTION, exported, record, &title, Some(time.since));
    let mut info = info(exported, record, &title, Some(time.since));
    set(&mut info, "desc", &*time.cause);
    set(&mut object, "finding_info", info);
    set(&mut object, "duration", time.milliseconds);
    set(&mut object, "policy", policy(time.generation, record.files.as_ref().map(|files| &*files.policy)));
    let (disposition_id, disposition, effect) = match time.effect {
        Effect::None => (17, "Logged", "the programs judged all packets the same"),
        Effect::Closed => (2, "Blocked", "the guard dropped packets"),
        Effect::Open => (1, "Allowed", "packets may have passed unjudged"),
    };
    set(&mut object, "disposition_id", disposition_id);
    set(&mut object, "disposition", disposition);
    set(&mut object, "status_detail", effect);
    set(&mut object, "is_alert", time.effect != Effect::None);
    object
}

/// What the kernel holds is not what was approved.
pub(super) fn altered(exported: &Exported, record: &Record, altered: &Altered) -> Members {
    let title = "the kernel does not hold what was approved";
    let mut object = finding(&DETECTION, exported, record, title, None);
    set(&mut object, "policy", policy(altered.generation, record.files.as_ref().map(|files| &*files.policy)));
    set(&mut object, "count", altered.omitted.saturating_add(1));
    set(&mut object, "status_detail", record.event.to_string());
    set(&mut object, "is_alert", true);
    object
}

/// Which cgroup a workload is.
pub(super) fn workload(exported: &Exported, record: &Record, change: &WorkloadChange) -> Members {
    standing(
        exported,
        record,
        Standing {
            title: "which cgroup a workload is",
            uid: format!("workload {} {}", record.host, change.workload),
            description: record.event.to_string(),
            since: None,
            is_over: change.state != WorkloadState::Ambiguous,
            generation: change.generation,
            detail: change.state.name(),
        },
    )
}

/// Whether an identity's address is routed by one of its keys.
pub(super) fn binding(exported: &Exported, record: &Record, binding: &Binding) -> Members {
    let mut object = standing(
        exported,
        record,
        Standing {
            title: "an identity's address is not routed by its key",
            uid: format!("binding {} {} {}", record.host, binding.identity, binding.address),
            description: record.event.to_string(),
            since: None,
            is_over: matches!(binding.state, BindingState::Bound | BindingState::Unproven),
            generation: binding.generation,
            detail: binding.state.name(),
        },
    );
    set(&mut object, "count", binding.omitted.saturating_add(1));
    object
}

/// Something that somebody should look at.
pub(super) fn alarm(exported: &Exported, record: &Record, alarm: &Alarm) -> Members {
    let mut object = standing(
        exported,
        record,
        Standing {
            title: &format!("alarm: {}", alarm.alarm.name().replace('_', " ")),
            uid: format!("{} {}", alarm.cause, alarm.since),
            description: alarm.detail.clone(),
            since: Some(alarm.since),
            is_over: alarm.state == AlarmState::Ended,
            generation: alarm.generation,
            detail: &alarm.detail,
        },
    );
    set(&mut object, "count", alarm.count.max(1));
    object
}

/// A finding that stands until a record says that it is over.
struct Standing<'a> {
    title: &'a str,
    /// The same from its begin to its end.
    uid: String,
    description: String,
    since: Option<Timestamp>,
    is_over: bool,
    generation: u32,
    detail: &'a str,
}

fn standing(exported: &Exported, record: &Record, standing: Standing<'_>) -> Members {
    let Standing { title, uid, description, since, is_over, generation, detail } = standing;
    let mut object = finding(&DETECTION, exported, record, title, since);
    let mut info = info(exported, record, title, since);
    set(&mut info, "uid", uid);
    set(&mut info, "desc", description);
    set(&mut object, "finding_info", info);
    if is_over {
        object.extend(of(&DETECTION, CLOSE));
        set(&mut object, "status_id", 4);
        set(&mut object, "status", "Resolved");
    }
    set(&mut object, "policy", policy(generation, record.files.as_ref().map(|files| &*files.policy)));
    set(&mut object, "status_detail", detail);
    set(&mut object, "is_alert", !is_over);
    object
}

/// Events are not in the event log.
pub(super) fn lost(exported: &Exported, record: &Record, lost: &LostEvents) -> Members {
    let title = "events are not in the event log";
    let mut object = finding(&DETECTION, exported, record, title, None);
    set_some(&mut object, "count", lost.events);
    set(&mut object, "status_code", lost.cause.name());
    set_some(&mut object, "status_detail", lost.detail.as_deref());
    set(&mut object, "is_alert", true);
    object
}

/// Whether enforcement was on.
pub(super) fn coverage(exported: &Exported, record: &Record, coverage: &Coverage) -> Members {
    let held = if coverage.whole { Held::Pass } else { Held::Fail };
    let title = "enforcement was on all the time";
    let mut object = finding(&COMPLIANCE, exported, record, title, Some(coverage.since));
    let at_end = coverage.at_end.as_ref().unwrap_or(&coverage.at_start);
    set(&mut object, "policy", policy(at_end.generation, at_end.policy.as_deref()));
    let took = milliseconds(record.event.time).saturating_sub(milliseconds(coverage.since));
    set(&mut object, "duration", took);
    complies(object, "enforcement is on", held)
}

/// Whether every drop is told of.
pub(super) fn balance(exported: &Exported, record: &Record, balance: &Balance) -> Members {
    let held = match balance.is_balanced() {
        true => Held::Pass,
        false if balance.accounts().iter().any(|account| !account.settled) => Held::Warning,
        false => Held::Fail,
    };
    let title = "every drop is told of or counted as lost";
    let object = finding(&COMPLIANCE, exported, record, title, balance.counted_since);
    complies(object, "every drop is accounted for", held)
}

fn complies(mut object: Members, control: &str, held: Held) -> Members {
    let (id, status, finding_status) = match held {
        Held::Pass => (1, "Pass", (4, "Resolved")),
        Held::Warning => (2, "Warning", (1, "New")),
        Held::Fail => (3, "Fail", (1, "New")),
    };
    set(&mut object, "compliance", json!({"control": control, "status_id": id, "status": status}));
    set(&mut object, "status_id", finding_status.0);
    set(&mut object, "status", finding_status.1);
    set(&mut object, "is_alert", matches!(held, Held::Fail));
    object
}

/// A finding about a time that ends with the event's, and begins with it unless `since` is given.
fn finding(
    class: &Class,
    exported: &Exported,
    record: &Record,
    title: &str,
    since: Option<Timestamp>,
) -> Members {
    let mut object = of(class, CREATE);
    set(&mut object, "finding_info", info(exported, record, title, since));
    set(&mut object, "status_id", 1);
    set(&mut object, "status", "New");
    if let Some(since) = since {
        set(&mut object, "start_time", milliseconds(since));
        set(&mut object, "end_time", milliseconds(record.event.time));
    }
    object
}

fn info(exported: &Exported, record: &Record, title: &str, since: Option<Timestamp>) -> Members {
    let end = milliseconds(record.event.time);
    let mut info = Members::new();
    set(&mut info, "uid", exported.uid());
    set(&mut info, "title", title);
    set(&mut info, "types", json!([exported.kind()]));
    set(&mut info, "created_time", end);
    set(&mut info, "first_seen_time", since.map_or(end, milliseconds));
    set(&mut info, "last_seen_time", end);
    info
}
