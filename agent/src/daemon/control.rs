//! Control events: who changed what is enforced, or tried to, and what came of it.

use std::sync::Arc;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, Request, State as Extract};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use axum::serve::IncomingStream;
use bulkhead_api::event::{Action, Actor, Control, Kind, Outcome};
use bulkhead_api::quarantine::Entry;
use bulkhead_dataplane::Dataplane;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::net::UnixStream;

use super::api::Api;
use super::clock::boot_time;
use super::enforcer::Enforcer;
use super::events::{Shared, timestamp};
use super::listener::Heard;
use super::quarantine::{self, List};
use super::setup::Setup;
use super::start;
use super::store::{Record, Store};

/// What commands ask for, by the last part of their path.
const COMMANDS: [Action; 10] = [
    Action::Apply,
    Action::Confirm,
    Action::Rollback,
    Action::Stage,
    Action::Unstage,
    Action::Promote,
    Action::Quarantine,
    Action::Release,
    Action::Attach,
    Action::Detach,
];

/// Characters of a refusal that an event has.
const WORDS: usize = 400;

/// The process at the other end of the socket, when it connected.
#[derive(Clone, Debug)]
pub struct Peer(Actor);

impl Connected<IncomingStream<'_, Heard>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Heard>) -> Self {
        Self(peer(stream.io()))
    }
}

/// Who it is, as the kernel says; its names as /proc has them.
fn peer(stream: &UnixStream) -> Actor {
    let Ok(credentials) = stream.peer_cred() else {
        // The kernel has them of every connection.
        return Actor::Socket { uid: u32::MAX, gid: u32::MAX, pid: None, comm: None, exe: None };
    };
    let pid = credentials.pid().filter(|pid| *pid > 0);
    let comm = pid.and_then(|pid| std::fs::read_to_string(format!("/proc/{pid}/comm")).ok());
    let exe = pid.and_then(|pid| std::fs::read_link(format!("/proc/{pid}/exe")).ok());
    Actor::Socket {
        uid: credentials.uid(),
        gid: credentials.gid(),
        pid,
        comm: comm.map(|comm| comm.trim_end().to_owned()),
        exe: exe.map(|exe| exe.display().to_string()),
    }
}

/// The generation that is enforced; 0: none.
pub fn generation<D: Dataplane>(enforcer: &Enforcer<D>) -> u32 {
    let live = enforcer.live();
    if live.detached { 0 } else { live.built.number }
}

/// A change of what is enforced that is over.
pub struct Change {
    /// What was to be done.
    pub action: Action,
    /// Who asked for it.
    pub by: Actor,
    /// The generation that was enforced before.
    pub before: u32,
    /// What came of it.
    pub outcome: Outcome,
    /// What it was about.
    pub subject: Option<String>,
    /// Why.
    pub detail: Option<String>,
}

impl Change {
    /// What the agent has done by itself, and why.
    pub fn by_agent(action: Action, before: u32, detail: Option<&str>) -> Self {
        let detail = detail.map(str::to_owned);
        Self { action, by: Actor::Agent, before, outcome: Outcome::Done, subject: None, detail }
    }

    /// What a signal has made it do.
    pub fn by_signal(action: Action, before: u32, signal: &str, outcome: Outcome) -> Self {
        let by = Actor::Signal { signal: signal.to_owned() };
        Self { action, by, before, outcome, subject: None, detail: None }
    }

    /// Tells of it.
    pub fn tell<D: Dataplane>(self, enforcer: &Enforcer<D>) {
        let generation = generation(enforcer);
        let has_files =
            matches!(self.action, Action::Start | Action::Apply | Action::Rollback | Action::Promote);
        let digests = if has_files { digests(&enforcer.store, generation) } else { [None, None] };
        self.tell_of(&enforcer.shared, generation, digests);
    }

