//! The terminal, which is given back as it was however the command ends.

use std::io;

use anyhow::Context as _;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event};
use tokio::sync::mpsc::{Receiver, channel};

/// Keys that wait to be looked at.
const KEYS: usize = 16;

/// The whole screen, until it is dropped. A panic gives it back before its message is printed.
pub struct Screen(pub DefaultTerminal);

impl Screen {
    /// Takes it.
    ///
    /// # Errors
    /// If the terminal refuses.
    pub fn open() -> anyhow::Result<Self> {
        match ratatui::try_init() {
            Ok(terminal) => Ok(Self(terminal)),
            Err(error) => {
                // Half of it may be done.
                let _ = ratatui::try_restore();
                Err(error).context("taking the whole screen; leave --top out to have lines")
            }
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing given back.
        let _ = ratatui::try_restore();
    }
}

/// What is typed, and changes of the terminal's size.
///
/// # Errors
/// If the system has no more threads.
pub fn keys() -> io::Result<Receiver<Event>> {
    let (sender, keys) = channel(KEYS);
    std::thread::Builder::new().name("keys".to_owned()).spawn(move || {
        while let Ok(event) = event::read() {
            if sender.blocking_send(event).is_err() {
                return;
            }
        }
    })?;
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::Screen;

    /// Set for the process that is to panic.
    const CHILD: &str = "BULKHEAD_TEST_SCREEN";

    #[test]
    fn a_panic_gives_the_terminal_back_before_it_is_told() {
        if std::env::var_os(CHILD).is_some() {
            let _screen = Screen::open().unwrap();
            panic!("on purpose");
        }
        let test = std::env::current_exe().unwrap();
        let name = "commands::watch::top::screen::tests::a_panic_gives_the_terminal_back_before_it_is_told";
        let line = format!("stty -g; {CHILD}=1 {} --exact {name} --nocapture; stty -g", test.display());
        // A terminal of its own (util-linux).
        let mut script = Command::new("script");
        script.args(["-qec", &line, "/dev/null"]).env("TERM", "xterm").stdin(Stdio::null());
        let shown = String::from_utf8_lossy(&script.output().unwrap().stdout).into_owned();
        let place = |what: &str| shown.find(what).unwrap_or_else(|| panic!("{what:?}: {shown:?}"));
        assert!(place("\u{1b}[?1049h") < place("\u{1b}[?1049l"), "{shown:?}");
        assert!(place("\u{1b}[?1049l") < place("on purpose"), "{shown:?}");
        let lines: Vec<_> = shown.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        assert_eq!(lines.first(), lines.last(), "the terminal's settings: {shown:?}");
    }
}
