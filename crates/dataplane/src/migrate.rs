//! What agents of another map ABI, or with other sizes, have left: their flows go on in tables of
//! this agent's shape, and their links run its programs. Nothing is detached meanwhile.
//!
//! A table that is not taken over as it is lies in `state-<N>` until every hook runs generation N;
//! then it takes its place in `state`. Every step can be the last: the next start finds the old
//! and the new ones, and brings them together again.

use std::fs;
use std::path::{Path, PathBuf};

use aya::maps::MapData;
use bulkhead_abi::FlowRecord;

use super::orphaned_events::{OrphanedEvents, Unknown};
use super::pins::remove;
use super::shape::Shapes;
use super::{Capacity, FlowTable, Hook, Importer, KernelError, Pins, STATE_MAPS, hashed};

/// The table of flows.
const FLOWS: &str = "FLOWS";

/// Tables whose contents go into one of another size.
const CARRIED: [&str; 4] = [FLOWS, "EVENTS", "AGGREGATES_0", "AGGREGATES_1"];

/// Tables whose keys and values mean the same in another map ABI as in this one. What is not
/// here is never read.
const SAME: &[(u32, &[&str])] = &[
    (1, &["FRAGMENTS", "REASON_COUNTERS"]),
    (
        2,
        &[
            "FRAGMENTS",
            "REASON_COUNTERS",
            "AGGREGATES_0",
            "AGGREGATES_1",
            "AGGREGATE_EPOCH",
            "EVENTS",
            "LOST_EVENTS",
            "INITIATORS",
        ],
    ),
    (3, STATE_MAPS),
    (4, STATE_MAPS),
    (5, STATE_MAPS),
    (6, STATE_MAPS),
    (7, STATE_MAPS),
    (8, STATE_MAPS),
];

/// A table that cannot stay what it is.
#[derive(Debug)]
struct Move {
    map: &'static str,
    from: Vec<PathBuf>,
    /// Flows in the hash tables of layouts 1 and 2.
    hashed: Vec<PathBuf>,
    to: PathBuf,
}

impl Move {
    fn has_flows(&self) -> bool {
        self.map == FLOWS && !(self.from.is_empty() && self.hashed.is_empty())
    }
}

/// A table that some agent has left.
struct Found {
    path: PathBuf,
    version: u32,
    id: u32,
    /// It is of this agent's layout, sizes apart.
    is_known: bool,
    /// It can be used as it is.
    fits: bool,
}

/// What is to be done.
#[derive(Debug)]
pub struct Migration {
    pins: Pins,
    others: Vec<Pins>,
    moves: Vec<Move>,
    adopted: Vec<(&'static str, PathBuf)>,
    unreadable: Vec<&'static str>,
    unknown: Vec<Unknown>,
    /// Flows were tracked in a way that is not known.
    loses_flows: bool,
}

impl Migration {
    /// Works out what is to be done before `generation` can run. Changes nothing.
    ///
    /// # Errors
    /// If an agent of another map ABI has attached to a hook that this one does not know: it could
    /// neither take it over nor replace it without a gap.
    pub fn plan(pins: &Pins, capacity: &Capacity, generation: u32) -> Result<Self, KernelError> {
        let others = pins.others()?;
        for other in &others {
            for (interface, hook) in other.named_links()? {
                if Hook::from_name(&hook).is_none() {
                    return Err(KernelError::OtherLayout { version: other.version(), interface, hook });
                }
            }
        }
        let shapes = Shapes::read(capacity)?;
        let mut plan = Self {
            pins: pins.clone(),
            others,
            moves: Vec::new(),
            adopted: Vec::new(),
            unreadable: Vec::new(),
            unknown: Vec::new(),
            loses_flows: false,
        };
        for map in STATE_MAPS {
            let found = plan.find(map, &shapes)?;
            let hashed = if *map == FLOWS { plan.hashed()? } else { Vec::new() };
            plan.decide(map, found, hashed, generation);
        }
        Ok(plan)
    }

