//! Where an instance keeps its socket, state and pins.

use std::path::{Path, PathBuf};

use bulkhead_dataplane::Pins;
use bulkhead_host::places::{self, PlaceError};

use crate::daemon::{lock, store};
use crate::global::is_default;

/// The BPF file system.
pub const BPFFS: &str = "/sys/fs/bpf";

/// The places of one instance.
#[derive(Clone, Debug)]
pub struct Paths {
    /// The socket that commands talk to.
    pub socket: PathBuf,
    /// Logs and what must outlive a restart.
    pub state: PathBuf,
    /// Links and maps.
    pub pins: Pins,
    is_default: bool,
}

impl Paths {
    /// Whether the instance is the one that is alone on its machine.
    #[must_use]
    pub fn is_default(&self) -> bool {
        self.is_default
    }

    /// The directories in which an agent holds a lock.
    #[must_use]
    pub fn locked(&self) -> [&Path; 2] {
        [self.socket.parent().unwrap_or(&self.state), &self.state]
    }

    /// The agent that runs, if one does: answering on its socket, starting or waiting.
    #[must_use]
    pub fn holder(&self) -> Option<u32> {
        self.locked().into_iter().find_map(lock::holder)
    }

    /// Makes the places of an agent that starts, and closes them to everybody else.
    ///
    /// # Errors
    /// A directory on the way there that somebody else owns or may write to.
    pub fn claim(&self) -> Result<(), PlaceError> {
        let own = if self.is_default { 1 } else { 2 };
        let made = [Some(&*self.state), self.socket.parent()];
        let made = made.into_iter().flatten();
        // That of pins is made with the first, and gone with the last.
        self.pins.root().parent().map_or(Ok(()), |instance| places::close(instance, 2))?;
        made.clone().try_for_each(|directory| places::close(directory, own))?;
        made.clone().try_for_each(|directory| places::make(directory, own))
    }

    /// Lets others through to the socket, which has a mode of its own.
    ///
    /// # Errors
    /// The directory that cannot be changed.
    pub fn let_through(&self) -> Result<(), PlaceError> {
        let Some(own) = self.socket.parent() else { return Ok(()) };
        let shared = own.parent().filter(|_| !self.is_default);
        [shared, Some(own)].into_iter().flatten().try_for_each(places::let_through)
    }

    /// Whether an agent may start under this name: not if the instance `default` would take the state
    /// for its own. One that is there already keeps its name.
    ///
    /// # Errors
    /// The name is taken.
    pub fn check_name(&self) -> Result<(), crate::exit::Usage> {
        let name = self.state.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let is_taken = !self.is_default && store::RESERVED.iter().any(|start| name.starts_with(start));
        if !is_taken || lock::is_of_an_instance(&self.state) {
            return Ok(());
        }
        let starts = store::RESERVED.join("' or '");
        Err(crate::exit::Usage(format!(
            "instance '{name}': names that start with '{starts}' are those of files of the instance 'default'; \
             choose another --instance"
        )))
    }

    /// The places of an instance below one directory.
    #[cfg(test)]
    pub fn below(directory: &Path, instance: &str) -> Self {
        Self {
            is_default: false,
            socket: directory.join("run/agent.sock"),
            state: directory.join("state"),
            pins: Pins::new(&directory.join("pins"), instance),
        }
    }

    /// The places of an instance.
    ///
    /// # Errors
    /// A name that would leave its directory.
    pub fn of(instance: &str) -> Result<Self, crate::exit::Usage> {
        let is_default = is_default(instance)?;
        let below = |base: &str| {
            if is_default { PathBuf::from(base) } else { Path::new(base).join(instance) }
        };
        Ok(Self {
            is_default,
            socket: below("/run/bulkhead").join("agent.sock"),
            state: below("/var/lib/bulkhead"),
            pins: Pins::new(&Path::new(BPFFS).join("bulkhead"), instance),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Paths;

    #[test]
    fn instances_do_not_leave_their_directories() {
        for bad in ["", "..", "a/b", "a b", "ä"] {
            assert!(Paths::of(bad).is_err(), "{bad}");
        }
        let (one, two) = (Paths::of("one").unwrap(), Paths::of("two").unwrap());
        assert_ne!(one.socket, two.socket);
        assert_ne!(one.state, two.state);
        assert_ne!(one.pins.root(), two.pins.root());
        assert_eq!(Paths::of("default").unwrap().socket.to_str(), Some("/run/bulkhead/agent.sock"));
    }
}
