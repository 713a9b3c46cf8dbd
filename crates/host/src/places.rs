//! Directories that nobody else may change: whoever could would put his own socket, state or pins there.
//!
//! A path is walked from the root, each directory opened in the one before and asked through what is
//! open, so that nothing that is moved meanwhile goes unseen.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

/// Who else may write: the group and everybody.
const OTHERS_WRITE: u32 = 0o022;
/// What others have no right to in the agent's own directories: all but getting through, by [`let_through`].
const CLOSED_TO: u32 = 0o066;
/// Symbolic links that a path may lead through, as in the kernel.
const MAX_LINKS: usize = 40;

/// Why a place is not safe.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// Somebody else owns a part of the path.
    #[error(
        "{place}: {part} belongs to user {owner}, who could put anything in its place; look at what is there, then `chown root: {part}`, or remove it"
    )]
    Foreign {
        /// The path asked for.
        place: PathBuf,
        /// The part of it.
        part: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// Others may write to a part of the path.
    #[error(
        "{place}: others may write to {part} (mode {mode:04o}) and put anything in its place; `chmod go-w {part}`, or keep it elsewhere"
    )]
    Writable {
        /// The path asked for.
        place: PathBuf,
        /// The part of it.
        part: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The system refused.
    #[error("{part}: {what}")]
    System {
        /// The part of the path.
        part: PathBuf,
        /// What was tried.
        what: &'static str,
        /// The kernel's words.
        #[source]
        source: Errno,
    },
}

impl PlaceError {
    fn system(part: &Path, what: &'static str) -> impl FnOnce(Errno) -> Self {
        let part = part.to_owned();
        move |source| Self::System { part, what, source }
    }
}

/// Checks that nobody else may change what a path leads to, as far as it is there.
///
/// # Errors
/// Which part of it somebody else owns or may write to.
pub fn check(path: &Path) -> Result<(), PlaceError> {
    Walk::new(path, 0, false)?.finish()
}

/// The same of directories of the agent's own, which the last `ours` parts of the path are: those are
/// closed to everybody else where they are not.
///
/// # Errors
/// As [`check`].
pub fn close(path: &Path, ours: usize) -> Result<(), PlaceError> {
    Walk::new(path, ours, false)?.finish()
}

/// The same, and makes what is missing of its own directories.
///
/// # Errors
/// As [`check`], and if a directory that is not the agent's own is missing.
pub fn make(path: &Path, ours: usize) -> Result<(), PlaceError> {
    Walk::new(path, ours, true)?.finish()
}

/// Lets others through one of the agent's own directories to what they know the name of there, and may open.
///
/// # Errors
/// If it cannot be changed.
pub fn let_through(path: &Path) -> Result<(), PlaceError> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open =
        rustix::fs::open(path, flags, Mode::empty()).map_err(PlaceError::system(path, "opening it"))?;
    rustix::fs::fchmod(&open, Mode::RWXU | Mode::XGRP | Mode::XOTH)
        .map_err(PlaceError::system(path, "letting others through"))
}

/// Keeps others from writing to a directory, which may be read as before; whether they could.
///
/// # Errors
/// If it cannot be changed.
pub fn keep_others_from_writing(path: &Path) -> Result<bool, PlaceError> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open =
        rustix::fs::open(path, flags, Mode::empty()).map_err(PlaceError::system(path, "opening it"))?;
    let mode = mode_of(&stat_of(&open, path)?);
    if mode & OTHERS_WRITE == 0 {
        return Ok(false);
    }
    rustix::fs::fchmod(&open, Mode::from_raw_mode(mode & !OTHERS_WRITE))
        .map_err(PlaceError::system(path, "keeping others from writing to it"))?;
    Ok(true)
}

fn stat_of(open: impl AsFd, part: &Path) -> Result<Stat, PlaceError> {
    rustix::fs::fstat(open).map_err(PlaceError::system(part, "asking who owns it"))
}

fn mode_of(stat: &Stat) -> u32 {
    stat.st_mode & 0o7777
}

/// A way along a path.
struct Walk {
    place: PathBuf,
    /// Directories from the root to where the walk is.
    at: Vec<(OwnedFd, PathBuf)>,
    rest: VecDeque<OsString>,
    ours: usize,
    makes: bool,
    links: usize,
}

impl Walk {
    fn new(place: &Path, ours: usize, makes: bool) -> Result<Self, PlaceError> {
        let absolute = std::path::absolute(place).unwrap_or_else(|_| place.to_owned());
        let rest = absolute.components().filter(|part| !matches!(part, Component::RootDir));
        let rest = rest.map(|part| part.as_os_str().to_owned()).collect();
        let mut walk = Self { place: absolute, at: Vec::new(), rest, ours, makes, links: 0 };
        walk.begin()?;
        Ok(walk)
    }