    /// Every table of a name, each once, this layout's first.
    fn find(&self, map: &str, shapes: &Shapes) -> Result<Vec<Found>, KernelError> {
        let mut found: Vec<Found> = Vec::new();
        for pins in [&self.pins].into_iter().chain(&self.others) {
            let same = SAME.iter().find(|(version, _)| *version == pins.version());
            let is_same =
                pins.version() == self.pins.version() || same.is_some_and(|(_, maps)| maps.contains(&map));
            for directory in pins.states()? {
                let path = directory.join(map);
                let Some(shape) = shapes.of(map, &path)? else { continue };
                if found.iter().all(|other| other.id != shape.id) {
                    let is_known = is_same && shape.is_kind;
                    let (version, fits) = (pins.version(), is_known && shape.is_size);
                    found.push(Found { path, version, id: shape.id, is_known, fits });
                }
            }
        }
        Ok(found)
    }

    /// Tables of flows of layouts that had them in hash tables.
    fn hashed(&mut self) -> Result<Vec<PathBuf>, KernelError> {
        let mut found = Vec::new();
        for pins in &self.others {
            for directory in pins.states()? {
                for path in
                    hashed::MAPS.map(|map| directory.join(map)).into_iter().filter(|path| path.exists())
                {
                    if hashed::VERSIONS.contains(&pins.version()) && hashed::is_table(&path)? {
                        found.push(path);
                    } else {
                        self.loses_flows = true;
                    }
                }
            }
        }
        Ok(found)
    }

    fn decide(&mut self, map: &'static str, found: Vec<Found>, hashed: Vec<PathBuf>, generation: u32) {
        let place = self.pins.state(map);
        let is_occupied = found.iter().any(|found| found.path == place);
        let (known, unknown): (Vec<_>, Vec<_>) = found.into_iter().partition(|found| found.is_known);
        if !unknown.is_empty() {
            self.unreadable.push(map);
        }
        let unknown = unknown.into_iter().map(|Found { path, version, .. }| Unknown { map, path, version });
        self.unknown.extend(unknown);
        match &known[..] {
            [one] if one.fits && one.path == place && hashed.is_empty() => {}
            // Whatever is in its place can be taken away only when nobody uses it any more.
            [one] if one.fits && !is_occupied && hashed.is_empty() => {
                self.adopted.push((map, one.path.clone()));
            }
            [] if !is_occupied && hashed.is_empty() => {}
            _ => {
                if !CARRIED.contains(&map) && !self.unreadable.contains(&map) {
                    self.unreadable.push(map);
                }
                self.moves.push(Move {
                    map,
                    from: known.into_iter().map(|found| found.path).collect(),
                    hashed,
                    to: self.pins.next_state(generation).join(map),
                });
            }
        }
    }

    /// Whether there is anything to do.
    #[must_use]
    pub fn is_needed(&self) -> bool {
        !(self.others.is_empty() && self.moves.is_empty() && self.adopted.is_empty())
    }

    /// Whether flows are copied.
    #[must_use]
    pub fn is_resized(&self) -> bool {
        self.moves.iter().any(Move::has_flows)
    }

    /// Whether flows were tracked in a way that this agent does not know.
    #[must_use]
    pub fn loses_flows(&self) -> bool {
        self.loses_flows || self.unreadable.contains(&FLOWS)
    }

    /// Tables that are not taken over, by name.
    #[must_use]
    pub fn unreadable(&self) -> &[&'static str] {
        &self.unreadable
    }

    /// Layout versions that are replaced.
    #[must_use]
    pub fn versions(&self) -> Vec<u32> {
        self.others.iter().map(Pins::version).collect()
    }

    /// Pins of replaced layouts, for counters of their generations.
    #[must_use]
    pub fn others(&self) -> &[Pins] {
        &self.others
    }

