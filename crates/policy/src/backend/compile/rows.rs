//! Matching rules → rows of cells, each distinct one once.

use std::collections::{BTreeMap, HashMap};

use bulkhead_abi::{CELL_ALLOW, CELL_ONE_WAY, CELL_REJECT, Cell, MAX_EXPIRY_CHAIN};

use super::error::CompileError;
use crate::bits::Bits;

/// A rule's services between one local class and the remote selectors that it names.
pub(super) struct Lane {
    /// The rule's number in the policy.
    pub(super) number: u32,
    /// Its cell, without its expiry.
    pub(super) cell: Cell,
    pub(super) expires: Option<u64>,
    /// The port classes it decides.
    pub(super) ports: Vec<u32>,
}

/// All rows of one node.
pub(super) struct Rows {
    port_classes: usize,
    /// The cell of what no rule decides, between this node and somebody who is known.
    none: Cell,
    budget: u64,
    rows: Vec<Vec<Cell>>,
    known: HashMap<Vec<Cell>, u32>,
    /// Cells that decide after another's expiry. Their indices count from 0 until [`Self::finish`].
    later: Vec<Cell>,
    known_later: HashMap<Cell, u32>,
    /// Whether a cell of `later` starts flows, itself or through the ones after it.
    later_admits: Vec<bool>,
    admits: Vec<bool>,
    deadlines: Vec<u64>,
    known_deadlines: HashMap<u64, u16>,
}

impl Rows {
    /// No rows but row 0, which admits nothing.
    pub(super) fn new(port_classes: usize, none: Cell, budget: u64) -> Self {
        let mut rows = Self {
            port_classes,
            none,
            budget,
            rows: Vec::new(),
            known: HashMap::new(),
            later: Vec::new(),
            known_later: HashMap::new(),
            later_admits: Vec::new(),
            admits: Vec::new(),
            deadlines: vec![0],
            known_deadlines: HashMap::new(),
        };
        let nothing = vec![Cell::NONE; port_classes];
        rows.known.insert(nothing.clone(), 0);
        rows.rows.push(nothing);
        rows.admits.push(false);
        rows
    }

    /// The row of the lanes that match, in order, between classes that are gone after `deadline`; `is_known`: the
    /// remote one is in the inventory.
    pub(super) fn row(
        &mut self,
        lanes: &[Lane],
        matching: &Bits,
        deadline: Option<u64>,
        is_known: bool,
    ) -> Result<u32, CompileError> {
        let none = self.none(deadline, is_known)?;
        let mut cells = vec![none; self.port_classes];
        let mut open = Bits::new(self.port_classes);
        let mut left = self.port_classes;
        (0..left).for_each(|port| open.insert(port));
        // Lanes that decide a port class for now, until the next one does.
        let mut waiting: BTreeMap<usize, Vec<&Lane>> = BTreeMap::new();
        for lane in matching.iter().map(|index| &lanes[index]) {
            if left == 0 {
                break;
            }
            let until = lane.expires.filter(|time| deadline.is_none_or(|deadline| *time < deadline));
            for port in lane.ports.iter().map(|port| *port as usize) {
                if !open.contains(port) {
                    continue;
                }
                if until.is_some() {
                    let before = waiting.entry(port).or_default();
                    // One that expires no later than those before it never decides.
                    if before.last().is_none_or(|last| last.expires < until) {
                        before.push(lane);
                    }
                    continue;
                }
                open.remove(port);
                left -= 1;
                let last = self.cell(lane, deadline, Cell::NONE, is_known)?;
                cells[port] = self.chain(&waiting.remove(&port).unwrap_or_default(), last, is_known)?;
            }
        }
        for (port, lanes) in waiting {
            cells[port] = self.chain(&lanes, none, is_known)?;
        }
        self.intern(cells)
    }

