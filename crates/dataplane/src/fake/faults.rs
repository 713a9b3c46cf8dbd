//! Faults at counted steps: a first run counts them, the next ones break at each.

use std::io;
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What happens at a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The process is killed before the step is made: it unwinds with [`Crash`].
    Crash,
    /// The step is refused with an errno, once.
    Refuse(i32),
    /// This step and all later ones of the same kind are refused.
    RefuseOn(i32),
}

/// What a process that is killed unwinds with.
#[derive(Clone, Copy, Debug)]
pub struct Crash;

#[derive(Debug, Default)]
struct Plan {
    taken: Vec<&'static str>,
    at: Option<(usize, Fault)>,
    refused: Option<(&'static str, i32)>,
}

/// The steps that were made, and where the next run breaks. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Faults(Arc<Mutex<Plan>>);

impl Faults {
    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts anew, and breaks nowhere.
    pub fn clear(&self) {
        *self.plan() = Plan::default();
    }

    /// Counts anew, and breaks at step `at`, from 0.
    pub fn arm(&self, at: usize, fault: Fault) {
        *self.plan() = Plan { at: Some((at, fault)), ..Plan::default() };
    }

    /// The steps since then, by what they do.
    #[must_use]
    pub fn taken(&self) -> Vec<&'static str> {
        self.plan().taken.clone()
    }

    /// A step is to be made.
    ///
    /// # Errors
    /// If it is to be refused.
    pub fn step(&self, what: &'static str) -> io::Result<()> {
        let mut plan = self.plan();
        let number = plan.taken.len();
        plan.taken.push(what);
        if let Some((refused, errno)) = plan.refused
            && refused == what
        {
            return Err(io::Error::from_raw_os_error(errno));
        }
        let Some((_, fault)) = plan.at.filter(|(at, _)| *at == number) else { return Ok(()) };
        match fault {
            Fault::Refuse(errno) => Err(io::Error::from_raw_os_error(errno)),
            Fault::RefuseOn(errno) => {
                plan.refused = Some((what, errno));
                Err(io::Error::from_raw_os_error(errno))
            }
            Fault::Crash => {
                drop(plan);
                resume_unwind(Box::new(Crash))
            }
        }
    }
}
