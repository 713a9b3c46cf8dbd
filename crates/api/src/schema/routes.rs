//! Every route: what it takes, what it asks and what it answers.

use schemars::{JsonSchema, Schema, SchemaGenerator};

use crate::change;
use crate::event::Event;
use crate::flow;
use crate::grant;
use crate::history;
use crate::hook::Hook;
use crate::quarantine;
use crate::request::{Applied, AttachAnswer, Confirmation, Promotion, Rollback, Watch};
use crate::route::{self, Right};
use crate::status::Status;
use crate::tls;

/// Makes the schema of a type.
type Make = fn(&mut SchemaGenerator) -> Schema;

/// What a body holds.
pub(super) enum Content {
    /// It is empty, or not read.
    Nothing,
    /// One value.
    Json(Make),
    /// The same, or nothing.
    Optional(Make),
    /// One object a line.
    Lines(Make),
    /// A line of JSON, and the texts that it announces.
    Change(Make),
    /// Plain text.
    Text,
}

/// One route.
pub struct Route {
    /// Its path.
    pub path: &'static str,
    /// What it takes: every GET asks, every POST changes.
    pub right: Right,
    /// What it does, in a line.
    pub summary: &'static str,
    /// What its answer is.
    pub(super) answer: &'static str,
    pub(super) query: Option<Make>,
    /// What its body is, where the schema does not say it.
    pub(super) body: Option<&'static str>,
    pub(super) asked: Content,
    pub(super) answered: Content,
}

impl Route {
    const fn get(path: &'static str, summary: &'static str, answer: &'static str, answered: Content) -> Self {
        Self {
            path,
            right: Right::Read,
            summary,
            answer,
            query: None,
            body: None,
            asked: Content::Nothing,
            answered,
        }
    }

    const fn post(
        path: &'static str,
        summary: &'static str,
        answer: &'static str,
        asked: Content,
        answered: Content,
    ) -> Self {
        Self { path, right: Right::Change, summary, answer, query: None, body: None, asked, answered }
    }

    /// Whether it may be answered by this code.
    pub(super) fn refuses(&self, code: u16) -> bool {
        match code {
            400 => self.right == Right::Change || self.query.is_some(),
            413 => matches!(self.asked, Content::Json(_) | Content::Optional(_)),
            _ => true,
        }
    }
}

fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

fn whole<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    T::json_schema(generator)
}

const CHANGE: &str = "A line of JSON (ChangeHead), then the text of the policy and that of the inventory, as they are, \
                      in this order and each as long as announced.";

const ENFORCED: &str = "What is enforced now.";

