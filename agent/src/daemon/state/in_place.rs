//! What an agent has put in place, noted beside its socket for whoever asks the kernel without it: a killed
//! agent leaves it, a reboot removes it with what it tells of.

use std::fs;
use std::path::{Path, PathBuf};

use bulkhead_dataplane::Attached;
use serde::{Deserialize, Serialize};

use crate::daemon::clock::boot_id;
use crate::guard::{self, Fallback};

/// What is to be in the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InPlace {
    boot: String,
    /// The generation.
    pub generation: u32,
    /// Each managed interface with its hooks and the numbers of the programs there; one that is not there has
    /// index 0 and no hooks.
    pub interfaces: Vec<Attached>,
    /// Those with role = "exchange".
    pub exchange: Vec<String>,
    /// The guard.
    pub guard: GuardNote,
}

/// What is known of the guard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GuardNote {
    /// It is turned off.
    Off,
    /// It is in place as it is to be.
    InPlace(guard::Digest),
    /// It was in place, and the agent changes it.
    Changing,
    /// It is not in place; why.
    Missing(String),
}

impl GuardNote {
    /// Why the guard is not in place; none if it is, or is turned off.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub fn difference(&self, fallback: &dyn Fallback, instance: &str) -> anyhow::Result<Option<String>> {
        Ok(match self {
            Self::Off => None,
            Self::InPlace(digest) => fallback.difference(digest, instance)?.map(ToOwned::to_owned),
            Self::Changing => fallback.is_absent(instance)?.map(ToOwned::to_owned),
            Self::Missing(cause) => Some(cause.clone()),
        })
    }

    /// The same for people.
    pub fn problem(&self, fallback: &dyn Fallback, instance: &str) -> Option<String> {
        match self.difference(fallback, instance) {
            Ok(Some(cause)) => Some(format!("the guard is not what was put in place: {cause}")),
            Ok(None) if *self == Self::Changing => Some(
                "a change of the guard stopped half-way; the next start of the agent completes it".into(),
            ),
            Ok(None) => None,
            Err(error) => Some(format!("what the guard is, is not known: {error:#}")),
        }
    }
}

impl InPlace {
    /// Of this boot.
    pub fn new(generation: u32, interfaces: &[Attached], exchange: Vec<String>, guard: GuardNote) -> Self {
        Self { boot: boot_id(), generation, interfaces: interfaces.to_vec(), exchange, guard }
    }

    /// What an agent has noted in this boot.
    pub fn noted(socket: &Path) -> Option<Self> {
        let noted: Self = serde_json::from_slice(&fs::read(beside(socket)).ok()?).ok()?;
        (noted.boot == boot_id()).then_some(noted)
    }

    fn write(&self, socket: &Path) -> std::io::Result<()> {
        let (file, text) = (beside(socket), serde_json::to_vec(self)?);
        let next = file.with_extension("next");
        fs::write(&next, text)?;
        fs::rename(next, file)
    }
}

/// The note's place.
pub fn beside(socket: &Path) -> PathBuf {
    socket.with_file_name("in-place.json")
}

/// What an earlier agent has noted of the guard does not hold while another one changes it.
pub fn begin_change(socket: &Path) {
    if let Some(noted) = InPlace::noted(socket).filter(|noted| matches!(noted.guard, GuardNote::InPlace(_))) {
        tell(InPlace { guard: GuardNote::Changing, ..noted }.write(socket));
    }
}

/// Nothing is to be there any more.
pub fn forget(socket: &Path) {
    match fs::remove_file(beside(socket)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => tell(Err(error)),
        _ => {}
    }
}

fn tell(written: std::io::Result<()>) {
    if let Err(error) = written {
        tracing::error!("noting what is in place: {error}; `status` without an agent takes it for a fault");
    }
}

/// An agent's own note.
#[derive(Debug)]
pub struct Notes {
    socket: PathBuf,
    now: Option<InPlace>,
}

impl Notes {
    /// Nothing is noted yet.
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned(), now: None }
    }

    /// What is noted.
    pub fn now(&self) -> Option<&InPlace> {
        self.now.as_ref()
    }

    /// Notes what is in place now, unless that is noted; the exchange interfaces are asked for only then.
    pub fn note(
        &mut self,
        generation: u32,
        interfaces: &[Attached],
        exchange: impl FnOnce() -> Vec<String>,
        guard: &GuardNote,
    ) {
        let is_noted = self.now.as_ref().is_some_and(|now| {
            (now.generation, &*now.interfaces, &now.guard) == (generation, interfaces, guard)
        });
        if !is_noted {
            let now = InPlace::new(generation, interfaces, exchange(), guard.clone());
            tell(now.write(&self.socket));
            self.now = Some(now);
        }
    }

    /// Notes what becomes of the guard.
    pub fn note_guard(&mut self, guard: GuardNote) {
        if let Some(now) = &mut self.now {
            now.guard = guard;
            tell(now.write(&self.socket));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::guard::Nft;

    use super::{Attached, GuardNote, InPlace, Notes, begin_change, beside, forget};

    #[test]
    fn the_next_process_reads_what_was_noted_in_this_boot() {
        let directory = std::env::temp_dir().join(format!("bulkhead-in-place-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let socket = directory.join("agent.sock");
        assert!(InPlace::noted(&socket).is_none());
        let mut notes = Notes::new(&socket);
        let interfaces = [Attached::absent("wg0")];
        notes.note(7, &interfaces, Vec::new, &GuardNote::Off);
        assert_eq!(InPlace::noted(&socket).as_ref(), notes.now());
        // What is noted already is not written again.
        std::fs::remove_file(beside(&socket)).unwrap();
        notes.note(7, &interfaces, Vec::new, &GuardNote::Off);
        assert!(InPlace::noted(&socket).is_none());
        notes.note_guard(GuardNote::Missing("because".to_owned()));
        let noted = InPlace::noted(&socket).unwrap();
        assert!(noted.guard.problem(&Nft, "nobody").unwrap().contains("because"));
        begin_change(&socket);
        assert_eq!(InPlace::noted(&socket), Some(noted.clone()), "it was not in place");
        std::fs::write(
            beside(&socket),
            serde_json::to_vec(&InPlace { boot: "x".to_owned(), ..noted }).unwrap(),
        )
        .unwrap();
        assert!(InPlace::noted(&socket).is_none(), "of another boot");
        forget(&socket);
        assert!(!beside(&socket).exists());
        std::fs::remove_dir_all(directory).unwrap();
    }
}
