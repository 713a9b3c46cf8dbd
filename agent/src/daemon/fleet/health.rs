//! The host's own check of a bundle that was just enforced: files of the fleet still come, and a program says so, if
//! agent.toml names one.

use std::process::Stdio;
use std::time::{Duration, Instant};

use bulkhead_fleet::{LONGEST, Origin};
use bulkhead_host::program::{kill, program};

/// Between two tries.
const AGAIN: Duration = Duration::from_millis(500);

/// How often it is looked at whether the program has ended.
const LOOK: Duration = Duration::from_millis(20);

/// A file that each origin has.
const FILE: &str = "policy/metadata/timestamp.json";

/// What the host's own check does not find good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Problem {
    /// The files do not come. Whoever carries them can cause that, so it says nothing against what was tried.
    Carrier(String),
    /// The host's program says so, or nobody has confirmed it.
    Host(String),
}

impl Problem {
    pub(super) fn why(&self) -> &str {
        match self {
            Self::Carrier(why) | Self::Host(why) => why,
        }
    }
}

/// Tries until a deadline. None: all is well; else what is not.
pub(super) async fn check(command: &[String], origin: &dyn Origin, deadline: Instant) -> Option<Problem> {
    loop {
        let problem = once(command, origin, deadline).await;
        if problem.is_none() || Instant::now() + AGAIN >= deadline {
            return problem;
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// The program first: what it finds counts, whether files come or not.
async fn once(command: &[String], origin: &dyn Origin, deadline: Instant) -> Option<Problem> {
    if let Some((name, arguments)) = command.split_first() {
        let (name, arguments) = (name.clone(), arguments.to_vec());
        // The connection to the origin lives on this thread, and goes on meanwhile.
        let ran = tokio::task::spawn_blocking(move || run(&name, &arguments, deadline)).await;
        if let Some(why) = ran.unwrap_or_else(|error| Some(error.to_string())) {
            return Some(Problem::Host(why));
        }
    }
    comes(origin, deadline).await.map(Problem::Carrier)
}

/// Why files of the fleet do not come.
async fn comes(origin: &dyn Origin, deadline: Instant) -> Option<String> {
    let left = deadline.saturating_duration_since(Instant::now());
    match tokio::time::timeout(left, origin.file(FILE, LONGEST)).await {
        Ok(Ok(Some(_))) => None,
        Ok(Ok(None)) => Some(format!("the fleet's {FILE} is not there any more")),
        Ok(Err(error)) => Some(format!("the fleet's files do not come any more: {error}")),
        Err(_) => Some("the fleet's files do not come any more".to_owned()),
    }
}

/// Runs a program. One that takes too long is killed, with whatever it has started in its process group.
fn run(name: &str, arguments: &[String], deadline: Instant) -> Option<String> {
    let child = program(name, arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => return Some(format!("{name}: {error}")),
    };
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return None,
            Ok(Some(status)) => return Some(format!("{name}: {status}")),
            Ok(None) if Instant::now() < deadline => std::thread::sleep(LOOK),
            Ok(None) => {
                let _ = kill(&mut child);
                return Some(format!("{name} has not ended in time, and was killed"));
            }
            Err(error) => return Some(format!("{name}: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::run;

    #[test]
    fn a_program_says_whether_all_is_well() {
        let soon = || Instant::now() + Duration::from_secs(5);
        assert_eq!(run("/bin/true", &[], soon()), None);
        assert!(run("/bin/false", &[], soon()).unwrap().contains("exit status: 1"));
        assert!(run("/none", &[], soon()).unwrap().contains("/none"));
        let began = Instant::now();
        let slow = run("/bin/sleep", &["60".to_owned()], began + Duration::from_millis(100)).unwrap();
        assert!(slow.contains("was killed") && began.elapsed() < Duration::from_secs(5), "{slow}");
    }
}
