//! The network namespace that an instance is enforced in. Links name their interface by an index, and
//! the guard is a table, both of that namespace alone: from another one they cannot be told from none.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use bulkhead_dataplane::running;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde::{Deserialize, Serialize};

use crate::daemon::clock::boot_id;
use crate::daemon::log::log_unsaved;
use crate::daemon::setup::Setup;
use crate::daemon::store::Store;
use crate::guard;
use crate::paths::Paths;

/// The file in the state directory.
const FILE: &str = "residence.json";

/// Where an instance was last started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Residence {
    /// The boot meant: no namespace outlives it.
    boot: String,
    /// The namespace's cookie, which no other has in one boot.
    cookie: u64,
    /// Its inode, by which it is found; another may have it later.
    inode: u64,
    /// It has a guard.
    guard: bool,
}

impl Residence {
    /// What was noted, in this boot.
    fn noted(store: &Store) -> anyhow::Result<Option<Self>> {
        let noted: Option<Self> = store.load(FILE)?;
        Ok(noted.filter(|noted| noted.boot == boot_id()))
    }

    fn here(guard: bool) -> anyhow::Result<Self> {
        let what = "asking which network namespace this is";
        let inode = std::fs::metadata("/proc/self/ns/net").context(what)?.ino();
        Ok(Self { boot: boot_id(), cookie: cookie().context(what)?, inode, guard })
    }

    /// The namespace and a path to it, if one leads there from here.
    fn find(&self) -> Option<(File, PathBuf)> {
        let below = |path: &str| std::fs::read_dir(path).into_iter().flatten().flatten();
        let named = below("/run/netns").map(|entry| entry.path());
        let processes = below("/proc").map(|entry| entry.path().join("ns/net"));
        let has_inode =
            |path: &PathBuf| std::fs::metadata(path).is_ok_and(|metadata| metadata.ino() == self.inode);
        named.chain(processes).filter(has_inode).find_map(|path| {
            let namespace = File::open(&path).ok()?;
            let found = within(&namespace, cookie).ok()?.ok()?;
            (found == self.cookie).then_some((namespace, path))
        })
    }
}

/// The cookie of this thread's network namespace (kernel commit e8b9eab99232).
fn cookie() -> io::Result<u64> {
    let socket = UnixDatagram::unbound()?;
    let (mut cookie, mut length) = (0_u64, size_of::<u64>() as libc::socklen_t);
    // SAFETY: the kernel writes `length` bytes at most to `cookie`, and both live on.
    let done = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if done == 0 { Ok(cookie) } else { Err(io::Error::last_os_error()) }
}

/// Works in another network namespace, on a thread of its own.
fn within<T: Send>(namespace: &File, work: impl FnOnce() -> T + Send) -> anyhow::Result<T> {
    let work = || {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
        Ok::<_, rustix::io::Errno>(work())
    };
    let done = std::thread::scope(|scope| scope.spawn(work).join());
    let done = done.map_err(|_| anyhow::anyhow!("the thread for another network namespace has panicked"))?;
    done.context("entering the network namespace that the instance is enforced in")
}

/// What was noted. What is damaged is said, and says nothing: it was here, as far as is known.
fn noted_or_here(paths: &Paths) -> Option<Residence> {
    Residence::noted(&Store::new(&paths.state)).unwrap_or_else(|error| {
        eprintln!("bulkhead: {error:#}; taking this network namespace for the one that it is enforced in");
        None
    })
}

/// Works in the network namespace that the instance was last started in; nothing if that is another one, which no
/// name and no process leads to from here.
///
/// # Errors
/// If the namespace cannot be entered.
pub fn there<T: Send>(paths: &Paths, work: impl FnOnce() -> T + Send) -> anyhow::Result<Option<T>> {
    match noted_or_here(paths) {
        Some(noted) if noted.cookie != Residence::here(noted.guard)?.cookie => {
            noted.find().map(|(there, _)| within(&there, work)).transpose()
        }
        _ => Ok(Some(work())),
    }
}

