//! Who speaks to the broker for the fleet itself, and what each may ask.

use std::path::{Path, PathBuf};

use crate::layout::{ENROLMENTS, EVENTS, FILES, FILES_SUBJECTS, INVITED};

/// Who speaks to the broker for the fleet itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Makes the streams. Whoever may change a stream may have it say things anywhere, so this stays with the keys.
    Streams,
    /// Puts a fleet directory on the broker.
    Publisher,
    /// Mints agents' credentials for those who have an invitation.
    Enroller,
    /// Reads what hosts have sent.
    Collector,
}

/// What a subject of the streams' account is called in an account that imports it. Each account has an API of streams of
/// its own, where it has none, and which would answer first: so servers map what is asked at that of the streams' account
/// to a subject of this name.
pub(super) fn in_own_account(subject: &str) -> String {
    let what = subject.strip_prefix("$JS.API.STREAM.");
    what.map_or_else(|| subject.to_owned(), |what| format!("fleet.api.{what}"))
}

impl Role {
    /// Those that run as services, each in an account of its own.
    pub const SERVICES: [Self; 3] = [Self::Publisher, Self::Enroller, Self::Collector];

    /// Its name, which its file of credentials has, too.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Streams => "streams",
            Self::Publisher => "publisher",
            Self::Enroller => "enroller",
            Self::Collector => "collector",
        }
    }

    /// Its file of credentials in an account's directory.
    #[must_use]
    pub fn file(self, directory: &Path) -> PathBuf {
        directory.join(format!("{}.creds", self.name()))
    }

    /// Subjects that it asks at, as the streams' account has them.
    pub(super) fn asks(self) -> Vec<String> {
        let api = |verb: &str, stream: &str| format!("$JS.API.STREAM.{verb}.{stream}");
        let publishes = || {
            let read = format!("$JS.API.DIRECT.GET.{FILES}.{FILES_SUBJECTS}");
            vec![FILES_SUBJECTS.to_owned(), read, api("INFO", FILES), api("PURGE", FILES)]
        };
        match self {
            Self::Streams => {
                let all = [FILES, EVENTS, ENROLMENTS].into_iter();
                all.flat_map(|stream| ["INFO", "CREATE", "UPDATE"].map(|verb| api(verb, stream))).collect()
            }
            Self::Publisher => publishes(),
            // It publishes the inventory that it has changed.
            Self::Enroller => {
                let records = format!("$JS.API.DIRECT.GET.{ENROLMENTS}.enrolled.>");
                [publishes(), vec!["enrolled.*.*".to_owned(), records]].concat()
            }
            // Whatever follows a number, of any host, is asked for without a subject. No consumer: whoever makes one says
            // where the server sends what it has.
            Self::Collector => vec![format!("$JS.API.DIRECT.GET.{EVENTS}"), api("INFO", EVENTS)],
        }
    }

    /// Subjects that it may publish to. Servers check what they have mapped.
    pub(super) fn publishes(self) -> Vec<String> {
        let asks = self.asks();
        if self == Self::Streams {
            asks
        } else {
            asks.iter().map(|subject| in_own_account(subject)).collect()
        }
    }

    /// Subjects that it is asked at.
    pub(super) fn answers(self) -> Option<&'static str> {
        (self == Self::Enroller).then_some(INVITED)
    }
}
