//! Routes of the agent's socket. A change of what is asked or answered that an older side does not understand is a
//! new version of all.

use serde::{Deserialize, Serialize};

/// The version of the routes, and of all that travels by them.
pub const VERSION: u32 = 1;

/// Which version answers; GET.
pub const VERSIONS: &str = "/v1/version";
/// A sign of life, that waits for no lock; GET.
pub const ALIVE: &str = "/v1/alive";
/// What is enforced; GET.
pub const STATUS: &str = "/v1/status";
/// Metrics in Prometheus' text format; GET.
pub const METRICS: &str = "/v1/metrics";
/// Events as they come, one JSON object a line; GET, with a [`crate::request::Watch`].
pub const EVENTS: &str = "/v1/events";
/// The host's conversations, one JSON object a line; GET, with a [`crate::flow::Query`].
pub const FLOWS: &str = "/v1/flows";
/// What was put in force, newest first; GET.
pub const HISTORY: &str = "/v1/history";
/// TLS at this host's service ports; GET.
pub const TLS: &str = "/v1/tls";
/// Enforce a policy; POST, a [`crate::change::Change`].
pub const APPLY: &str = "/v1/apply";
/// Keep what waits for a confirmation; POST.
pub const CONFIRM: &str = "/v1/confirm";
/// Return to the previous generation or to an earlier one; POST, a [`crate::request::Rollback`] or nothing.
pub const ROLLBACK: &str = "/v1/rollback";
/// Stage a policy; POST, a [`crate::change::Change`].
pub const STAGE: &str = "/v1/stage";
/// Take the staged policy away; POST.
pub const UNSTAGE: &str = "/v1/unstage";
/// Enforce the staged policy; POST.
pub const PROMOTE: &str = "/v1/promote";
/// Cut an identity off; POST.
pub const QUARANTINE: &str = "/v1/quarantine";
/// End a quarantine; POST.
pub const RELEASE: &str = "/v1/release";
/// Believe the next answer of a source of the inventory, whatever it lacks; POST, its name.
pub const ACCEPT: &str = "/v1/accept";
/// POST: what the fleet has signed is enforced again, in place of what was applied on this host.
pub const RESUME: &str = "/v1/resume";
/// Hand in what people have signed for every host of a fleet: a grant, a revocation, a quarantine or a release; POST, a
/// [`crate::grant::Request`].
pub const NOTE: &str = "/v1/note";
/// What is granted for a time, and what was; GET.
pub const GRANTS: &str = "/v1/grants";
/// Hand a grant in; POST, a [`crate::grant::Request`].
pub const GRANT: &str = "/v1/grant";
/// End a grant; POST, a [`crate::grant::Revocation`].
pub const REVOKE: &str = "/v1/revoke";
/// Attach to an interface now; POST.
pub const ATTACH: &str = "/v1/attach";
/// End enforcement; POST.
pub const DETACH: &str = "/v1/detach";

/// What a request takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// To ask: every GET.
    Read,
    /// To change what is enforced: every POST.
    Change,
}

/// Which version answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Version {
    /// The agent's, as `bulkhead --version` has it.
    pub version: String,
    /// The commit that it was built from; empty of earlier agents.
    #[serde(default)]
    pub commit: String,
    /// Of the routes.
    pub api: u32,
}
