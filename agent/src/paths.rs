//! Where an instance keeps its socket, state and pins.

use std::path::{Path, PathBuf};

use bulkhead::kernel::Pins;

/// The BPF file system.
pub const BPFFS: &str = "/sys/fs/bpf";

/// The instance of an agent that is alone on its machine.
const DEFAULT_INSTANCE: &str = "default";

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

    /// The places of an instance.
    ///
    /// # Errors
    /// A name that would leave its directory.
    pub fn of(instance: &str) -> Result<Self, crate::exit::Usage> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if instance.is_empty() || instance.len() > 64 || !instance.bytes().all(fits) {
            return Err(crate::exit::Usage(format!(
                "instance '{instance}': a name has 1 to 64 letters, digits, '-' and '_'"
            )));
        }
        let below = |base: &str| {
            if instance == DEFAULT_INSTANCE { PathBuf::from(base) } else { Path::new(base).join(instance) }
        };
        Ok(Self {
            is_default: instance == DEFAULT_INSTANCE,
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
