//! The way back to what was enforced before: by command, or because no confirmation came.

use bulkhead_api::request::Applied;
use bulkhead_dataplane::Dataplane;

use super::clock::wall_time;
use super::enforcer::{Enforcer, held};
use super::inputs::Inputs;
use super::start;
use super::store::Record;
use super::unsaved::Disk;

impl<D: Dataplane> Enforcer<D> {
    /// Returns to the previous generation, which becomes a new one of the same files; `None` if
    /// there is none. Neither a full disk nor a test that fails by now keeps it from that.
    ///
    /// # Errors
    /// If the system refuses; nothing has changed then.
    pub fn rollback(&self) -> anyhow::Result<Option<Applied>> {
        let _one = held(&self.changing);
        self.roll_back()
    }

    /// Rolls back if a confirmation was due. A change that is being made is not waited for.
    ///
    /// # Errors
    /// As [`Self::rollback`].
    pub fn roll_back_unconfirmed(&self) -> anyhow::Result<Option<Applied>> {
        let Ok(_one) = self.changing.try_lock() else { return Ok(None) };
        let due = self.live().record.pending.as_ref().is_some_and(start::is_over);
        if due { self.roll_back() } else { Ok(None) }
    }

    fn roll_back(&self) -> anyhow::Result<Option<Applied>> {
        let Record { previous, shadow, .. } = self.live().record.clone();
        let Some(previous) = previous else { return Ok(None) };
        let inputs = self.kept(previous, Inputs::check_kept)?;
        let mut done = self.change(Disk::Follows, inputs, shadow, |record, number| {
            let previous = Some(record.enforced);
            Ok(Record {
                enforced: number,
                previous,
                target: None,
                pending: None,
                shadow,
                applied: wall_time(),
            })
        })?;
        self.store.end_wait();
        done.notes.extend(self.live().built.problems.iter().cloned());
        Ok(Some(done))
    }

    /// Ends enforcement if the first policy was not confirmed in time: nothing was enforced before it.
    /// Whether it has.
    ///
    /// # Errors
    /// As [`Self::detach`].
    pub fn end_unconfirmed(&self) -> anyhow::Result<bool> {
        let Ok(_one) = self.changing.try_lock() else { return Ok(false) };
        let due = {
            let Record { pending, previous, .. } = &self.live().record;
            previous.is_none() && pending.as_ref().is_some_and(start::is_over)
        };
        if due {
            self.end()?;
            start::tell(self.store.write_record(&Record::default()));
        }
        Ok(due)
    }
}
