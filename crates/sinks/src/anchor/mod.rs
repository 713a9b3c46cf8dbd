//! Takes checkpoints of the event log to where this host's root cannot write.
//!
//! Whoever is root can write another log with the same key. It cannot make that log continue a checkpoint that
//! somebody else has: so one goes out at intervals, to a directory of a file system that keeps what it has, to a
//! receiver over HTTP, or to a witness, whose cosignature comes back.

mod directory;
mod http;
mod settings;
mod witness;
mod worker;

use std::io;
use std::path::Path;

use bulkhead_tlog::{Checkpoint, Note, Reader};

pub use self::settings::{AnchorKind, AnchorSettings};
pub use self::worker::Anchors;
use crate::outlet::Failure;

/// What keeps checkpoints elsewhere.
trait Keeper: Send {
    /// Gives it the last checkpoint. After success it is there, and stays.
    fn give(&mut self, last: &Last) -> Result<(), Failure>;
}

/// The last checkpoint of a log.
struct Last {
    reader: Reader,
}

impl Last {
    /// None before the log's first record.
    fn of(log: &Path) -> io::Result<Option<Self>> {
        if !log.join("checkpoint").try_exists()? {
            return Ok(None);
        }
        let reader = Reader::open(log).map_err(io::Error::other)?;
        Ok((reader.checkpoint().size != 0).then_some(Self { reader }))
    }

    fn checkpoint(&self) -> &Checkpoint {
        self.reader.checkpoint()
    }

    fn note(&self) -> &Note {
        self.reader.note()
    }
}

/// Opens what keeps checkpoints. Files of certificates and headers are read each time.
fn open(kind: &AnchorKind) -> io::Result<Box<dyn Keeper>> {
    Ok(match kind {
        AnchorKind::Directory { path } => Box::new(directory::Directory::new(path)),
        AnchorKind::Http { url, headers, tls } => {
            Box::new(http::Receiver::new(url, headers.as_deref(), tls)?)
        }
        AnchorKind::Witness { url, key, headers, tls } => {
            Box::new(witness::Witness::new(url, key, headers.as_deref(), tls)?)
        }
    })
}
