//! A command that prints an inventory.

use std::io::Read as _;
use std::process::{Child, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use bulkhead_host::program::{kill, program};

use crate::{LONGEST, SourceError, down};

/// How often it is looked at whether it has ended.
const LOOK: Duration = Duration::from_millis(20);

/// What is repeated of its complaint, bytes.
const COMPLAINT: u64 = 512;

/// What a command prints. One that takes too long is killed, with whatever it has started in its process group.
pub(crate) fn run(command: &[String], patience: Duration) -> Result<String, SourceError> {
    let Some((name, arguments)) = command.split_first() else { return Err(down(&"no command")) };
    let named = |error: &dyn std::fmt::Display| down(&format!("{name}: {error}"));
    let mut child = program(name, arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| named(&error))?;
    let printed = reading(child.stdout.take(), LONGEST + 1);
    let complaint = reading(child.stderr.take(), COMPLAINT);
    let ended = wait(&mut child, &printed, patience);
    let Some((status, printed)) = ended.map_err(|error| named(&error))? else {
        return Err(named(&format!("it has not ended within {} s, and was killed", patience.as_secs())));
    };
    if !status.success() {
        let complaint = complaint.recv_timeout(LOOK).unwrap_or_default();
        let complaint = String::from_utf8_lossy(&complaint).lines().next().unwrap_or_default().to_owned();
        return Err(named(&format!("{status}: {complaint}")));
    }
    if printed.len() as u64 > LONGEST {
        return Err(SourceError::Nonsense(format!("{name} prints more than {LONGEST} bytes")));
    }
    String::from_utf8(printed).map_err(|_| SourceError::Nonsense(format!("{name} prints what is no text")))
}

/// What comes out of a pipe, read by a thread of its own.
fn reading(pipe: Option<impl std::io::Read + Send + 'static>, most: u64) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // What was read before an error is of no use, and the status says the rest.
            let _ = pipe.by_ref().take(most).read_to_end(&mut bytes);
            // Whoever goes on to write is not to fail by it.
            let _ = std::io::copy(&mut pipe, &mut std::io::sink());
        }
        // Whoever asked may not wait any more.
        let _ = sender.send(bytes);
    });
    receiver
}

/// Its end and what it has printed by then; none: it was killed.
fn wait(
    child: &mut Child,
    printed: &mpsc::Receiver<Vec<u8>>,
    patience: Duration,
) -> std::io::Result<Option<(std::process::ExitStatus, Vec<u8>)>> {
    let deadline = Instant::now() + patience;
    // The end of what it prints comes first, unless it leaves its output to others.
    if let Ok(printed) = printed.recv_timeout(patience) {
        while Instant::now() < deadline {
            if let Some(status) = child.try_wait()? {
                return Ok(Some((status, printed)));
            }
            std::thread::sleep(LOOK);
        }
    }
    kill(child)?;
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, patience: u64) -> Result<String, SourceError> {
        run(&["/bin/sh", "-c", script].map(str::to_owned), Duration::from_millis(patience))
    }

    #[test]
    fn what_a_command_prints_is_taken_if_it_ends_well() {
        assert_eq!(shell("echo {}", 5000).unwrap(), "{}\n");
        let words = shell("echo half; echo no such tenant >&2; exit 3", 5000).unwrap_err().to_string();
        assert!(words.starts_with("/bin/sh: ") && words.ends_with(": no such tenant"), "{words}");
        assert!(matches!(
            run(&["/nonexistent".to_owned()], Duration::from_secs(1)),
            Err(SourceError::Down(_))
        ));
        let talkative = "for i in $(seq 200); do echo warning $i >&2; done; echo {}";
        assert_eq!(shell(talkative, 5000).unwrap(), "{}\n");
        assert!(matches!(shell("printf '\\377'", 5000), Err(SourceError::Nonsense(_))));
        assert_eq!(shell("echo $HOME", 5000).unwrap(), "\n", "no environment of the agent's");
    }

    #[test]
    fn a_command_that_hangs_is_killed_with_what_it_has_started() {
        let began = Instant::now();
        let words = shell("sleep 60 & echo $! ; sleep 60", 300).unwrap_err().to_string();
        assert!(words.contains("was killed"), "{words}");
        assert!(began.elapsed() < Duration::from_secs(10));
        // One whose children keep its output open is no better.
        assert!(shell("sleep 60 & exit 0", 300).is_err());
        assert!(shell("exec >&-; sleep 60", 300).is_err());
    }
}
