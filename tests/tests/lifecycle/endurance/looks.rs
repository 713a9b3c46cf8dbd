//! When an agent has looked at the kernel, as the scheduler let it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::meddling::now;

/// Between two samples.
const SAMPLE: Duration = Duration::from_millis(1);

/// Watches the thread that looks, by how often it went to sleep: it does so after each look.
pub struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<u64>>,
}

/// When the thread went to sleep, in ms since the Unix epoch.
pub struct Looks(Vec<u64>);

impl Looks {
    /// Begins to watch the looks of the agent with this process ID.
    pub fn of(agent: u32) -> Watch {
        let status = thread(agent, "reconcile").join("status");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let (mut times, mut slept) = (vec![now()], sleeps(&status));
            while !stopped.load(Ordering::Relaxed) {
                std::thread::sleep(SAMPLE);
                let sleeps = sleeps(&status);
                if sleeps != slept {
                    times.push(now());
                    slept = sleeps;
                }
            }
            times
        });
        Watch { stop, thread }
    }

    /// What usually (the median) lies between two looks, ms.
    pub fn usual(&self) -> u64 {
        let mut between: Vec<u64> = self.0.windows(2).map(|pair| pair[1] - pair[0]).collect();
        between.sort_unstable();
        between[between.len() / 2]
    }

    /// The latest time before which no look can have begun that ended before `time`. A look may sleep once itself.
    pub fn last_whole_before(&self, time: u64) -> u64 {
        let until = self.0.partition_point(|slept| *slept <= time);
        self.0[until.saturating_sub(3)]
    }
}

impl Watch {
    /// What was seen.
    pub fn stop(self) -> Looks {
        self.stop.store(true, Ordering::Relaxed);
        Looks(self.thread.join().unwrap())
    }
}

/// A thread of a process, by its name, below /proc.
fn thread(process: u32, name: &str) -> PathBuf {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let has_name =
        |task: &PathBuf| std::fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim_end() == name);
    tasks.map(|task| task.unwrap().path()).find(has_name).unwrap_or_else(|| panic!("no thread {name}"))
}

fn sleeps(status: &Path) -> u64 {
    let text = std::fs::read_to_string(status).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.unwrap().trim().parse().unwrap()
}
