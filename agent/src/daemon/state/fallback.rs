//! The nftables fallback that is in place, and what it was made for.

use std::collections::BTreeSet;

use bulkhead_dataplane::Attached;

use crate::daemon::setup::Setup;
use crate::daemon::state::in_place::GuardNote;
use crate::guard::{self, InstalledFallback};

/// What the guard in place was made for.
#[derive(Default)]
pub struct NftFallback {
    pub made_for: Option<MadeFor>,
    /// What `made_for` was last compared with: a generation, and interfaces that had it.
    pub seen: (u32, Vec<Attached>),
    /// What was put in place.
    pub installed: Option<Box<dyn InstalledFallback>>,
    /// Its digest, once that was asked for.
    pub digest: Option<guard::Digest>,
    /// Why it is not what it should be.
    pub problem: Option<String>,
}

/// A generation, the devices that are open, and the names that are closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MadeFor {
    pub generation: u32,
    pub open: BTreeSet<(u32, u32)>,
    pub names: BTreeSet<String>,
}

impl NftFallback {
    /// The devices whose packets pass, once it is in place.
    pub fn open(&self) -> Option<BTreeSet<(u32, u32)>> {
        self.made_for.as_ref().map(|made| made.open.clone())
    }

    /// What is noted of it.
    pub fn note(&mut self, setup: &Setup) -> GuardNote {
        match (&self.installed, &self.problem) {
            _ if !setup.config.guard => GuardNote::Off,
            (Some(installed), None) => {
                GuardNote::InPlace(self.digest.get_or_insert_with(|| installed.digest()).clone())
            }
            (_, problem) => GuardNote::Missing(problem.clone().unwrap_or_else(|| "not yet".to_owned())),
        }
    }
}
