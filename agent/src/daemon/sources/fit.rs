//! What was enforced, compiled with what the sources list now: all of it, or as much as can be.

use bulkhead_policy::diagnostic::Findings;
use bulkhead_policy::inventory::{self, common};
use bulkhead_policy::source::Source as Text;

use super::Sources;
use crate::config::Mode;
use crate::daemon::clock::wall_time;
use crate::daemon::files::Files;
use crate::daemon::state::inputs::{CompileOptions, Inputs, Refused};

/// What there is to enforce.
pub struct Fit {
    /// Compiled.
    pub inputs: Inputs,
    /// Why it is not all that the sources list: whoever they list no more, or otherwise than before, is not in it.
    pub unfit: Option<Refused>,
}

impl Sources {
    /// Compiles files that were enforced before, with what the sources list now.
    ///
    /// # Errors
    /// What is wrong, if not even what they list as before can be enforced.
    pub fn fit(&self, files: Files, mode: Mode, options: &CompileOptions) -> Result<Fit, Refused> {
        let check = |files| Inputs::check_kept(files, mode, options, wall_time());
        let composed = self.add_to(files.clone());
        let refused = match check(composed.clone()) {
            Ok(inputs) => return Ok(Fit { inputs, unfit: None }),
            Err(refused) => refused,
        };
        if composed.inventory.text() == files.inventory.text() {
            return Err(refused);
        }
        let rest = keep_of(&files.inventory, &composed.inventory, &options.node);
        match rest.and_then(|inventory| check(Files { inventory, ..files }).ok()) {
            Some(inputs) => Ok(Fit { inputs, unfit: Some(refused) }),
            None => Err(refused),
        }
    }
}

/// What of an enforced inventory the sources still list so.
fn keep_of(enforced: &Text, composed: &Text, own: &str) -> Option<Text> {
    let read = |text: &Text| {
        let mut findings = Findings::default();
        inventory::parse(text, &mut findings).filter(|_| !findings.has_errors())
    };
    let text = common(&read(enforced)?, &read(composed)?, own);
    Some(Text::new(enforced.name(), &text))
}
