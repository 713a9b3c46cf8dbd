//! What is wrong with a note, a key, or what was asked of either.

/// Why something is refused. Each tells what to do next where that is not plain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// More bytes than a note has.
    #[error("it is longer than {limit} bytes: no note of a grant or a policy")]
    TooLong {
        /// The most that a note has.
        limit: usize,
    },
    /// No signed note.
    #[error("line {line}: {problem}")]
    Note {
        /// The line, from 1.
        line: usize,
        /// What is wrong there.
        problem: String,
    },
    /// A signed note whose text says something else.
    #[error("line {line}: {problem}")]
    Text {
        /// The line, from 1.
        line: usize,
        /// What is wrong there.
        problem: String,
    },
    /// Of a key.
    #[error("{0}")]
    Key(String),
    /// Of a person's name.
    #[error("`{0}` is no name: one is ASCII letters, numbers, `-`, `_`, `.` and `@`, at most 64")]
    Name(String),
    /// A signature line stands twice.
    #[error("line {line}: the signature of {name} is there twice: a copied line is no second signature")]
    Copied {
        /// Whose.
        name: String,
        /// The line, from 1.
        line: usize,
    },
    /// A signature of somebody who is known does not fit the text.
    #[error("the signature of {name} does not fit: it is over another text, or was changed")]
    BadSignature {
        /// Whose.
        name: String,
    },
    /// A signature that was made without a touch.
    #[error(
        "the signature of {name} was made without a touch of the device: make a key without `no-touch-required`"
    )]
    Untouched {
        /// Whose.
        name: String,
    },
    /// Not enough people have signed.
    #[error("{have} of {need} signatures: {}", said(.why))]
    TooFew {
        /// People whose signatures count.
        have: usize,
        /// People who are needed.
        need: usize,
        /// What does not count, and why.
        why: Vec<String>,
    },
    /// It is over.
    #[error("it was good until {until}, and it is {now}: ask for another one")]
    Expired {
        /// Its end, RFC 3339.
        until: String,
        /// Now, RFC 3339.
        now: String,
    },
    /// It has not begun.
    #[error("it begins at {from}, and it is {now}: hand it in then, or set this host's clock")]
    Early {
        /// Its begin, RFC 3339.
        from: String,
        /// Now, RFC 3339.
        now: String,
    },
    /// Of ssh-agent.
    #[error("ssh-agent: {0}")]
    Agent(String),
}

fn said(why: &[String]) -> String {
    if why.is_empty() { "others have to sign as well".to_owned() } else { why.join("; ") }
}

/// What comes of something here.
pub type Result<T> = std::result::Result<T, Error>;
