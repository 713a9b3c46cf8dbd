//! What came of a request for a change, as its handler says it, for the control event that tells of it.

use bulkhead_api::event::Outcome;
use bulkhead_api::grant;
use bulkhead_api::quarantine;
use bulkhead_api::request::{Applied, AttachAnswer};
use bulkhead_dataplane::Hook;

use crate::exit::Usage;

/// What a request is about, as far as its event names it.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// A policy's name, an identity or an interface.
    pub subject: Option<String>,
    /// Why it is asked for.
    pub reason: Option<String>,
}

/// What came of a request, or why it came to nothing; none: nothing has changed, nor was to.
pub fn outcome<T: Answered>(answer: &anyhow::Result<T>) -> Option<(Outcome, Option<String>)> {
    match answer {
        Ok(answer) => answer.outcome(),
        Err(error) if error.is::<Usage>() => Some((Outcome::Refused, Some(format!("{error:#}")))),
        Err(error) => Some((Outcome::Failed, Some(format!("{error:#}")))),
    }
}

/// An answer that says what came of a change.
pub trait Answered {
    /// The outcome, and why it is none that was asked for; none: nothing has changed, nor was to.
    fn outcome(&self) -> Option<(Outcome, Option<String>)>;

    /// Who has signed what it is about, if that is not known by what is enforced.
    fn signers(&self) -> Vec<String> {
        Vec::new()
    }
}

fn done_or(is_done: bool, why: impl FnOnce() -> Option<String>) -> Option<(Outcome, Option<String>)> {
    Some(if is_done { (Outcome::Done, None) } else { (Outcome::Refused, why()) })
}

impl Answered for Applied {
    fn outcome(&self) -> Option<(Outcome, Option<String>)> {
        if self.dry_run {
            return None;
        }
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

impl Answered for grant::Answer {
    fn outcome(&self) -> Option<(Outcome, Option<String>)> {
        done_or(self.done, || self.notes.first().cloned())
    }

    fn signers(&self) -> Vec<String> {
        self.grant.as_ref().map(|grant| grant.approvers.clone()).unwrap_or_default()
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

#[cfg(test)]
mod tests {
    use anyhow::anyhow;
    use bulkhead_api::event::Outcome;
    use bulkhead_api::history::Summary;
    use bulkhead_api::mode::Mode;
    use bulkhead_api::quarantine;
    use bulkhead_api::request::{Applied, AttachAnswer};

    use super::outcome;
    use crate::exit::Usage;

    fn applied(applied: bool, text: &str) -> Applied {
        Applied {
            applied,
            generation: 3,
            mode: Mode::Enforce,
            rules: 0,
            confirm_within: None,
            dry_run: false,
            difference: Summary::default(),
            notes: Vec::new(),
            findings: Vec::new(),
            text: text.to_owned(),
        }
    }

    #[test]
    fn an_answer_says_what_came_of_a_request() {
        let because = |why: &str| Some(why.to_owned());
        assert_eq!(outcome(&anyhow::Ok(applied(true, ""))), Some((Outcome::Done, None)));
        assert_eq!(outcome(&anyhow::Ok(applied(false, "p:1:1"))), Some((Outcome::Refused, because("p:1:1"))));
        assert_eq!(outcome(&anyhow::Ok(None::<Applied>)), Some((Outcome::Refused, None)));
        assert_eq!(outcome(&anyhow::Ok(false)), Some((Outcome::Refused, None)));
        let unknown = quarantine::Answer::no("nobody has that name".to_owned());
        assert_eq!(outcome(&anyhow::Ok(unknown)), Some((Outcome::Refused, because("nobody has that name"))));
        let asked = Applied { dry_run: true, ..applied(false, "p:1:1") };
        assert_eq!(outcome(&anyhow::Ok(asked)), None);
        assert_eq!(outcome(&anyhow::Ok(AttachAnswer { attached: None, generation: 3 })), None);
        let no_room: anyhow::Result<bool> = Err(anyhow!("no room").context("compiling"));
        assert_eq!(outcome(&no_room), Some((Outcome::Failed, because("compiling: no room"))));
        let wrong: anyhow::Result<bool> = Err(Usage("no such interface".to_owned()).into());
        assert_eq!(outcome(&wrong), Some((Outcome::Refused, because("no such interface"))));
    }
}
