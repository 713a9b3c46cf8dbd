//! What a generation is made of.

use std::borrow::Cow;

use bulkhead_abi::{AllowedReports, Capacity, Rate, Settings, Timeouts};
use bulkhead_engine::host_table::HostTable;
use bulkhead_engine::memory::Tables;

use super::group::settings_of;
use super::object::OBJECT;
use super::{KernelError, Specialisation};

/// A generation that only observes: what it decides otherwise is counted and reported.
#[derive(Clone, Copy, Debug)]
pub struct Staged<'a> {
    /// Its number, as in reports.
    pub number: u32,
    /// Its compiled tables. Deadlines in ns since boot.
    pub tables: &'a Tables,
}

/// What a generation is made of.
#[derive(Clone, Debug)]
pub struct Specification<'a> {
    /// Its number, from 1.
    pub number: u32,
    /// The compiled tables. Deadlines in ns since boot.
    pub tables: &'a Tables,
    /// A second generation that only observes.
    pub staged: Option<Staged<'a>>,
    /// Report what would be dropped, and let it pass.
    pub audit: bool,
    /// Time-outs of flows.
    pub timeouts: Timeouts,
    /// Sizes of the tables that outlive generations.
    pub capacity: Capacity,
    /// How many flows one sender may begin.
    pub new_flows: Rate,
    /// Until when open connections that the host forwards are taken up, seconds of the flow clock; 0: never.
    pub forwarded_until: u32,
    /// Drops that one CPU reports in a second.
    pub event_budget: u32,
    /// Which flows are told of as rules let them begin.
    pub allowed: AllowedReports,
    /// Programs may interrupt each other on a CPU: see [`super::is_realtime`].
    pub realtime: bool,
    /// A clock for tests, ns; else the kernel's.
    pub fixed_clock: Option<u64>,
    /// The programs and maps: [`OBJECT`], but for tests that change it.
    pub object: &'a [u8],
}

impl<'a> Specification<'a> {
    /// A generation that enforces `tables`, with default sizes, no rate and nothing else.
    #[must_use]
    pub fn new(number: u32, tables: &'a Tables, timeouts: Timeouts) -> Self {
        Self {
            number,
            tables,
            staged: None,
            audit: false,
            timeouts,
            capacity: Capacity::default(),
            new_flows: Rate::default(),
            forwarded_until: 0,
            event_budget: u32::MAX,
            allowed: AllowedReports::NONE,
            realtime: super::is_realtime(),
            fixed_clock: None,
            object: OBJECT,
        }
    }

    /// The host table as it lies in the map: with room for addresses that are cut off while it runs.
    ///
    /// # Errors
    /// If there can be no such room.
    pub fn hosts(&self) -> Result<Cow<'a, HostTable>, KernelError> {
        let spare = self.capacity.spare_addresses as usize;
        self.tables.hosts.with_room(spare).map_err(|_| KernelError::Refused {
            what: format!("making room for {spare} addresses more"),
            source: "too many addresses have the same hash".into(),
        })
    }

    /// What a program of this generation is specialised by.
    #[must_use]
    pub fn settings(&self, specialisation: Specialisation) -> Settings {
        settings_of(self, specialisation)
    }
}
