//! Whether enough people have signed the files that are about to be enforced, and what for.

use std::path::Path;

use bulkhead_grants::{Note, PolicyDigests};
use serde::{Deserialize, Serialize};

use crate::config::{Config, Mode, Trust};
use crate::daemon::files::{Files, sha256};
use crate::daemon::fleet::Bundles;
use crate::daemon::regular;
use crate::exit::Usage;

/// The file in the state directory that says which staged generation was signed, and has the note.
pub const STAGED: &str = "staged-signers.json";

/// Who has signed files, as agent.toml asked for then, and what for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signed {
    /// Who; nobody: agent.toml did not ask.
    pub signers: Vec<String>,
    /// They may be in force in audit mode, too.
    pub audit: bool,
    /// Which bundles of the fleet they are; none: they are not the fleet's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet: Option<Bundles>,
    /// Somebody has put them in force on this host in place of the fleet's: when (ns since the Unix epoch), which is how that
    /// change is known, and is never compared with a clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aside: Option<u64>,
}

/// Who has signed files, as they are before anything is added to them, and the note. `sent` is the note that came with
/// them; none: the one that agent.toml names. Without `[trust]` nobody need have.
///
/// # Errors
/// If they are not signed as agent.toml asks for.
pub fn signed(config: &Config, files: &Files, sent: Option<&str>) -> Result<(Signed, Option<String>), Usage> {
    let Some(trust) = &config.trust else { return Ok((Signed::default(), None)) };
    let named = files.clone().into_named();
    let note = sent.map_or_else(|| read(&trust.note(&config.policy)), |note| Ok(note.to_owned()));
    note.and_then(|note| Ok((judge(trust, &named, &note)?, Some(note)))).map_err(|why| {
        Usage(format!("{}, and [trust] in agent.toml asks for signatures: {why}", named.policy.name()))
    })
}

/// The same of what was staged: the note as it was kept, by the keys that agent.toml has now. That it is over these
/// files was found when they were staged.
///
/// # Errors
/// If they are not signed as agent.toml asks for by now.
pub fn signed_before(config: &Config, note: Option<&str>) -> Result<Signed, Usage> {
    let Some(trust) = &config.trust else { return Ok(Signed::default()) };
    let judged = note.ok_or_else(|| "nobody has signed it".to_owned()).and_then(|note| {
        let note = Note::parse(note.as_bytes()).map_err(words)?;
        let signed = PolicyDigests::parse(note.text()).map_err(words)?;
        count(trust, &note, &signed)
    });
    judged.map_err(|why| {
        Usage(format!(
            "the staged policy, and what [trust] in agent.toml asks for now: {why}; stage it again"
        ))
    })
}

/// Whether a mode may follow another: in audit mode nothing is dropped, which is wider than any policy.
///
/// # Errors
/// If agent.toml asks for signatures, and those who signed do not say so.
pub fn check_mode(config: &Config, signed: &Signed, before: Mode, mode: Mode) -> Result<(), Usage> {
    let is_wider = before == Mode::Enforce && mode == Mode::Audit;
    if !is_wider || signed.audit || config.trust.is_none() {
        return Ok(());
    }
    Err(Usage(
        "in audit mode nothing is dropped, and [trust] in agent.toml asks for signatures over that too: `bulkhead sign \
         --audit`, by as many people, and apply it with `--mode audit`"
            .to_owned(),
    ))
}

/// Whether anybody may go back to a generation: it was signed when it came to be in force, for its mode.
///
/// # Errors
/// If agent.toml asks for signatures, and it was not.
pub fn check_return(
    config: &Config,
    (to, signed): (u32, &Signed),
    before: Mode,
    mode: Mode,
) -> Result<(), Usage> {
    if config.trust.is_some() && signed.signers.is_empty() {
        return Err(Usage(format!(
            "generation {to} came to be in force without signatures, and [trust] in agent.toml asks for them: sign its \
             policy and inventory by `bulkhead sign`, and apply them"
        )));
    }
    check_mode(config, signed, before, mode)
}

fn words(error: bulkhead_grants::Error) -> String {
    error.to_string()
}

fn read(path: &Path) -> Result<String, String> {
    let note = regular::read(path)
        .map_err(|error| format!("nobody has signed it ({}); `bulkhead sign` makes the note", error.0))?;
    Ok(note.text().to_owned())
}

fn judge(trust: &Trust, files: &Files, note: &str) -> Result<Signed, String> {
    let note = Note::parse(note.as_bytes()).map_err(words)?;
    let signed = PolicyDigests::parse(note.text()).map_err(words)?;
    for (what, signed, source) in
        [("policy", &signed.policy, &files.policy), ("inventory", &signed.inventory, &files.inventory)]
    {
        let found = sha256(source);
        if *signed != found {
            return Err(format!(
                "the note is over another {what} (SHA-256 {}…, and {} has {}…): sign these files",
                &signed[..12],
                source.name(),
                &found[..12]
            ));
        }
    }
    count(trust, &note, &signed)
}

fn count(trust: &Trust, note: &Note, signed: &PolicyDigests) -> Result<Signed, String> {
    let signers = trust.people.quorum(note, trust.threshold, None, None).map_err(words)?;
    Ok(Signed { signers, audit: signed.audit, fleet: None, aside: None })
}
