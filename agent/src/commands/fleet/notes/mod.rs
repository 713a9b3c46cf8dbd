//! `bulkhead fleet quarantine`, `release`, `revoke`, `post`, `notes` and `take`: what people sign for every host of a fleet.

mod list;
mod make;
mod post;
mod take;

use std::path::Path;

use bulkhead_api::text::plain;
use bulkhead_fleet::Tree;
use bulkhead_fleet::notes::Notes;
use bulkhead_grants::{Note, Statement};

pub use list::List;
pub use make::{Quarantine, Release, Revoke};
pub use post::Post;
pub use take::Take;

use super::wrong;
use crate::exit::Usage;

/// A note of a fleet directory.
struct Posted {
    /// Its file, without the ending.
    file: String,
    note: Note,
    says: Statement,
}

/// The identifier of the fleet of a directory.
///
/// # Errors
/// If there is none.
pub fn fleet(directory: &Path) -> Result<String, Usage> {
    let identity = Tree::new(directory).identity().map_err(wrong)?;
    let identity = identity.ok_or_else(|| {
        Usage(format!("{} is no fleet directory: `bulkhead fleet init` makes one", directory.display()))
    })?;
    Ok(identity.id().to_owned())
}

/// Those that are posted. One that is none is an error: somebody has put it there.
fn posted(fleet: &Path) -> Result<Vec<Posted>, Usage> {
    let read = |(file, text): (String, String)| {
        let at = |error: bulkhead_grants::Error| {
            Usage(format!("{}/notes/{file}.note: {error}; remove it, and post again", fleet.display()))
        };
        let note = Note::parse(text.as_bytes()).map_err(at)?;
        let says = Statement::parse(note.text()).map_err(at)?;
        Ok(Posted { file, note, says })
    };
    Notes::new(fleet).all().map_err(wrong)?.into_iter().map(read).collect()
}

/// What a note says, in a line.
fn line(says: &Statement, note: &Note) -> String {
    let names: Vec<_> = note.signatures().iter().map(|signature| plain(&signature.name)).collect();
    let words = match says {
        Statement::Grant(grant) => {
            let bulkhead_grants::Grant { source, destination, protocol, ticket, reason, .. } = grant;
            format!("{source} to {destination}/{protocol}; {ticket}: {reason}")
        }
        Statement::Order(order) => order.words(),
    };
    format!("{} {}  {words}; signed by {}", says.kind(), says.id(), names.join(", "))
}
