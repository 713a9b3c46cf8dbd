//! `--watch`: an answer asked for and shown again and again, until Ctrl-C.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use anyhow::Context as _;
use rustix::termios::tcgetwinsize;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::client;
use crate::daemon::clock::{BootClock, boot_time};
use crate::exit::Answer;

/// What a terminal shows that does not say how large it is: lines and columns.
const SIZE: (usize, usize) = (24, 80);

/// How an answer is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// In place of the one before.
    Screen,
    /// Below the one before, with its time.
    Blocks,
    /// One object a line.
    Json,
}

/// Asks and shows, with a pause in between, until Ctrl-C or nobody reads any more; how the last answer would have
/// ended the command. An answer that cannot be had is shown as such, and asked for again.
///
/// # Errors
/// The last answer could not be had.
pub fn until_interrupted(
    pause: Duration,
    json: bool,
    ask: impl Fn() -> anyhow::Result<(String, Answer)> + Send + 'static,
) -> anyhow::Result<Answer> {
    let form = match (json, io::stdout().is_terminal()) {
        (true, _) => Form::Json,
        (false, true) => Form::Screen,
        (false, false) => Form::Blocks,
    };
    client::block_on(async {
        let mut interrupt = signal(SignalKind::interrupt()).context("waiting for Ctrl-C")?;
        let (answers, mut asked) = mpsc::channel(1);
        // A thread that asks an agent that hangs does not keep the command from ending.
        std::thread::Builder::new().name("ask".to_owned()).spawn(move || {
            while answers.blocking_send(ask()).is_ok() {
                std::thread::sleep(pause);
            }
        })?;
        let mut last = Ok(Answer::No);
        loop {
            let answer = tokio::select! {
                _ = interrupt.recv() => return last,
                Some(answer) = asked.recv() => answer,
            };
            let text = match &answer {
                Ok((text, _)) => text.clone(),
                Err(error) if json => serde_json::json!({ "error": format!("{error:#}") }).to_string() + "\n",
                Err(error) => format!("bulkhead: {error:#}\n"),
            };
            last = answer.map(|(_, answer)| answer);
            match show(form, &text) {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return last,
                shown => shown.context("printing")?,
            }
        }
    })
}

fn show(form: Form, text: &str) -> io::Result<()> {
    let time = BootClock::now().rfc3339(boot_time());
    let shown = match form {
        Form::Json => text.to_owned(),
        Form::Blocks => format!("{time}\n{text}\n"),
        Form::Screen => {
            let size = tcgetwinsize(io::stdout()).ok().filter(|size| size.ws_row > 0 && size.ws_col > 0);
            let size = size.map_or(SIZE, |size| (size.ws_row.into(), size.ws_col.into()));
            screen(&format!("{time}, until Ctrl-C\n{text}"), size)
        }
    };
    let mut out = io::stdout();
    out.write_all(shown.as_bytes())?;
    out.flush()
}

/// A text over what a terminal of so many lines and columns has shown before (ECMA-48: CUP, EL, ED). What does not
/// fit is said.
fn screen(text: &str, (lines, columns): (usize, usize)) -> String {
    let all = text.lines().count();
    // The last line stays free for what is typed.
    let fits = lines.saturating_sub(1).max(1);
    let (shown, more) = if all > fits { (fits - 1, all - fits + 1) } else { (all, 0) };
    let rest = (more > 0).then(|| format!("… {more} more lines: `bulkhead status` has them all"));
    let lines = text.lines().take(shown).chain(rest.as_deref());
    let cut = lines.map(|line| line.chars().take(columns).chain("\u{1b}[K\n".chars()).collect::<String>());
    format!("\u{1b}[H{}\u{1b}[J", cut.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::screen;

    #[test]
    fn a_screen_is_never_left() {
        assert_eq!(screen("a\nb\n", (24, 80)), "\u{1b}[Ha\u{1b}[K\nb\u{1b}[K\n\u{1b}[J");
        let long = "é123456789\n".repeat(10);
        let shown = screen(&long, (5, 4));
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines.len(), 5, "four lines and the end: {shown:?}");
        assert_eq!(lines[1], "é123\u{1b}[K");
        assert!(screen(&long, (5, 80)).contains("… 7 more lines"), "{:?}", screen(&long, (5, 80)));
        assert!(!screen(&long, (12, 80)).contains("more lines"));
        assert!(screen(&long, (1, 80)).contains("more lines"));
    }
}