    /// The cell of what no rule decides.
    fn none(&mut self, deadline: Option<u64>, is_known: bool) -> Result<Cell, CompileError> {
        match deadline {
            _ if !is_known || self.none == Cell::NONE => Ok(Cell::NONE),
            None => Ok(self.none),
            // Who is gone is not known any more.
            Some(deadline) => {
                let deadline = self.deadline(deadline)?;
                Ok(Cell { deadline, next: self.later(Cell::NONE), ..self.none })
            }
        }
    }

    fn chain(&mut self, lanes: &[&Lane], last: Cell, is_known: bool) -> Result<Cell, CompileError> {
        let expiring = lanes.len() as u32 + u32::from(last.deadline != 0);
        if expiring > MAX_EXPIRY_CHAIN {
            let rule = format!("rule {}", lanes[0].number);
            return Err(CompileError::ExpiryChain { rule, limit: MAX_EXPIRY_CHAIN });
        }
        lanes.iter().rev().try_fold(last, |after, lane| self.cell(lane, lane.expires, after, is_known))
    }

    fn cell(
        &mut self,
        lane: &Lane,
        deadline: Option<u64>,
        after: Cell,
        is_known: bool,
    ) -> Result<Cell, CompileError> {
        let mut cell = lane.cell;
        // Nobody tells strangers anything.
        cell.flags &= if is_known { u8::MAX } else { !CELL_REJECT };
        let Some(deadline) = deadline else { return Ok(cell) };
        let deadline = self.deadline(deadline)?;
        Ok(Cell { deadline, next: self.later(after), ..cell })
    }

    fn deadline(&mut self, time: u64) -> Result<u16, CompileError> {
        if let Some(index) = self.known_deadlines.get(&time) {
            return Ok(*index);
        }
        let index = u16::try_from(self.deadlines.len()).map_err(|_| CompileError::TooMany {
            what: "expiry times",
            count: self.deadlines.len() as u64,
            limit: u16::MAX.into(),
        })?;
        self.deadlines.push(time);
        self.known_deadlines.insert(time, index);
        Ok(index)
    }

    fn later(&mut self, cell: Cell) -> u32 {
        if let Some(index) = self.known_later.get(&cell) {
            return *index;
        }
        let index = self.later.len() as u32;
        self.later_admits.push(self.reaches_allow(&cell));
        self.later.push(cell);
        self.known_later.insert(cell, index);
        index
    }

    /// Whether it starts flows, now or after an expiry: what is one-way has no reply.
    fn reaches_allow(&self, cell: &Cell) -> bool {
        (cell.action == CELL_ALLOW && cell.flags & CELL_ONE_WAY == 0)
            || (cell.deadline != 0 && self.later_admits[cell.next as usize])
    }

    fn intern(&mut self, cells: Vec<Cell>) -> Result<u32, CompileError> {
        if let Some(row) = self.known.get(&cells) {
            return Ok(*row);
        }
        let bytes = (self.rows.len() as u64 + 1) * (self.port_classes as u64) * size_of::<Cell>() as u64;
        if bytes > self.budget {
            let detail = format!("more than {} rows of {} cells", self.rows.len(), self.port_classes);
            return Err(CompileError::Budget { what: "the rows", detail, budget: self.budget });
        }
        let row = self.rows.len() as u32;
        self.admits.push(cells.iter().any(|cell| self.reaches_allow(cell)));
        self.known.insert(cells.clone(), row);
        self.rows.push(cells);
        Ok(row)
    }

    /// Whether a row admits anything that has replies, now or after an expiry.
    pub(super) fn admits(&self, row: u32) -> bool {
        self.admits[row as usize]
    }

    /// Distinct rows.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The index of a row's first cell.
    pub(super) fn first_cell(&self, row: u32) -> u32 {
        row * self.port_classes as u32
    }

    /// The cells and the deadlines.
    pub(super) fn finish(self) -> (Vec<Cell>, Vec<u64>) {
        let base = (self.rows.len() * self.port_classes) as u32;
        let place = |cell: Cell| match cell.deadline {
            0 => cell,
            _ => Cell { next: base + cell.next, ..cell },
        };
        let cells = self.rows.into_iter().flatten().chain(self.later).map(place).collect();
        (cells, self.deadlines)
    }
}
