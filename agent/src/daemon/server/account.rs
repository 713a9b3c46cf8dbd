//! What came of a request for a change, as its handler says it, for the control event that tells of it.

use std::sync::Arc;

use axum::extract::{ConnectInfo, Request, State as Extract};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use bulkhead_api::event::{Action, Outcome};
use bulkhead_api::quarantine;
use bulkhead_api::request::{Applied, AttachAnswer};
use bulkhead_dataplane::Hook;

use super::Api;
use super::peer::Peer;
use crate::daemon::events::control::{Change, generation};
use crate::exit::Usage;

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

/// What a request is about, as far as its event names it.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// A policy's name, an identity or an interface.
    pub subject: Option<String>,
    /// Why it is asked for.
    pub reason: Option<String>,
}

/// What came of a request; it goes with the response.
#[derive(Clone, Debug)]
pub struct Account {
    about: About,
    /// None: nothing has changed, nor was to.
    came_of_it: Option<(Outcome, Option<String>)>,
}

impl Account {
    /// Of an answer, or of why there is none.
    pub fn of<T: Answered>(about: About, answer: &anyhow::Result<T>) -> Self {
        let came_of_it = match answer {
            Ok(answer) => answer.outcome(),
            Err(error) if error.is::<Usage>() => Some((Outcome::Refused, Some(format!("{error:#}")))),
            Err(error) => Some((Outcome::Failed, Some(format!("{error:#}")))),
        };
        Self { about, came_of_it }
    }
}

/// An answer that says what came of a change.
pub trait Answered {
    /// The outcome, and why it is none that was asked for; none: nothing has changed, nor was to.
    fn outcome(&self) -> Option<(Outcome, Option<String>)>;
}

fn done_or(is_done: bool, why: impl FnOnce() -> Option<String>) -> Option<(Outcome, Option<String>)> {
    Some(if is_done { (Outcome::Done, None) } else { (Outcome::Refused, why()) })
}

impl Answered for Applied {
    fn outcome(&self) -> Option<(Outcome, Option<String>)> {
        done_or(self.applied, || {
            Some(self.text.clone()).filter(|text| !text.is_empty()).or_else(|| self.notes.first().cloned())
        })
    }
}

/// Of something that may not be there, such as a staged policy.
impl<T: Answered> Answered for Option<T> {
    fn outcome(&self) -> Option<(Outcome, Option<String>)> {
        self.as_ref().map_or_else(|| done_or(false, || None), Answered::outcome)
    }
}

/// Whether anything was to be confirmed.
impl Answered for bool {
    fn outcome(&self) -> Option<(Outcome, Option<String>)> {
        done_or(*self, || None)
    }
}

impl Answered for quarantine::Answer {
    fn outcome(&self) -> Option<(Outcome, Option<String>)> {
        done_or(self.done, || self.notes.first().cloned())
    }
}

/// Asking again and again whether an interface is attached changes nothing.
impl Answered for AttachAnswer {
    fn outcome(&self) -> Option<(Outcome, Option<String>)> {
        self.attached.as_ref().map(|_| (Outcome::Done, None))
    }
}

/// The hooks that were taken off.
impl Answered for Vec<(String, Hook)> {
    fn outcome(&self) -> Option<(Outcome, Option<String>)> {
        Some((Outcome::Done, None))
    }
}

/// Tells of what a request has changed or tried to, before it is answered.
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
    let before = generation(&api.enforcer);
    let response = next.run(request).await;
    let account = response.extensions().get::<Account>().cloned().or_else(|| not_read(response.status()));
    let Some(Account { about, came_of_it: Some((outcome, why)) }) = account else { return response };
    let change = Change { action, by, before, outcome, subject: about.subject, detail: why.or(about.reason) };
    // The event is published before the answer is read.
    let _ = tokio::task::spawn_blocking(move || change.tell(&api.enforcer)).await;
    response
}

/// What came of a request that reached no handler.
fn not_read(status: StatusCode) -> Option<Account> {
    let why = format!("the request was not understood: {status}");
    let outcome = (Outcome::Refused, Some(why));
    (!status.is_success()).then(|| Account { about: About::default(), came_of_it: Some(outcome) })
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;
    use bulkhead_api::event::Outcome;
    use bulkhead_api::mode::Mode;
    use bulkhead_api::quarantine;
    use bulkhead_api::request::{Applied, AttachAnswer};

    use super::{About, Account, Answered};
    use crate::exit::Usage;

    fn of<T: Answered>(answer: anyhow::Result<T>) -> Option<(Outcome, Option<String>)> {
        Account::of(About::default(), &answer).came_of_it
    }

    fn applied(applied: bool, text: &str) -> Applied {
        Applied {
            applied,
            generation: 3,
            mode: Mode::Enforce,
            rules: 0,
            confirm_within: None,
            notes: Vec::new(),
            findings: Vec::new(),
            text: text.to_owned(),
        }
    }

    #[test]
    fn an_answer_says_what_came_of_a_request() {
        let because = |why: &str| Some(why.to_owned());
        assert_eq!(of(Ok(applied(true, ""))), Some((Outcome::Done, None)));
        assert_eq!(of(Ok(applied(false, "p:1:1"))), Some((Outcome::Refused, because("p:1:1"))));
        assert_eq!(of(Ok(None::<Applied>)), Some((Outcome::Refused, None)));
        assert_eq!(of(Ok(false)), Some((Outcome::Refused, None)));
        let unknown = quarantine::Answer::no("nobody has that name".to_owned());
        assert_eq!(of(Ok(unknown)), Some((Outcome::Refused, because("nobody has that name"))));
        assert_eq!(of(Ok(AttachAnswer { attached: None, generation: 3 })), None);
        let no_room: anyhow::Result<bool> = Err(anyhow!("no room").context("compiling"));
        assert_eq!(of(no_room), Some((Outcome::Failed, because("compiling: no room"))));
        let wrong: anyhow::Result<bool> = Err(Usage("no such interface".to_owned()).into());
        assert_eq!(of(wrong), Some((Outcome::Refused, because("no such interface"))));
    }
}
