//! Commands that install what is missing.

use std::fmt;

/// One command that fixes something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fix {
    pub environment: &'static [(&'static str, &'static str)],
    pub program: &'static str,
    pub arguments: Vec<String>,
    pub rights: Rights,
}

/// Whose command it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rights {
    Root,
    User,
}

impl Fix {
    pub(super) fn new(rights: Rights, program: &'static str, arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        Self { environment: &[], program, arguments, rights }
    }

    pub(super) fn needs_root(&self) -> bool {
        self.rights == Rights::Root
    }

    /// The line for someone who is not root.
    pub(super) fn with_sudo(&self) -> String {
        if self.needs_root() { format!("sudo {self}") } else { self.to_string() }
    }
}

impl fmt::Display for Fix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in self.environment {
            write!(f, "{name}={value} ")?;
        }
        write!(f, "{} {}", self.program, self.arguments.join(" "))
    }
}
