//! Who may ask and who may change, by groups, as the kernel has them of the other end of the socket.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::extract::{ConnectInfo, Request, State as Extract};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use bulkhead_api::event::{Action, Outcome};
use bulkhead_api::route::{self, Right};
use bulkhead_host::groups;

use super::Api;
use super::peer::{Peer, is_owner};
use crate::config::Control;
use crate::daemon::events::control::{Change, generation};
use crate::daemon::state::{Enforcer, held};

/// Refusals are on record once in this time, however often somebody tries.
const BETWEEN_REFUSALS: Duration = Duration::from_secs(1);

/// What groups may do. Root and the agent's own user may do everything.
#[derive(Debug, Default)]
pub struct Rights {
    /// The group whose members may ask.
    pub read: Option<u32>,
    change: Option<u32>,
    /// What the operator must know of it.
    pub warnings: Vec<String>,
    refused: Mutex<Refused>,
}

/// Attempts to change without the right to.
#[derive(Debug, Default)]
struct Refused {
    told: Option<Instant>,
    since: u64,
}

impl Rights {
    /// What agent.toml says. A group that is not there has no members, and is told of.
    #[must_use]
    pub fn new(control: &Control) -> Self {
        let mut warnings = Vec::new();
        let mut id = |key: &str, name: &Option<String>| {
            let name = name.as_ref()?;
            let id = groups::id(name);
            if id.is_none() {
                warnings.push(format!(
                    "group {name} is not there ([control] {key} in agent.toml): it gives nobody a right; make it with \
                     `groupadd --system {name}` and restart the agent"
                ));
            }
            id
        };
        let (read, change) = (id("read", &control.read), id("change", &control.change));
        Self { read, change, warnings, refused: Mutex::default() }
    }

    /// Whether somebody may do what takes a right. Who may change may ask.
    fn allow(&self, peer: &Peer, right: Right) -> bool {
        let is_in = |group: Option<u32>| group.is_some_and(|group| peer.groups.contains(&group));
        is_owner(peer.uid) || is_in(self.change) || (right == Right::Read && is_in(self.read))
    }

    /// How many attempts are to be told of now; none: they are told with a later one.
    fn to_tell(&self) -> Option<u64> {
        let mut refused = held(&self.refused);
        refused.since += 1;
        if refused.told.is_some_and(|told| told.elapsed() < BETWEEN_REFUSALS) {
            return None;
        }
        refused.told = Some(Instant::now());
        Some(std::mem::take(&mut refused.since))
    }
}

/// Lets a request through if whoever is there has the right to it.
pub async fn check(
    Extract(api): Extract<Arc<Api>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Request,
    next: Next,
) -> Response {
    let right = if request.method() == Method::GET { Right::Read } else { Right::Change };
    if api.rights.allow(&peer, right) {
        return next.run(request).await;
    }
    let words = refusal(&peer, right, &api.enforcer.setup.config.control);
    if right == Right::Change
        && let Some(action) = action(request.uri().path())
        && let Some(attempts) = api.rights.to_tell()
    {
        let api = api.clone();
        let mut detail = words.clone();
        if attempts > 1 {
            let _ = write!(detail, "; with {} more attempts since the last one on record", attempts - 1);
        }
        let tell = move || tell(&api.enforcer, action, peer, detail);
        // On record before it is answered; what becomes of that changes nothing for who has no right.
        let _ = tokio::task::spawn_blocking(tell).await;
    }
    (StatusCode::FORBIDDEN, words).into_response()
}

fn tell(enforcer: &Enforcer, action: Action, peer: Peer, detail: String) {
    let before = generation(enforcer);
    let outcome = Outcome::Refused;
    Change {
        action,
        by: peer.actor,
        before,
        outcome,
        subject: None,
        detail: Some(detail),
        signers: Vec::new(),
    }
    .tell(enforcer);
}

/// Who may, to one who may not.
fn refusal(peer: &Peer, right: Right, control: &Control) -> String {
    let (what, group) = match right {
        Right::Read => ("ask this agent", &control.read),
        Right::Change => ("change what is enforced", &control.change),
    };
    let members = group.as_ref().map(|group| format!(" and members of group {group}")).unwrap_or_default();
    format!("user {} may not {what}: root{members} may ([control] in agent.toml)", peer.uid)
}

/// What a route is to do.
fn action(path: &str) -> Option<Action> {
    Some(match path {
        route::APPLY => Action::Apply,
        route::CONFIRM => Action::Confirm,
        route::ROLLBACK => Action::Rollback,
        route::STAGE => Action::Stage,
        route::UNSTAGE => Action::Unstage,
        route::PROMOTE => Action::Promote,
        route::QUARANTINE => Action::Quarantine,
        route::RELEASE => Action::Release,
        route::GRANT => Action::Grant,
        route::REVOKE => Action::Revoke,
        route::ACCEPT => Action::Accept,
        route::RESUME => Action::Resume,
        route::NOTE => Action::Grant,
        route::ATTACH => Action::Attach,
        route::DETACH => Action::Detach,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use bulkhead_api::event::Actor;
    use bulkhead_api::route::Right;

    use super::{Peer, Rights};
    use crate::config::Control;

    fn peer(uid: u32, groups: &[u32]) -> Peer {
        let actor = Actor::Socket { uid, gid: groups[0], pid: None, comm: None, exe: None };
        Peer { actor, uid, groups: groups.to_vec() }
    }

    #[test]
    fn groups_ask_or_change() {
        let control = Control { read: Some("4001".to_owned()), change: Some("4002".to_owned()) };
        let rights = Rights::new(&control);
        let may = |peer: &Peer| [Right::Read, Right::Change].map(|right| rights.allow(peer, right));
        assert_eq!(may(&peer(0, &[0])), [true, true]);
        assert_eq!(may(&peer(65_534, &[65_534])), [false, false]);
        assert_eq!(may(&peer(65_534, &[65_534, 4001])), [true, false]);
        assert_eq!(may(&peer(65_534, &[4001, 4002])), [true, true]);
        assert!(rights.warnings.is_empty());
    }

    #[test]
    fn a_group_that_is_not_there_gives_no_right() {
        let control = Control { read: Some("no-such-group-here".to_owned()), change: None };
        let rights = Rights::new(&control);
        assert!(!rights.allow(&peer(65_534, &[65_534]), Right::Read));
        assert!(rights.warnings[0].contains("no-such-group-here"), "{:?}", rights.warnings);
        let none = Rights::new(&Control::default());
        assert!(!none.allow(&peer(65_534, &[65_534]), Right::Read) && none.warnings.is_empty());
    }

    #[test]
    fn refusals_are_told_once_in_a_while_and_counted() {
        let rights = Rights::default();
        assert_eq!([(); 3].map(|()| rights.to_tell()), [Some(1), None, None]);
        super::held(&rights.refused).told = None;
        assert_eq!(rights.to_tell(), Some(3));
    }
}