/// Notes that the instance is enforced here.
///
/// # Errors
/// If it still is elsewhere, or the system refuses.
pub fn claim(setup: &Setup) -> anyhow::Result<()> {
    let store = Store::new(&setup.paths.state);
    let here = Residence::here(setup.config.guard)?;
    let noted = match Residence::noted(&store) {
        Ok(noted) => noted,
        // It may be in another one; where nothing is attached, nothing is anywhere.
        Err(error) if running(&setup.paths.pins)?.iter().any(|link| link.index != 0) => return Err(error),
        Err(error) => {
            tracing::warn!("{error:#}; nothing is attached, so it is written anew");
            None
        }
    };
    if let Some(noted) = &noted
        && noted.cookie != here.cookie
    {
        let found = noted.find();
        let is_enforced = running(&setup.paths.pins)?.iter().any(|link| link.index != 0);
        let is_guarded = || {
            found
                .as_ref()
                .is_some_and(|(there, _)| within(there, || guard::is_there(&setup.instance)).unwrap_or(true))
        };
        if is_enforced || is_guarded() {
            let instance = &setup.instance;
            let (place, enter) = found.map_or(
                ("one that no name and no process leads to from here".to_owned(), "there".to_owned()),
                |(_, path)| {
                    let path = path.display();
                    (
                        path.to_string(),
                        format!("there by `nsenter --net={path} bulkhead --instance {instance} run`"),
                    )
                },
            );
            anyhow::bail!(
                "instance {instance} is enforced in another network namespace ({place}); start the agent {enter}, \
                 end that by `bulkhead --instance {instance} detach`, or choose another --instance for this namespace"
            );
        }
    }
    if noted.as_ref() != Some(&here) {
        // A full disk must not keep the host unprotected.
        log_unsaved(store.save(FILE, &here));
    }
    Ok(())
}

/// Removes the guard of an instance whose agent does not run, in the namespace that it is in; whether there was one.
///
/// # Errors
/// If it is there and stays: without programs it would drop everything.
pub fn remove_guard(instance: &str, paths: &Paths) -> anyhow::Result<bool> {
    let Some(noted) = noted_or_here(paths) else {
        // Nothing was ever started in this boot, or by an agent that noted nothing.
        return match remove(instance) {
            Err(error) if is_missing(&error) => {
                eprintln!("bulkhead: {error:#}; so there is no guard to remove");
                Ok(false)
            }
            removed => removed,
        };
    };
    if noted.cookie == Residence::here(noted.guard)?.cookie {
        return keeps_if(noted.guard, remove(instance));
    }
    if let Some((there, path)) = noted.find() {
        eprintln!("bulkhead: it is enforced in another network namespace, {}", path.display());
        return keeps_if(noted.guard, within(&there, || remove(instance))?);
    }
    anyhow::ensure!(
        running(&paths.pins)?.iter().all(|link| link.index == 0),
        "instance {instance} is enforced in another network namespace, which no name and no process leads to from \
         here, and its guard would close that one once the programs are gone; run `bulkhead --instance {instance} \
         detach` there"
    );
    // With its interfaces the namespace is gone, and with it the guard.
    Ok(false)
}

/// Removes the guard of this namespace; whether there was one.
fn remove(instance: &str) -> anyhow::Result<bool> {
    let was_there = guard::is_there(instance);
    guard::remove(instance).map(|()| was_there)
}

/// A guard that was never made does not stay.
fn keeps_if(guard: bool, removed: anyhow::Result<bool>) -> anyhow::Result<bool> {
    match removed {
        Err(error) if guard => Err(error.context(
            "nothing is detached, since the guard would drop everything without the programs; fix this and try again",
        )),
        removed => Ok(removed.unwrap_or(false)),
    }
}

fn is_missing(error: &anyhow::Error) -> bool {
    let kind = error.root_cause().downcast_ref::<io::Error>().map(io::Error::kind);
    kind == Some(io::ErrorKind::NotFound)
}

/// Forgets where the instance was, once it is nowhere.
pub fn forget(state: &Path) {
    // One that stays names a namespace in which nothing is found any more.
    let _ = std::fs::remove_file(state.join(FILE));
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::{Residence, within};

    #[test]
    fn a_namespace_is_found_by_its_cookie() {
        let name = format!("bhres-{}", std::process::id());
        let netns = |verb: &str| Command::new("ip").args(["netns", verb, &name]).status().unwrap().success();
        assert!(netns("add"));
        let here = Residence::here(true).unwrap();
        let namespace = std::fs::File::open(format!("/run/netns/{name}")).unwrap();
        let there = within(&namespace, super::cookie).unwrap().unwrap();
        assert_ne!(here.cookie, there);
        assert_eq!(Residence::here(true).unwrap(), here, "this thread has stayed where it was");
        let inode = std::os::unix::fs::MetadataExt::ino(&namespace.metadata().unwrap());
        let residence = Residence { cookie: there, inode, ..here.clone() };
        let (_, path) = residence.find().unwrap();
        assert!(path.ends_with(&name), "{path:?}");
        // Another one has its inode by now.
        assert!(Residence { cookie: there + 1_000_000, ..residence }.find().is_none());
        assert!(netns("delete"));
    }
}
