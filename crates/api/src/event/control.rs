//! Who changed what is enforced, or tried to.

use serde::{Deserialize, Serialize};

/// A change of what is enforced, by a command or by the agent itself, or an attempt at one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Control {
    /// What was to be done, such as `apply`.
    pub action: Action,
    /// What came of it: `done`, `refused` or `failed`.
    pub outcome: Outcome,
    /// Who asked for it.
    pub by: Actor,
    /// What it was about: who is quarantined, an interface, a policy file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Why, in the operator's or the system's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The generation that was enforced before; 0: none.
    pub generation_before: u32,
    /// The generation that is enforced after; 0: none.
    pub generation: u32,
    /// Who has signed the policy and the inventory, or the grant.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signers: Vec<String>,
    /// SHA-256 of the policy file that is enforced after, hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// SHA-256 of the inventory file that is enforced after, hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inventory: Option<String>,
}

macro_rules! names {
    ($(#[$doc:meta])* $type:ident { $($(#[$of:meta])* $variant:ident $name:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        pub enum $type {
            $($(#[$of])* #[serde(rename = $name)] $variant,)*
        }

        impl $type {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Its stable name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

pub(super) use names;

names! {
    /// What is done to what is enforced.
    Action {
        /// The agent has started, and enforces.
        Start "start",
        /// The agent ends; what is enforced stays.
        Stop "stop",
        /// Other files are enforced.
        Apply "apply",
        /// What waited for its confirmation stays.
        Confirm "confirm",
        /// The files before are enforced again.
        Rollback "rollback",
        /// A policy is staged: it observes.
        Stage "stage",
        /// The staged policy is taken away.
        Unstage "unstage",
        /// The staged policy is enforced.
        Promote "promote",
        /// An identity is quarantined.
        Quarantine "quarantine",
        /// A quarantine ends.
        Release "release",
        /// An interface is to be enforced now.
        Attach "attach",
        /// Enforcement ends.
        Detach "detach",
        /// A grant is handed in.
        Grant "grant",
        /// A grant is handed in that one signature suffices for.
        BreakGlass "break_glass",
        /// A grant is ended, by command, or because the policy does not allow it any more.
        Revoke "revoke",
        /// A grant's time is over.
        GrantExpired "grant_expired",
        /// The next answer of a source of the inventory is believed, whatever it lacks.
        Accept "accept",
        /// What the fleet has signed is to be enforced again, in place of what was applied on this host.
        Resume "resume",
        /// What others took away or changed is enforced again.
        Restore "restore",
        /// Underlay interfaces have other addresses, and what is enforced is built again for them.
        Readdress "readdress",
    }
}

names! {
    /// What came of a change.
    Outcome {
        /// It is in force.
        Done "done",
        /// Nothing has changed: the files are invalid, or there was nothing to do.
        Refused "refused",
        /// The system refused.
        Failed "failed",
    }
}

/// Who asked for a change, by the field `via`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "via", rename_all = "snake_case")]
pub enum Actor {
    /// `socket`: a process, as the kernel says of the other end of the agent's socket (SO_PEERCRED). Names are
    /// those that it had when it connected; they are its own words, ids are the kernel's.
    Socket {
        /// User id.
        uid: u32,
        /// Group id.
        gid: u32,
        /// Process id in the agent's PID namespace; absent if it has none there.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pid: Option<i32>,
        /// Its name, as in /proc/PID/comm.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        comm: Option<String>,
        /// Its program, as in /proc/PID/exe.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        exe: Option<String>,
    },
    /// `command`: a command itself, since no agent has answered it; ids as the kernel says.
    Command {
        /// User id.
        uid: u32,
        /// Process id.
        pid: u32,
    },
    /// `signal`: whoever may send the agent signals.
    Signal {
        /// Its name, such as `SIGTERM`.
        signal: String,
    },
    /// `file`: the files that `run` names have changed, and agent.toml has `watch = true`.
    File,
    /// `source`: sources of the inventory, which list others than before.
    Source {
        /// Their names.
        name: String,
    },
    /// `fleet`: the fleet that the host follows.
    Fleet {
        /// What of it, such as `policy 3, inventory 7`, or `notes`.
        name: String,
    },
    /// `agent`: the agent itself: a time was over, something was restored.
    Agent,
}
