//! Whether enough people have signed the files that are about to be enforced.

use std::path::Path;

use bulkhead_grants::{Note, PolicyDigests};

use crate::config::{Config, Trust};
use crate::daemon::files::{Files, sha256};
use crate::daemon::regular;
use crate::exit::Usage;

/// The file in the state directory that says which staged generation was signed, and by whom.
pub const STAGED: &str = "staged-signers.json";

/// Who has signed files, as they are before anything is added to them. `sent` is the note that came with them; none:
/// the one that agent.toml names. Without `[trust]` nobody need have.
///
/// # Errors
/// If they are not signed as agent.toml asks for.
pub fn signers(config: &Config, files: &Files, sent: Option<&str>) -> Result<Vec<String>, Usage> {
    let Some(trust) = &config.trust else { return Ok(Vec::new()) };
    let named = files.clone().into_named();
    let note = sent.map_or_else(|| read(&trust.note(&config.policy)), |note| Ok(note.to_owned()));
    note.and_then(|note| judge(trust, &named, &note)).map_err(|why| {
        Usage(format!("{}, and [trust] in agent.toml asks for signatures: {why}", named.policy.name()))
    })
}

fn read(path: &Path) -> Result<String, String> {
    let note = regular::read(path)
        .map_err(|error| format!("nobody has signed it ({}); `bulkhead sign` makes the note", error.0))?;
    Ok(note.text().to_owned())
}

fn judge(trust: &Trust, files: &Files, note: &str) -> Result<Vec<String>, String> {
    let words = |error: bulkhead_grants::Error| error.to_string();
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
    trust.people.quorum(&note, trust.threshold, None, None).map_err(words)
}
