//! What is attached to cgroups: held open, found again by an agent that starts, asked of the kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::BorrowedFd;
use std::{fmt, fs, io};

use super::{CgroupHook, CgroupSet};
use crate::link::Link;
use crate::links::keep_pinned;
use crate::pins::remove;
use crate::{KernelError, Pins, hook};

/// Where programs are attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The root cgroup.
    Host,
    /// The cgroup of an id.
    Cgroup(u64),
}

/// What is wrong with a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CgroupFault {
    /// A program is not attached.
    Detached(CgroupHook),
    /// Another program than the set's.
    OtherProgram(CgroupHook),
    /// A link's pin is gone: without the agent it would be detached.
    Unpinned(CgroupHook),
}

impl fmt::Display for CgroupFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Detached(hook) => write!(f, "{}: the program is not attached", hook.name()),
            Self::OtherProgram(hook) => write!(f, "{}: another program is attached", hook.name()),
            Self::Unpinned(hook) => write!(f, "{}: the link is not pinned", hook.name()),
        }
    }
}

/// The links of an instance on cgroups. While they are held, removing their pins detaches nothing.
#[derive(Debug, Default)]
pub struct CgroupLinks(BTreeMap<(Place, CgroupHook), Link>);

impl CgroupLinks {
    /// Opens all that are pinned.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn open(pins: &Pins) -> Result<Self, KernelError> {
        let mut links = BTreeMap::new();
        for (place, hook) in pins.cgroup_links()? {
            let pin = pins.cgroup_link(place, hook);
            let link =
                Link::pinned(&pin).map_err(KernelError::refused(format!("{}: opening", pin.display())))?;
            links.extend(link.map(|link| ((place, hook), link)));
        }
        Ok(Self(links))
    }

    pub(super) fn link(&self, place: Place, hook: CgroupHook) -> Option<&Link> {
        self.0.get(&(place, hook))
    }

    /// Where something is attached, or was.
    #[must_use]
    pub fn places(&self) -> BTreeSet<Place> {
        self.0.keys().map(|(place, _)| *place).collect()
    }

    /// Puts a set's programs on the hooks of a cgroup, the root's or a workload's: one atomic update where a link is
    /// there. Each is pinned before the next is made.
    ///
    /// # Errors
    /// If a hook refuses. Those before it have the new program.
    pub fn attach(
        &mut self,
        set: &CgroupSet,
        place: Place,
        workload: Option<&str>,
        cgroup: BorrowedFd<'_>,
        pins: &Pins,
    ) -> Result<(), KernelError> {
        let directory = pins.cgroup_directory(place);
        fs::create_dir_all(&directory)
            .map_err(KernelError::refused(format!("{}: creating it", directory.display())))?;
        for hook in set.hooks(workload) {
            let what = || {
                let whose = workload.map_or("the root cgroup".to_owned(), |name| format!("workload {name}"));
                KernelError::refused(format!("{whose}: {}", hook.name()))
            };
            let (program, _) = set.program(workload, hook)?;
            let link = match self.0.remove(&(place, hook)) {
                Some(link) if link.info().map_err(what())?.cgroup() != 0 => {
                    link.update(program).map_err(what())?;
                    link
                }
                _ => Link::create_on_cgroup(program, cgroup, hook.attach_type()).map_err(what())?,
            };
            let pin = pins.cgroup_link(place, hook);
            let pinned = keep_pinned(&link, &pin);
            self.0.insert((place, hook), link);
            pinned.map_err(KernelError::refused(format!("{}: pinning", pin.display())))?;
        }
        // Hooks that this set has no program for.
        let others: Vec<_> =
            self.hooks_of(place).filter(|hook| set.hooks(workload).all(|known| known != *hook)).collect();
        for hook in others {
            self.remove(place, hook, pins)?;
        }
        Ok(())
    }

    fn hooks_of(&self, place: Place) -> impl Iterator<Item = CgroupHook> {
        self.0.keys().filter(move |(known, _)| *known == place).map(|(_, hook)| *hook)
    }

    fn remove(&mut self, place: Place, hook: CgroupHook, pins: &Pins) -> Result<(), KernelError> {
        let pin = pins.cgroup_link(place, hook);
        let failed = || KernelError::refused(format!("{}: detaching", pin.display()));
        if let Some(link) = self.0.remove(&(place, hook)) {
            link.detach().map_err(failed())?;
        }
        match fs::remove_file(&pin) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed()(error)),
            _ => Ok(()),
        }
    }

    /// Detaches from a cgroup, which may be gone.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn detach(&mut self, place: Place, pins: &Pins) -> Result<(), KernelError> {
        let hooks: Vec<_> = self.hooks_of(place).collect();
        for hook in hooks {
            self.remove(place, hook, pins)?;
        }
        remove(&pins.cgroup_directory(place))
    }

    /// Whether a cgroup is gone with the last of its sockets: until then the kernel runs the programs for these.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub fn is_dead(&self, place: Place) -> Result<bool, KernelError> {
        for ((_, hook), link) in self.0.iter().filter(|((known, _), _)| *known == place) {
            let info = link.info().map_err(KernelError::refused(format!("{}: asking", hook.name())))?;
            if info.cgroup() != 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What is wrong with a place: nothing if each hook runs the set's program and is pinned.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub fn fault(
        &self,
        set: &CgroupSet,
        place: Place,
        workload: Option<&str>,
        pins: &Pins,
    ) -> Result<Option<CgroupFault>, KernelError> {
        let failed = || KernelError::refused("asking what is attached to cgroups");
        for on in set.hooks(workload) {
            let Some(link) = self.0.get(&(place, on)) else { return Ok(Some(CgroupFault::Detached(on))) };
            let info = link.info().map_err(failed())?;
            let is_there = match place {
                Place::Host => info.cgroup() != 0,
                Place::Cgroup(id) => info.cgroup() == id,
            };
            if !is_there {
                return Ok(Some(CgroupFault::Detached(on)));
            }
            if info.program != set.program(workload, on)?.1 {
                return Ok(Some(CgroupFault::OtherProgram(on)));
            }
            if !hook::is_pinned(link, &pins.cgroup_link(place, on)).map_err(failed())? {
                return Ok(Some(CgroupFault::Unpinned(on)));
            }
        }
        Ok(None)
    }

    /// Lets go of all of them; what is not pinned is detached.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}
