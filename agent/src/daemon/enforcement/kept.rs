//! What a generation was made from, as it was kept.

use anyhow::Context as _;
use bulkhead_dataplane::Dataplane;

use crate::config::Mode;
use crate::daemon::clock::wall_time;
use crate::daemon::files::Files;
use crate::daemon::state::Enforcer;
use crate::daemon::state::inputs::{CompileOptions, Inputs, Refused};
use crate::daemon::store::GenerationMeta;
use crate::exit::Usage;

/// What a generation was made from, compiled again.
pub fn inputs<D: Dataplane>(
    enforcer: &Enforcer<D>,
    number: u32,
    compile: impl FnOnce(Files, Mode, &CompileOptions, u64) -> Result<Inputs, Refused>,
) -> anyhow::Result<Inputs> {
    self::compile(enforcer, number, files(enforcer, number)?, compile)
}

/// The files of a generation, compiled again.
pub fn compile<D: Dataplane>(
    enforcer: &Enforcer<D>,
    number: u32,
    (files, made): (Files, GenerationMeta),
    compile: impl FnOnce(Files, Mode, &CompileOptions, u64) -> Result<Inputs, Refused>,
) -> anyhow::Result<Inputs> {
    let inputs = compile(files, made.mode, &enforcer.setup.options, wall_time())
        .map_err(|refused| anyhow::anyhow!("generation {number} no longer compiles:\n{}", refused.text()))?;
    Ok(Inputs { origin: made.origin, signed: made.signed, ..inputs })
}

/// The files of a generation, as they were kept.
pub fn files<D: Dataplane>(enforcer: &Enforcer<D>, number: u32) -> anyhow::Result<(Files, GenerationMeta)> {
    let kept = enforcer.store.inputs_of(number);
    kept.with_context(|| {
        format!(
            "the files that generation {number} was made from are gone, damaged or changed; `bulkhead apply` \
             enforces files that are known"
        )
    })
}

/// Whether there is what a change that is to be confirmed within a time would go back to.
///
/// # Errors
/// If its files are damaged or gone: then nothing would bring it back.
pub fn promise_return<D: Dataplane>(enforcer: &Enforcer<D>, within: Option<u64>) -> Result<(), Usage> {
    let to = enforcer.live().ledger.confirmed();
    match to.filter(|to| within.is_some() && enforcer.store.inputs_of(*to).is_none()) {
        Some(to) => Err(Usage(format!(
            "nothing could go back to generation {to}, whose files are damaged or gone: confirm what is enforced, or apply \
             it again without --confirm, before a change that is to be confirmed"
        ))),
        None => Ok(()),
    }
}
