//! The host's own check of a bundle that was just enforced: files of the fleet still come, and a program says so, if
//! agent.toml names one.

use std::process::Stdio;
use std::time::{Duration, Instant};

use bulkhead_fleet::{LONGEST, Origin};
use bulkhead_host::program::{kill, program};
use tokio::sync::oneshot;

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
        let (tell, ran) = oneshot::channel();
        // The connection to the origin lives on this thread, and goes on meanwhile. The thread is the program's own: those
        // that read files may all wait for a file system that hangs.
        let run = move || _ = tell.send(run(&name, &arguments, deadline));
        let begun = std::thread::Builder::new().name("health".to_owned()).spawn(run);
        let ran = match begun {
            Ok(_) => ran.await.unwrap_or_else(|_| Some("the host's check has ended early".to_owned())),
            Err(error) => Some(error.to_string()),
        };
        if let Some(why) = ran {
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
    use std::pin::Pin;
    use std::time::{Duration, Instant};

    use bulkhead_fleet::{Origin, OriginError};

    use super::{check, run};

    /// An origin of a file system that hangs.
    #[derive(Debug)]
    struct Hangs;

    type Answer<'a> = Pin<Box<dyn Future<Output = Result<Option<Vec<u8>>, OriginError>> + Send + 'a>>;

    impl Origin for Hangs {
        fn file<'s, 'p, 'a>(&'s self, _: &'p str, _: u64) -> Answer<'a>
        where
            's: 'a,
            'p: 'a,
        {
            Box::pin(async {
                let read = tokio::task::spawn_blocking(|| std::thread::sleep(Duration::from_secs(3))).await;
                Err(OriginError::Down(format!("{read:?}")))
            })
        }
    }

    #[test]
    fn files_that_hang_do_not_keep_the_check_from_its_end() {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build();
        let runtime = runtime.unwrap();
        runtime.block_on(async {
            // Of an earlier look.
            tokio::task::spawn_blocking(|| std::thread::sleep(Duration::from_secs(3)));
            let begun = Instant::now();
            let problem = check(&["/bin/true".to_owned()], &Hangs, begun + Duration::from_secs(1)).await;
            assert_eq!(problem.unwrap().why(), "the fleet's files do not come any more");
            assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
        });
        runtime.shutdown_background();
    }

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
