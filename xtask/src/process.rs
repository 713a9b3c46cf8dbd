//! Children that are bounded in time and leave none of their own behind.

use std::fs;
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// How often a bounded child is looked at.
const POLL: Duration = Duration::from_millis(50);

/// Runs a command to its end; fails if it fails, or if it takes longer than `limit`, when it and all
/// its descendants are killed. They stay in this process group, so that Ctrl-C reaches them.
pub fn run_within(limit: Duration, command: &mut Command) -> Result<()> {
    let name = describe(command);
    let mut child = command.spawn().with_context(|| format!("`{name}` could not be started"))?;
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            if !status.success() {
                bail!("`{name}` failed ({status})");
            }
            return Ok(());
        }
        if started.elapsed() >= limit {
            kill_tree(&mut child)?;
            bail!("`{name}` was still running after {} s and was killed", limit.as_secs());
        }
        thread::sleep(POLL);
    }
}

/// Kills a child and all that it started, and reaps it.
fn kill_tree(child: &mut Child) -> Result<()> {
    let root = Pid::from_child(child);
    for pid in descendants(root) {
        // One that ended meanwhile is what was wanted.
        _ = kill_process(pid, Signal::KILL);
    }
    child.kill()?;
    child.wait()?;
    Ok(())
}

/// All descendants of a process, from /proc.
fn descendants(root: Pid) -> Vec<Pid> {
    let mut found = Vec::new();
    let mut open = vec![root];
    while let Some(pid) = open.pop() {
        let tasks = fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero())).into_iter().flatten();
        for task in tasks.flatten() {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            let children = children.split_whitespace().filter_map(|text| Pid::from_raw(text.parse().ok()?));
            for child in children {
                found.push(child);
                open.push(child);
            }
        }
    }
    found
}

/// The command as one would type it.
fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn success_and_failure_are_told_apart() {
        run_within(LONG, &mut Command::new("true")).unwrap();
        let error = run_within(LONG, Command::new("sh").args(["-c", "exit 7"])).unwrap_err().to_string();
        assert!(error.contains("sh -c exit 7") && error.contains("exit status: 7"), "{error}");
        assert!(run_within(LONG, &mut Command::new("/nonexistent")).is_err());
    }

    #[test]
    fn a_late_child_is_killed_with_its_descendants() {
        // An odd length of sleep, by which the grandchild is found again.
        let length = format!("{}.{}", 3600, std::process::id());
        let script = format!("sleep {length} & wait");
        let started = Instant::now();
        let error =
            run_within(Duration::from_millis(300), Command::new("sh").args(["-c", &script])).unwrap_err();
        assert!(error.to_string().contains("killed"), "{error}");
        while alive(&length) {
            assert!(started.elapsed() < Duration::from_secs(10), "the grandchild survived");
        }
    }

    /// Whether a process has the text as an argument and is more than a zombie.
    fn alive(argument: &str) -> bool {
        let processes = fs::read_dir("/proc").unwrap().flatten();
        processes.into_iter().any(|process| {
            let command = fs::read(process.path().join("cmdline")).unwrap_or_default();
            command.split(|&byte| byte == 0).any(|word| word == argument.as_bytes())
        })
    }
}
