//! What `run` was told, as it was when it was last put in force: a restart goes on with what is enforced unless that
//! has changed.

use std::fs;

use anyhow::Context as _;
use bulkhead_policy::source::Source;

use super::{Ledger, Store};
use crate::config::Mode;
use crate::daemon::files::Files;

/// The generation that was being made when it was noted last. Until that is in force, it was not put in force.
const FOR: &str = "seen-for.json";

impl Store {
    /// The files that `run` named, and their mode; none if that is not known, or an agent was killed before it had put
    /// them in force.
    #[must_use]
    pub fn last_requested(&self, ledger: &Ledger) -> Option<(Files, Mode)> {
        let for_generation: Option<u32> = self.load(FOR).ok()?;
        if for_generation > ledger.generations().into_iter().max() {
            return None;
        }
        let source =
            |file: &str| fs::read_to_string(self.root.join(file)).ok().map(|text| Source::new(file, &text));
        let files = Files::new(source("seen-policy")?, source("seen-inventory")?);
        Some((files, self.load("seen-mode.json").ok()??))
    }

    /// Notes what `run` was told, for the generation that is made now: of it, or beside it.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn save_requested(
        &self,
        files: &Files,
        mode: Mode,
        number: u32,
        ledger: &Ledger,
    ) -> anyhow::Result<()> {
        let is_noted =
            self.last_requested(ledger).is_some_and(|(seen, of)| seen.same_text(files) && of == mode);
        if is_noted {
            return Ok(());
        }
        self.save(FOR, &number)?;
        let write = || -> std::io::Result<()> {
            self.replace(&self.root.join("seen-policy"), files.policy.text().as_bytes())?;
            self.replace(&self.root.join("seen-inventory"), files.inventory.text().as_bytes())
        };
        write().with_context(|| format!("{}: noting what was read", self.root.display()))?;
        self.save("seen-mode.json", &mode)
    }

    /// What was noted stands: its generation was refused, and is not to be taken up by the next start.
    pub fn keep_requested(&self) {
        let remove = || {
            self.step("disk: let what was noted stand")?;
            fs::remove_file(self.root.join(FOR))
        };
        // What stays has the next start enforce what `run` names.
        let _ = remove();
    }
}