    /// Tells of it, and of what is enforced now and from which files.
    fn tell_of(self, shared: &Shared, generation: u32, [policy, inventory]: [Option<String>; 2]) {
        let Self { action, by, before, outcome, subject, detail } = self;
        let control = Control {
            action,
            outcome,
            by,
            subject,
            detail: detail.map(|detail| detail.chars().take(WORDS).collect()),
            generation_before: before,
            generation,
            policy,
            inventory,
        };
        shared.tell(timestamp(boot_time()), Kind::Control(Box::new(control)));
    }
}

/// What an earlier agent left, to tell of what became of it while none ran.
pub struct Before {
    /// The generation that is enforced; 0: none.
    generation: u32,
    record: Record,
    quarantined: List,
}

impl Before {
    /// Reads it. What cannot be read is nothing here; the start says so.
    pub fn read(plane: &impl Dataplane, setup: &Setup, store: &Store) -> Self {
        let quarantined = store.load(quarantine::FILE).ok().flatten().unwrap_or_default();
        let record = store.record().unwrap_or_default();
        let is_attached = plane.pinned_links(&setup.paths.pins).is_ok_and(|hooks| !hooks.is_empty());
        Self { generation: if is_attached { record.enforced } else { 0 }, record, quarantined }
    }

    /// Tells of the start, and of what was over by then.
    pub fn tell<D: Dataplane>(self, enforcer: &Enforcer<D>) {
        let Self { generation: before, record, quarantined } = self;
        Change::by_agent(Action::Start, before, None).tell(enforcer);
        let generation = generation(enforcer);
        let is_back = record.previous.is_some() && record.pending.as_ref().is_some_and(start::is_over);
        if is_back {
            let why = "not confirmed in time, while no agent ran";
            Change::by_agent(Action::Rollback, before, Some(why)).tell(enforcer);
        }
        let now = enforcer.live().quarantined.clone();
        let is_over = |entry: &&Entry| !now.0.iter().any(|still| still.is_about_same(entry));
        for entry in quarantined.0.iter().filter(is_over) {
            let why = "its time was over while no agent ran";
            let change = Change::by_agent(Action::Release, generation, Some(why));
            Change { subject: Some(entry.subject.clone()), ..change }.tell(enforcer);
        }
    }

    /// Tells that nothing is enforced any more, by an agent that ends at once.
    pub fn tell_ended(self, shared: &Shared) {
        let why = "the first policy was not confirmed in time";
        Change::by_agent(Action::Detach, self.generation, Some(why)).tell_of(shared, 0, [None, None]);
    }
}

/// Digests of the policy and the inventory that a generation was made from.
fn digests(store: &Store, generation: u32) -> [Option<String>; 2] {
    let Some((files, _)) = store.kept(generation) else { return [None, None] };
    [files.policy.text(), files.inventory.text()].map(|text| {
        let digest = Sha256::digest(text);
        Some(digest.iter().map(|byte| format!("{byte:02x}")).collect())
    })
}

/// Tells of what a request has changed or tried to, once it is answered.
pub async fn record(
    Extract(api): Extract<Arc<Api>>,
    ConnectInfo(Peer(by)): ConnectInfo<Peer>,
    request: Request,
    next: Next,
) -> Response {
    let name = request.uri().path().rsplit('/').next().unwrap_or_default();
    let action = COMMANDS.into_iter().find(|action| action.name() == name);
    let Some(action) = action.filter(|_| request.method() == Method::POST) else {
        return next.run(request).await;
    };
    let (parts, body) = request.into_parts();
    // Only root may ask, and what reads it has a limit of its own.
    let Ok(asked) = to_bytes(body, usize::MAX).await else { return StatusCode::BAD_REQUEST.into_response() };
    let before = generation(&api.enforcer);
    let response = next.run(Request::from_parts(parts, Body::from(asked.clone()))).await;
    let (parts, body) = response.into_parts();
    let Ok(answered) = to_bytes(body, usize::MAX).await else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    if let Some(change) = change(action, by, before, &asked, (parts.status, &answered)) {
        let enforcer = api.enforcer.clone();
        // The event is published before the answer is read.
        let _ = tokio::task::spawn_blocking(move || change.tell(&enforcer)).await;
    }
    Response::from_parts(parts, Body::from(answered))
}

