//! A note that somebody hands in on the host: one that is cut off hears nothing of the fleet.

use bulkhead_api::event::Action;
use bulkhead_api::grant::Answer;
use bulkhead_api::text::plain;
use bulkhead_grants::{Note, Statement};

use super::act::{Came, How, Under, act, action, enforced, name};
use crate::daemon::state::Enforcer;

/// What a note is about, for the record: what it does, to whom, and who has signed it by its own word.
#[must_use]
pub fn about(text: &str) -> Option<(Action, Option<String>, Option<String>)> {
    let note = Note::parse(text.as_bytes()).ok()?;
    let says = Statement::parse(note.text()).ok()?;
    let names: Vec<&str> = note.signatures().iter().map(|signature| &*signature.name).collect();
    let words = match &says {
        Statement::Grant(grant) => format!("{}: {}", grant.ticket, grant.reason),
        Statement::Order(order) => order.words(),
    };
    let reason = format!("{words}; signed by {}", names.join(", "));
    Some((action(text), Some(name(text)), Some(plain(&reason).into_owned())))
}

/// Does what a note says, as if the fleet had brought it.
///
/// # Errors
/// If the system refuses.
pub fn hand_in(enforcer: &Enforcer, text: &str) -> anyhow::Result<Answer> {
    let under = Under::of(enforcer, &enforced(enforcer)?)?;
    let name = name(text);
    Ok(match act(enforcer, text, &under, How { tells: false, again: true }) {
        Came::Settled | Came::Over(_) => {
            let words = format!("{name}: it holds on this host, or is over");
            Answer { done: true, grant: None, notes: vec![words] }
        }
        Came::Elsewhere => Answer::no(format!("{name}: it is about nobody that this host knows")),
        Came::Waits(_) => Answer::no(format!("{name}: its time has not come: hand it in then")),
        Came::Refused(why) => Answer::no(why),
        Came::Failed(why) => anyhow::bail!("{name}: {why}"),
    })
}