/// All of them.
pub const ROUTES: &[Route] = &[
    Route::get(
        route::VERSIONS,
        "Which version answers.",
        "The agent's version and commit, and the version of the routes.",
        Content::Json(of::<route::Version>),
    ),
    Route::get(
        route::ALIVE,
        "A sign of life, which waits for nothing.",
        "The agent is alive.",
        Content::Nothing,
    ),
    Route::get(
        route::STATUS,
        "What is enforced, and what it has done.",
        "The status.",
        Content::Json(of::<Status>),
    ),
    Route::get(
        route::HISTORY,
        "What was put in force.",
        "Changes whose files are kept, the newest first.",
        Content::Json(of::<Vec<history::Entry>>),
    ),
    Route::get(
        route::GRANTS,
        "What is granted for a time, and what was.",
        "Grants that run, then those that are over and remembered.",
        Content::Json(of::<Vec<grant::Entry>>),
    ),
    Route::get(
        route::TLS,
        "TLS at this host's service ports.",
        "The ports, what each was seen to begin with, and what it presents.",
        Content::Json(of::<tls::Coverage>),
    ),
    Route::get(route::METRICS, "Metrics.", "Metrics in Prometheus' text format.", Content::Text),
    Route {
        query: Some(whole::<Watch>),
        ..Route::get(
            route::EVENTS,
            "Events as they come.",
            "One event a line, without an end. The header `bulkhead-records`, if it was asked for, has the number of the \
             event log's record from which on records are told here.",
            Content::Lines(of::<Event>),
        )
    },
    Route {
        query: Some(whole::<flow::Query>),
        ..Route::get(
            route::FLOWS,
            "The host's conversations.",
            "One flow a line, and a last line with their number.",
            Content::Lines(of::<flow::Line>),
        )
    },
    Route {
        body: Some(CHANGE),
        ..Route::post(
            route::APPLY,
            "Enforce a policy.",
            ENFORCED,
            Content::Change(of::<change::Head>),
            Content::Json(of::<Applied>),
        )
    },
    Route::post(
        route::CONFIRM,
        "Keep what waits for a confirmation.",
        "Whether anything was to be confirmed.",
        Content::Optional(of::<Confirmation>),
        Content::Json(of::<bool>),
    ),
    Route::post(
        route::ROLLBACK,
        "Return to the previous generation, or to another one whose files are kept.",
        "What is enforced now; null if there is nothing to return to.",
        Content::Optional(of::<Rollback>),
        Content::Json(of::<Option<Applied>>),
    ),
    Route {
        body: Some(CHANGE),
        ..Route::post(
            route::STAGE,
            "Stage a policy, which observes.",
            ENFORCED,
            Content::Change(of::<change::Head>),
            Content::Json(of::<Applied>),
        )
    },
    Route::post(
        route::UNSTAGE,
        "Take the staged policy away.",
        "What is enforced now; null if nothing is staged.",
        Content::Nothing,
        Content::Json(of::<Option<Applied>>),
    ),
    Route::post(
        route::RESUME,
        "Follow the fleet again, in place of what was applied on this host.",
        "Whether there was such.",
        Content::Nothing,
        Content::Json(of::<bool>),
    ),
    Route::post(
        route::PROMOTE,
        "Enforce the staged policy.",
        "What is enforced now; null if nothing is staged.",
        Content::Optional(of::<Promotion>),
        Content::Json(of::<Option<Applied>>),
    ),
    Route::post(
        route::QUARANTINE,
        "Cut an identity off.",
        "What came of it.",
        Content::Json(of::<quarantine::Request>),
        Content::Json(of::<quarantine::Answer>),
    ),
    Route::post(
        route::GRANT,
        "Hand a grant in: a note that its approvers have signed.",
        "What came of it.",
        Content::Json(of::<grant::Request>),
        Content::Json(of::<grant::Answer>),
    ),
    Route::post(
        route::NOTE,
        "Hand in what people have signed for every host of a fleet.",
        "What came of it.",
        Content::Json(of::<grant::Request>),
        Content::Json(of::<grant::Answer>),
    ),
    Route::post(
        route::REVOKE,
        "End a grant at once, for good.",
        "What came of it.",
        Content::Json(of::<grant::Revocation>),
        Content::Json(of::<grant::Answer>),
    ),
    Route {
        body: Some("Whom to let in again: a node, its key or an address."),
        ..Route::post(
            route::RELEASE,
            "End a quarantine.",
            "What came of it.",
            Content::Json(of::<String>),
            Content::Json(of::<quarantine::Answer>),
        )
    },
    Route {
        body: Some("The source, by its name in agent.toml."),
        ..Route::post(
            route::ACCEPT,
            "Believe the next answer of a source of the inventory, whatever it lacks.",
            "true.",
            Content::Json(of::<String>),
            Content::Json(of::<bool>),
        )
    },
    Route {
        body: Some("The interface, by its name in agent.toml."),
        ..Route::post(
            route::ATTACH,
            "Attach to an interface now.",
            "What is attached, or null if the interface is not there.",
            Content::Json(of::<String>),
            Content::Json(of::<AttachAnswer>),
        )
    },
    Route::post(
        route::DETACH,
        "End enforcement.",
        "Interfaces and hooks that were detached; the agent ends after it.",
        Content::Nothing,
        Content::Json(of::<Vec<(String, Hook)>>),
    ),
];