/// What a request and its answer come to. Asking again and again whether an interface is attached changes nothing.
fn change(
    action: Action,
    by: Actor,
    before: u32,
    asked: &Bytes,
    (status, answered): (StatusCode, &Bytes),
) -> Option<Change> {
    let asked: Value = serde_json::from_slice(asked).unwrap_or_default();
    let answer: Value = serde_json::from_slice(answered).unwrap_or_default();
    let outcome = match status {
        StatusCode::OK if is_no(&answer) => Outcome::Refused,
        StatusCode::OK => Outcome::Done,
        status if status.is_client_error() => Outcome::Refused,
        _ => Outcome::Failed,
    };
    if action == Action::Attach && (outcome != Outcome::Done || answer["attached"].is_null()) {
        return None;
    }
    let text = |value: &Value| value.as_str().map(str::to_owned).filter(|text| !text.is_empty());
    let subject = text(&asked)
        .or_else(|| text(&asked["subject"]))
        .or_else(|| text(&asked["policy"]))
        .or_else(|| text(&asked["policy"]["name"]));
    let detail = match (outcome, status) {
        (Outcome::Done, _) => text(&asked["reason"]),
        (_, StatusCode::OK) => text(&answer["text"]).or_else(|| text(&answer["notes"][0])),
        _ => Some(String::from_utf8_lossy(answered).into_owned()),
    };
    Some(Change { action, by, before, outcome, subject, detail })
}

/// Whether an answer says that nothing was done.
fn is_no(answer: &Value) -> bool {
    matches!(answer, Value::Null | Value::Bool(false))
        || answer["applied"] == Value::Bool(false)
        || answer["done"] == Value::Bool(false)
}

#[cfg(test)]
mod tests {
    use axum::body::Bytes;
    use axum::http::StatusCode;
    use bulkhead_api::event::{Action, Actor, Outcome};

    use super::{Change, change};

    fn of(action: Action, asked: &'static str, status: StatusCode, answered: &'static str) -> Option<Change> {
        let (asked, answered) =
            (Bytes::from_static(asked.as_bytes()), Bytes::from_static(answered.as_bytes()));
        change(action, Actor::Agent, 3, &asked, (status, &answered))
    }

    #[test]
    fn an_answer_says_what_came_of_a_request() {
        let done = of(
            Action::Quarantine,
            r#"{"subject": "engine", "seconds": null, "reason": "breach"}"#,
            StatusCode::OK,
            r#"{"done": true, "entries": [], "notes": []}"#,
        );
        let done = done.unwrap();
        assert_eq!((done.outcome, done.before), (Outcome::Done, 3));
        assert_eq!((done.subject.as_deref(), done.detail.as_deref()), (Some("engine"), Some("breach")));
        let refused =
            of(Action::Apply, r#"{"policy": "p"}"#, StatusCode::OK, r#"{"applied": false, "text": "p:1:1"}"#);
        let refused = refused.unwrap();
        assert_eq!((refused.outcome, refused.detail.as_deref()), (Outcome::Refused, Some("p:1:1")));
        assert_eq!(refused.subject.as_deref(), Some("p"));
        for answer in ["null", "false"] {
            assert_eq!(
                of(Action::Rollback, "null", StatusCode::OK, answer).unwrap().outcome,
                Outcome::Refused
            );
        }
        let failed = of(Action::Apply, "{}", StatusCode::INTERNAL_SERVER_ERROR, "no room").unwrap();
        assert_eq!((failed.outcome, failed.detail.as_deref()), (Outcome::Failed, Some("no room")));
        assert!(of(Action::Attach, "\"eth0\"", StatusCode::OK, r#"{"attached": null}"#).is_none());
        let attached = of(Action::Attach, "\"eth0\"", StatusCode::OK, r#"{"attached": {}}"#).unwrap();
        assert_eq!(attached.subject.as_deref(), Some("eth0"));
    }
}
