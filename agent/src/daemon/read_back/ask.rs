//! A look by a command: what was recorded is read from the state directory, whether an agent runs or not.

use std::time::Duration;

use anyhow::Context as _;
use bulkhead_policy::held::Comparison;

use super::look::{self, Moment};
use super::record::Built;
use super::sets::{Recorded, Sets};
use crate::daemon::bindings;
use crate::daemon::quarantine::list::List;
use crate::daemon::state::in_place::InPlace;
use crate::daemon::store::Store;
use crate::paths::Paths;

/// Looks before a difference is believed: what an agent has just changed is none.
const LOOKS: usize = 3;
const BETWEEN: Duration = Duration::from_millis(300);

/// What was recorded of a generation that was built so.
///
/// # Errors
/// If its files are not kept.
pub fn recorded(store: &Store, number: u32, built: Built) -> anyhow::Result<Recorded> {
    let kept = |number: u32| {
        let kept = store.inputs_of(number);
        kept.with_context(|| format!("the files that generation {number} was made from are gone, damaged or changed; `bulkhead apply` \
             enforces files that are known"))
    };
    let (files, made) = kept(number)?;
    let staged = built.staged.map(|number| anyhow::Ok((number, kept(number)?)));
    let staged = staged.transpose()?.map(|(number, (files, made))| (number, files, made));
    Ok(Recorded { number, files, made, built, staged })
}

/// Compares what the kernel holds with what was recorded of the generation that is enforced. `quarantined`: who is
/// cut off, asked anew before each look. At most `most` differences are named.
///
/// # Errors
/// If there is nothing to compare, or the kernel or the state directory cannot be read.
pub fn look(
    paths: &Paths,
    quarantined: impl Fn() -> anyhow::Result<List>,
    most: usize,
) -> anyhow::Result<(Sets, Comparison)> {
    let store = Store::new(&paths.state);
    let mut last = None;
    for _ in 0..LOOKS {
        if last.is_some() {
            std::thread::sleep(BETWEEN);
        }
        let ledger = store.ledger()?;
        let number = ledger.enforced;
        anyhow::ensure!(number != 0, "nothing is enforced by this instance; `bulkhead run` starts an agent");
        let built = store.built_of(number)?.with_context(|| {
            format!(
                "what generation {number} was built with was not kept; `bulkhead apply` makes one that is"
            )
        })?;
        let sets = Sets::compile(recorded(&store, number, built)?)?;
        let in_place = InPlace::noted(&paths.socket).context(
            "what was put in place is not known in this boot; the next start of the agent notes it",
        )?;
        let quarantined = quarantined()?;
        let unbound = store.load(bindings::FILE)?.unwrap_or_default();
        let moment = Moment {
            pins: &paths.pins,
            quarantined: &quarantined,
            unbound: &unbound,
            attached: &in_place.interfaces,
        };
        let read = look::read(&sets, &moment);
        let programs = read.and_then(|read| {
            let programs = look::programs(&sets, &read, &moment)?;
            Ok((read, programs))
        });
        // A change was under way, or made meanwhile.
        let is_other = ledger.target.is_some() || store.ledger()? != ledger;
        let (read, programs) = match programs {
            Err(_) if is_other => continue,
            programs => programs?,
        };
        let mut comparison = look::differences(&sets, &read, most)?;
        drop(read);
        comparison.add(programs);
        let is_same = comparison.is_same();
        last = Some((sets, comparison));
        if is_same && !is_other {
            break;
        }
    }
    last.context("what is enforced is being changed all the time; ask again")
}
