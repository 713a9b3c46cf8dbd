//! The files that `run` names, enforced anew: at SIGHUP, and when they change if agent.toml says so.

use std::convert::Infallible;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bulkhead_api::event::{Action, Actor};
use tokio::signal::unix::{SignalKind, signal};

use crate::daemon::enforcement::apply;
use crate::daemon::events::control::{Change, generation};
use crate::daemon::files::{Asked, Files};
use crate::daemon::server::account;
use crate::daemon::service;
use crate::daemon::state::Enforcer;

/// Between two looks at the files. What has changed since the last look is still being written.
const INTERVAL: Duration = Duration::from_secs(1);

/// SIGHUP is `apply` of the files that `run` names.
///
/// # Errors
/// If the signal cannot be waited for.
pub async fn on_hangup(enforcer: Arc<Enforcer>) -> anyhow::Result<Infallible> {
    let mut hangup = signal(SignalKind::hangup()).context("waiting for SIGHUP")?;
    loop {
        hangup.recv().await.context("no SIGHUP comes any more")?;
        reload(&enforcer, Actor::Signal { signal: "SIGHUP".to_owned() }, "SIGHUP").await?;
    }
}

/// A change of the files that `run` names is `apply` of them, once they are whole: both there, and the same for a
/// while. Never, unless agent.toml has `watch = true`.
///
/// # Errors
/// If a task fails.
pub async fn on_change(enforcer: Arc<Enforcer>) -> anyhow::Result<Infallible> {
    if !enforcer.setup.config.watch {
        return std::future::pending().await;
    }
    let mut watched = Watched::default();
    loop {
        let (policy, inventory) = enforcer.setup.files();
        // A file system that hangs keeps nothing else from going on.
        let look = move || [stamp(&policy), stamp(&inventory)];
        let now = tokio::task::spawn_blocking(look).await.context("looking at the files")?;
        if watched.is_changed(now) && differ(&enforcer).await? {
            reload(&enforcer, Actor::File, "the change of its files").await?;
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Whether the files say something else than when they were enforced last, by whomever.
async fn differ(enforcer: &Arc<Enforcer>) -> anyhow::Result<bool> {
    let enforcer = enforcer.clone();
    let compare = move || {
        // What is just being enforced may be these files.
        let _one = enforcer.one_change();
        let (policy, inventory) = enforcer.setup.files();
        let ledger = enforcer.live().ledger.clone();
        let seen = enforcer.store.last_requested(&ledger);
        // What cannot be read is told of by whoever applies it.
        let now = Files::read(&policy, &inventory).ok();
        now.zip(seen).is_none_or(|(now, (seen, _))| !now.same_text(&seen))
    };
    tokio::task::spawn_blocking(compare).await.context("comparing the files")
}

/// What tells one content of a file from another: its device and number, length, and when it and its inode were
/// changed.
type Stamp = (u64, u64, u64, [i64; 4]);

fn stamp(path: &Path) -> Option<Stamp> {
    let found = fs::metadata(path).ok()?;
    let times = [found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec()];
    Some((found.dev(), found.ino(), found.len(), times))
}

/// What was seen of the files.
#[derive(Debug, Default)]
struct Watched {
    last: Option<[Option<Stamp>; 2]>,
    /// What was acted upon.
    done: Option<[Option<Stamp>; 2]>,
}

impl Watched {
    /// Whether the files are others than those that were acted upon, and have come to rest.
    fn is_changed(&mut self, now: [Option<Stamp>; 2]) -> bool {
        let before = self.last.replace(now);
        let is_at_rest = before == Some(now) && now.iter().all(Option::is_some);
        is_at_rest && self.done.replace(now) != Some(now)
    }
}

async fn reload(enforcer: &Arc<Enforcer>, by: Actor, why: &'static str) -> anyhow::Result<()> {
    let enforcer = enforcer.clone();
    let work = move || {
        service::reloading();
        let before = generation(&enforcer);
        let applied = apply(&enforcer, &Asked::anew(by.clone()));
        if let Some((outcome, detail)) = account::outcome(&applied) {
            let action = Action::Apply;
            Change { action, by, before, outcome, subject: None, detail, signers: Vec::new() }
                .tell(&enforcer);
        }
        service::ready(&enforcer);
        applied
    };
    match tokio::task::spawn_blocking(work).await.context("applying the files anew")? {
        Ok(done) if done.applied => tracing::info!(generation = done.generation, "applied at {why}"),
        Ok(refused) => {
            tracing::error!("{why} changes nothing: invalid policy or inventory\n{}", refused.text);
        }
        Err(error) => tracing::error!("{why} changes nothing: {error:#}"),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Watched;

    #[test]
    fn files_are_read_once_they_have_come_to_rest() {
        let file = |number| Some((1, number, 10, [0; 4]));
        let (old, new, newer) = ([file(1), file(2)], [file(3), file(2)], [file(3), file(4)]);
        let gone = [None, file(2)];
        let mut watched = Watched::default();
        let seen = [
            (old, false),
            // The start may have read others.
            (old, true),
            (gone, false),
            (gone, false),
            (new, false),
            (newer, false),
            (newer, true),
            (newer, false),
            // The same files again, after others: they are other contents for all that is known.
            (old, false),
            (old, true),
        ];
        for (number, (now, is_changed)) in seen.into_iter().enumerate() {
            assert_eq!(watched.is_changed(now), is_changed, "look {number}");
        }
    }
}
