//! Changes of what is enforced: Entity Management, and Application Lifecycle of the agent itself.

use bulkhead_api::event::{Action, Actor, Control, Outcome};
use bulkhead_api::record::Record;
use serde_json::{Value, json};

use super::{Activity, Class, Members, of, policy, set, set_some};
use crate::PRODUCT;

const ENTITY: Class =
    Class { uid: 3004, name: "Entity Management", category: (3, "Identity & Access Management") };
const APPLICATION: Class =
    Class { uid: 6002, name: "Application Lifecycle", category: (6, "Application Activity") };

/// What is changed.
enum Entity {
    Application,
    Policy,
    Identity,
    Enforcement,
}

fn meaning(action: Action) -> (Entity, Activity) {
    match action {
        Action::Start => (Entity::Application, (3, "Start")),
        Action::Stop => (Entity::Application, (4, "Stop")),
        Action::Apply
        | Action::Confirm
        | Action::Rollback
        | Action::Accept
        | Action::Resume
        | Action::Readdress => (Entity::Policy, (3, "Update")),
        Action::Stage => (Entity::Policy, (1, "Create")),
        Action::Unstage => (Entity::Policy, (4, "Delete")),
        Action::Promote | Action::Grant | Action::BreakGlass => (Entity::Policy, (10, "Activate")),
        Action::Revoke | Action::GrantExpired => (Entity::Policy, (11, "Deactivate")),
        Action::Quarantine => (Entity::Identity, (12, "Suspend")),
        Action::Release => (Entity::Identity, (13, "Resume")),
        Action::Attach | Action::Restore => (Entity::Enforcement, (8, "Enable")),
        Action::Detach => (Entity::Enforcement, (9, "Disable")),
    }
}

/// A change, or an attempt at one.
pub(super) fn changed(record: &Record, control: &Control) -> Members {
    let (what, activity) = meaning(control.action);
    let now = policy(control.generation, control.policy.as_deref());
    let subject = control.subject.as_deref();
    let entity = |type_id: u8, kind: &str| {
        let mut entity = Members::new();
        set(&mut entity, "type_id", type_id);
        set(&mut entity, "type", kind);
        set(&mut entity, "name", subject.unwrap_or(PRODUCT));
        entity
    };
    let entity = match what {
        Entity::Application => None,
        Entity::Policy => {
            let mut entity = entity(5, "Policy");
            set(&mut entity, "policy", now.clone());
            Some(entity)
        }
        Entity::Identity => Some(entity(1, "Device")),
        Entity::Enforcement => Some(entity(99, "Enforcement")),
    };
    let mut object = of(if entity.is_some() { &ENTITY } else { &APPLICATION }, activity);
    match entity {
        Some(entity) => {
            set(&mut object, "entity", entity);
            set_some(&mut object, "comment", control.detail.as_deref());
        }
        None => {
            let version = env!("CARGO_PKG_VERSION");
            set(&mut object, "app", json!({"name": PRODUCT, "vendor_name": "Bulkhead", "version": version}));
        }
    }
    let is_done = control.outcome == Outcome::Done;
    set(&mut object, "policy", now);
    set(&mut object, "status_id", if is_done { 1 } else { 2 });
    set(&mut object, "status", if is_done { "Success" } else { "Failure" });
    set(&mut object, "status_code", control.outcome.name());
    set_some(&mut object, "status_detail", control.detail.as_deref());
    set(&mut object, "actor", actor(record, &control.by));
    object
}

fn actor(record: &Record, by: &Actor) -> Value {
    let user = |uid: u32| json!({"uid": uid.to_string()});
    match by {
        Actor::Socket { uid, pid, comm, exe, .. } => {
            let mut actor = Members::new();
            set(&mut actor, "user", user(*uid));
            if let Some(pid) = pid {
                let mut process = Members::new();
                set(&mut process, "pid", *pid);
                set_some(&mut process, "name", comm.as_deref());
                set_some(&mut process, "path", exe.as_deref());
                set(&mut actor, "process", process);
            }
            Value::Object(actor)
        }
        Actor::Command { uid, pid } => json!({"user": user(*uid), "process": {"pid": pid}}),
        Actor::Signal { signal } => json!({"app_name": format!("signal {signal}")}),
        Actor::File => json!({"app_name": "changed files"}),
        Actor::Source { name } => json!({"app_name": format!("inventory source {name}")}),
        Actor::Fleet { name } => json!({"app_name": format!("fleet, {name}")}),
        Actor::Agent => json!({"app_name": PRODUCT, "app_uid": record.event.node}),
    }
}
