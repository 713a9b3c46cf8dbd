//! Looks at cgroups whenever one comes or goes, and otherwise at intervals.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bulkhead_api::event::{Action, Kind, WorkloadChange};
use bulkhead_dataplane::Dataplane;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::found::Found;
use super::keeper::Looked;
use super::news::News;
use super::status::state;
use crate::daemon::clock::boot_time;
use crate::daemon::events::control::Change;
use crate::daemon::events::timestamp;
use crate::daemon::state::Enforcer;

/// Between two looks without news: what somebody detaches makes none.
const INTERVAL: Duration = Duration::from_secs(1);

/// Between two looks in any case: whoever makes cgroups and removes them all the time does not keep the agent busy.
const PAUSE: Duration = Duration::from_millis(10);

/// Watches on a thread of its own.
///
/// # Errors
/// If the system has no more threads.
pub fn start(enforcer: Arc<Enforcer>) -> io::Result<()> {
    std::thread::Builder::new().name("workloads".to_owned()).spawn(move || watch(&enforcer)).map(drop)
}

fn watch(enforcer: &Enforcer) {
    let mut news = None;
    let mut failed = String::new();
    loop {
        if enforcer.live().detached {
            return;
        }
        // A watch comes before the look that it is for.
        if let Some(root) = enforcer.setup.workloads.root()
            && enforcer.setup.workloads.has_any()
        {
            if news.is_none() {
                news =
                    News::new().inspect_err(|error| tracing::warn!("cgroups are only polled: {error}")).ok();
            }
            if let Some(news) = &mut news {
                news.take();
                news.watch(&root);
            }
        }
        match look(enforcer) {
            Ok(()) => failed.clear(),
            Err(error) => {
                let words = format!("{error:#}");
                // What fails again and again is told once.
                if words != failed {
                    tracing::error!(
                        "workloads are not looked at, and new cgroups stay off the overlay: {words}"
                    );
                    failed = words;
                }
            }
        }
        wait(news.as_ref());
    }
}

fn wait(news: Option<&News>) {
    let Some(news) = news else { return std::thread::sleep(INTERVAL) };
    let mut polls = [PollFd::from_borrowed_fd(news.descriptor(), PollFlags::IN)];
    let begin = Instant::now();
    // Interrupted, it looks a moment too early.
    let _ = poll(&mut polls, Timespec::try_from(INTERVAL).ok().as_ref());
    std::thread::sleep(PAUSE.saturating_sub(begin.elapsed()));
}

/// One look, and what follows from it.
///
/// # Errors
/// If the kernel refuses. Who is not known by then uses no overlay address.
fn look<D: Dataplane>(enforcer: &Enforcer<D>) -> anyhow::Result<()> {
    let publish = |assigned: &super::Assigned| {
        let mut live = enforcer.live();
        Ok(live.built.set_workloads(assigned)?)
    };
    let Looked { changed, restored } = enforcer.setup.workloads.look(enforcer.pins(), publish)?;
    let generation = enforcer.live().built.number;
    for (name, found) in changed {
        let event = event(name, &found, generation);
        match found {
            Found::Running(_) | Found::NotRunning => {
                tracing::info!(cgroup = event.cgroup, "workload {}: {}", event.workload, event.state.name());
            }
            _ => tracing::error!("{}", event.problem.as_deref().unwrap_or_default()),
        }
        enforcer.shared.tell(timestamp(boot_time()), Kind::Workload(Box::new(event)));
    }
    for (workload, fault) in restored {
        let whose = workload.map_or("root cgroup".to_owned(), |name| format!("workload {name}"));
        tracing::warn!("{whose}: {fault}: restored");
        let cause = fault.to_string();
        let restored = Change::by_agent(Action::Restore, generation, Some(&cause));
        let event = Change { subject: Some(whose), ..restored }.event(generation, [None, None]);
        enforcer.shared.tell(timestamp(boot_time()), event);
    }
    Ok(())
}

fn event(workload: String, found: &Found, generation: u32) -> WorkloadChange {
    let cgroup = match found {
        Found::Running(cgroup) => Some(cgroup),
        _ => None,
    };
    WorkloadChange {
        problem: found.problem(&workload),
        workload,
        state: state(found),
        cgroup: cgroup.map(|cgroup| cgroup.path.clone()),
        cgroup_id: cgroup.map(|cgroup| cgroup.id),
        generation,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::{News, PAUSE, wait};

    #[test]
    fn news_that_wait_already_are_looked_at_after_a_pause() {
        let base = std::env::temp_dir().join(format!("bulkhead-wait-{}", std::process::id()));
        std::fs::create_dir_all(&base).unwrap();
        let mut news = News::new().unwrap();
        news.watch(&base);
        std::fs::create_dir(base.join("new")).unwrap();
        let begin = Instant::now();
        for _ in 0..5 {
            wait(Some(&news));
        }
        let elapsed = begin.elapsed();
        std::fs::remove_dir_all(&base).unwrap();
        assert!(elapsed >= PAUSE * 5 && elapsed < PAUSE * 80, "{elapsed:?}");
    }
}