    /// Links of every layout: what is enforced now.
    ///
    /// # Errors
    /// If the pins cannot be read.
    pub fn links(&self) -> Result<Vec<(String, Hook)>, KernelError> {
        let mut links = self.pins.links()?;
        for other in &self.others {
            links.extend(other.links()?);
        }
        Ok(links)
    }

    /// The pins to build the generation with.
    #[must_use]
    pub fn prepared(&self) -> Pins {
        self.pins.with_prepared(self.moves.iter().map(|planned| (planned.map, planned.to.clone())).collect())
    }

    /// Makes room for the tables.
    ///
    /// # Errors
    /// If bpffs refuses.
    pub fn prepare(&self) -> Result<(), KernelError> {
        for (map, from) in &self.adopted {
            let to = self.pins.state(map);
            let data = MapData::from_pin(from).map_err(refused("opening it", from))?;
            data.pin(&to).map_err(refused("pinning", &to))?;
        }
        for directory in self.moves.iter().filter_map(|planned| planned.to.parent()) {
            fs::create_dir_all(directory).map_err(refused("creating it", directory))?;
        }
        Ok(())
    }

    /// Takes the links of other map ABIs over: the same links, under this map ABI's pins.
    ///
    /// # Errors
    /// If bpffs refuses. Every link is still pinned, here or there.
    pub fn take_links(&self) -> Result<(), KernelError> {
        for other in &self.others {
            for (interface, hook) in other.links()? {
                self.pins.create_links(&interface)?;
                let (from, to) = (other.link(&interface, hook), self.pins.link(&interface, hook));
                // Both are there only if an agent attached beside the other one's; ours is the one to keep.
                if !to.exists() {
                    fs::rename(&from, &to).map_err(refused("taking the link over", &from))?;
                }
            }
        }
        Ok(())
    }

    /// Copies flows into the table to come; where both have one, the later seen stays. Called
    /// once before the hooks change, and once after for those that began in between. How many
    /// there were, and how many of them found no place.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn copy_flows(&self, importer: &mut Importer) -> Result<[usize; 2], KernelError> {
        let mut flows = Vec::new();
        for planned in self.moves.iter().filter(|planned| planned.has_flows()) {
            for from in &planned.from {
                flows.extend(FlowTable::open(from)?.flows().map(|(key, flow)| FlowRecord { key, flow }));
            }
            for from in &planned.hashed {
                hashed::read(from, |record| flows.push(record))?;
            }
        }
        // A smaller table keeps those that were seen last.
        flows.sort_by_key(|record| std::cmp::Reverse(record.flow.last_seen));
        let count = flows.len();
        Ok([count, importer.store(flows)?])
    }

    /// What the old tables still tell of drops. Only when no packet is under way in an old program.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn orphaned_events(&self) -> Result<OrphanedEvents, KernelError> {
        let mut orphaned = OrphanedEvents::default();
        for Move { map, from, .. } in &self.moves {
            from.iter().try_for_each(|path| orphaned.add(map, path))?;
        }
        self.unknown.iter().try_for_each(|unknown| orphaned.count(unknown))?;
        Ok(orphaned)
    }

    /// Puts the tables in their places and removes the old ones. Only when every hook runs the
    /// new generation, and no packet is under way in an old program.
    ///
    /// # Errors
    /// If the kernel refuses; the next start does the rest.
    pub fn finish(self, importer: &mut Importer) -> Result<(), KernelError> {
        self.copy_flows(importer)?;
        for planned in &self.moves {
            let place = self.pins.state(planned.map);
            fs::rename(&planned.to, &place).map_err(refused("giving it its place", &planned.to))?;
        }
        for directory in self.pins.states()? {
            if !directory.ends_with("state") {
                remove(&directory)?;
            }
        }
        self.others.iter().try_for_each(Pins::remove_version)
    }
}

fn refused<E>(what: &str, path: &Path) -> impl FnOnce(E) -> KernelError + use<E>
where
    E: std::error::Error + Send + Sync + 'static,
{
    KernelError::refused(format!("{}: {what}", path.display()))
}
