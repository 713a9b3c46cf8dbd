//! What is enforced, without an agent's answer: asked of the kernel where the instance is, and compared with what
//! the agent noted.

use bulkhead_api::flow::Query;
use bulkhead_api::status::{State, Status};

use crate::daemon::flows::{Known, Listing};
use crate::daemon::residence;
use crate::daemon::server::status::{read as read_status, with_flows};
use crate::daemon::state::in_place::InPlace;
use crate::daemon::store::Store;
use crate::guard;
use crate::paths::Paths;

/// The status of an instance whose agent, if there is a process, has not answered; true: it should have.
///
/// # Errors
/// If the kernel or the state directory cannot be read.
pub fn status(instance: &str, paths: &Paths, process: Option<(u32, bool)>) -> anyhow::Result<Status> {
    let is_held = process.is_some_and(|(_, is_silent)| is_silent);
    let in_place = InPlace::noted(&paths.socket);
    let read = |in_place| {
        let status = read_status(instance, paths, None, in_place, is_held)?;
        let is_closed = status.state == State::Detached && guard::is_there(instance);
        let status = if is_closed { closed(status) } else { status };
        anyhow::Ok(with_flows(status, &paths.pins)?)
    };
    let status = match residence::there(paths, || read(in_place.clone()))? {
        Some(status) => status?,
        None => elsewhere(read(in_place)?),
    };
    let words = process.map(|(process, _)| {
        format!(
            "agent: process {process} does not answer: it starts, waits for its first interface, or hangs"
        )
    });
    Ok(match words {
        Some(problem) if is_held => status.with_problems(vec![problem]),
        problem => Status { problems: status.problems.into_iter().chain(problem).collect(), ..status },
    })
}

/// No program is there, but the guard: as after a boot whose agent has not started.
fn closed(mut status: Status) -> Status {
    status.state = State::Degraded;
    status.problems.push(format!(
        "the guard closes every managed interface until an agent enforces there; start it, or open them by \
         `bulkhead --instance {} detach`",
        status.instance
    ));
    status
}

/// What was read in the wrong network namespace: only the pins are the same there.
fn elsewhere(mut status: Status) -> Status {
    if status.state != State::Detached {
        status.state = State::Degraded;
        status.problems = vec![
            "it is enforced in another network namespace, which no name and no process leads to from here, or which is \
             gone; ask there"
                .to_owned(),
        ];
    }
    status
}

/// The conversations of an instance, from its pins, which are the same in every network namespace.
///
/// # Errors
/// What the query names that is not known, or what cannot be read.
pub fn flows(paths: &Paths, query: &Query) -> anyhow::Result<Listing> {
    Listing::begin(&paths.pins, Known::kept(&paths.pins, &Store::new(&paths.state)), query)
}