    fn begin(&mut self) -> Result<(), PlaceError> {
        let root = Path::new("/");
        let open = rustix::fs::open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(PlaceError::system(root, "opening it"))?;
        self.judge(&stat_of(&open, root)?, root)?;
        self.at = vec![(open, root.to_owned())];
        Ok(())
    }

    fn finish(mut self) -> Result<(), PlaceError> {
        while let Some(name) = self.rest.pop_front() {
            if name == OsStr::new("..") {
                if self.at.len() > 1 {
                    self.at.pop();
                }
            } else if name != OsStr::new(".") && !self.step(&name)? {
                break;
            }
        }
        Ok(())
    }

    /// Whether the next part is one of the agent's own directories.
    fn is_ours(&self) -> bool {
        self.rest.len() < self.ours
    }

    /// One part further; false where nothing is there.
    fn step(&mut self, name: &OsStr) -> Result<bool, PlaceError> {
        let Some((parent, path)) = self.at.last() else { return Ok(false) };
        let part = path.join(name);
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut opened = rustix::fs::openat(parent, name, flags, Mode::empty());
        if self.makes && self.is_ours() && matches!(opened, Err(Errno::NOENT)) {
            match rustix::fs::mkdirat(parent, name, Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(PlaceError::system(&part, "creating it")(error)),
            }
            opened = rustix::fs::openat(parent, name, flags, Mode::empty());
        }
        let open = match opened {
            Ok(open) => open,
            Err(Errno::NOENT) if !self.makes => return Ok(false),
            Err(error @ Errno::NOENT) => {
                return Err(PlaceError::system(&part, "it must be there before the agent is; make it")(
                    error,
                ));
            }
            Err(error) => return Err(PlaceError::system(&part, "opening it")(error)),
        };
        let stat = stat_of(&open, &part)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => self.follow(&open, &stat, &part)?,
            FileType::Directory if self.is_ours() => {
                self.close_to_others(name, &stat, &part)?;
                self.at.push((open, part));
            }
            _ => {
                self.judge(&stat, &part)?;
                self.at.push((open, part));
            }
        }
        Ok(true)
    }

    /// Judges the owner and the mode.
    fn judge(&self, stat: &Stat, part: &Path) -> Result<(), PlaceError> {
        self.judge_owner(stat, part)?;
        let mode = mode_of(stat);
        if mode & OTHERS_WRITE == 0 {
            return Ok(());
        }
        Err(PlaceError::Writable { place: self.place.clone(), part: part.to_owned(), mode })
    }

    fn judge_owner(&self, stat: &Stat, part: &Path) -> Result<(), PlaceError> {
        let owner = stat.st_uid;
        if owner == 0 || owner == rustix::process::geteuid().as_raw() {
            return Ok(());
        }
        Err(PlaceError::Foreign { place: self.place.clone(), part: part.to_owned(), owner })
    }

    /// Goes on where a link leads. Its own mode says nothing.
    fn follow(&mut self, open: &OwnedFd, stat: &Stat, part: &Path) -> Result<(), PlaceError> {
        self.judge_owner(stat, part)?;
        self.links += 1;
        if self.links > MAX_LINKS {
            return Err(PlaceError::system(part, "following links")(Errno::LOOP));
        }
        let target =
            rustix::fs::readlinkat(open, c"", Vec::new()).map_err(PlaceError::system(part, "reading it"))?;
        let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
        for component in target.components().rev() {
            match component {
                Component::RootDir => self.begin()?,
                other => self.rest.push_front(other.as_os_str().to_owned()),
            }
        }
        Ok(())
    }

    /// Closes one of the agent's own directories, and refuses what others have put there while it was open.
    fn close_to_others(&self, name: &OsStr, found: &Stat, part: &Path) -> Result<(), PlaceError> {
        self.judge_owner(found, part)?;
        let mode = mode_of(found);
        if mode & CLOSED_TO == 0 {
            return Ok(());
        }
        let Some((parent, _)) = self.at.last() else { return Ok(()) };
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = rustix::fs::openat(parent, name, flags, Mode::empty())
            .map_err(PlaceError::system(part, "opening it"))?;
        // Whoever may write to the one above has put another in its place.
        self.judge_owner(&stat_of(&open, part)?, part)?;
        rustix::fs::fchmod(&open, Mode::RWXU).map_err(PlaceError::system(part, "closing it to others"))?;
        if mode & OTHERS_WRITE == 0 {
            return Ok(());
        }
        let entries = Dir::read_from(&open).map_err(PlaceError::system(part, "reading it"))?;
        for entry in entries {
            let entry = entry.map_err(PlaceError::system(part, "reading it"))?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let within = part.join(OsStr::from_bytes(name.to_bytes()));
            let stat = rustix::fs::statat(&open, name, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(PlaceError::system(&within, "asking who owns it"))?;
            self.judge_owner(&stat, &within)?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "places_tests.rs"]
mod tests;
