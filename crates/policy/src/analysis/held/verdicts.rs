//! Pairs of classes, ports, cells, deadlines and rate limits: what each changed entry decides.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bulkhead_abi::{Cell, Direction, MAX_EXPIRY_CHAIN, Pair, RateLimit};
use bulkhead_engine::memory::Memory;
use bulkhead_engine::{Environment as _, Judgement, judge};

use super::names::Names;
use super::{Comparison, Difference, Sides, changed, ends, ports};

/// A table, and the number of an entry.
type Entry = (&'static str, u32);

const PAIRS: &str = "PAIRS";
const PORTS: &str = "PORTS";
const CELLS: &str = "CELLS";
const DEADLINES: &str = "DEADLINES";
const LIMITS: &str = "LIMITS";

/// What one changed entry decides otherwise.
struct Finding {
    /// The first pair of classes, by its entry, and how many there are.
    pair: u32,
    pairs: u64,
    /// Groups of ports.
    ports: Vec<usize>,
    expected: Judgement,
    found: Judgement,
    /// The rate limit is of the same number and says something else.
    is_limit: bool,
}

/// Entries of pairs that hold the same words on both sides.
struct PairGroup {
    words: (Pair, Pair),
    first: u32,
    count: u64,
    /// All of them, if the words differ.
    changed: Vec<u32>,
}

/// Ports likewise.
struct PortGroup {
    classes: (u32, u32),
    points: Vec<u32>,
}

/// Compares them and tells of the first `most` differences.
pub(super) fn compare(sides: &mut Sides, names: &Names, most: usize, out: &mut Comparison) {
    let changed = all_changed(sides);
    if changed.is_empty() {
        return;
    }
    let (pairs, points) = (pair_groups(sides), port_groups(sides));
    let mut findings: BTreeMap<Entry, Finding> = BTreeMap::new();
    for pair in &pairs {
        for (group, ports) in points.iter().enumerate() {
            let Some((expected, found, is_limit)) = decide(sides, pair, ports) else { continue };
            for (entry, first, count) in touched(sides, &changed, pair, ports) {
                let finding = findings.entry(entry).or_insert(Finding {
                    pair: first,
                    pairs: 0,
                    ports: Vec::new(),
                    expected,
                    found,
                    is_limit,
                });
                if finding.ports.last() != Some(&group) {
                    finding.ports.push(group);
                }
                finding.pairs = finding.pairs.max(count);
            }
        }
    }
    let known = findings.len();
    for (entry, finding) in findings.into_iter().take(most) {
        out.differences.push(difference(sides, names, &points, entry, finding));
    }
    out.omitted += known.saturating_sub(most) as u64;
    out.meaningless += (changed.len() - known) as u64;
}

fn all_changed(sides: &Sides) -> BTreeSet<Entry> {
    let (expected, held) = (sides.expected.tables, sides.held.tables);
    let mut all = BTreeSet::new();
    let mut add = |table: &'static str, entries: Vec<u32>| {
        all.extend(entries.into_iter().map(|entry| (table, entry)));
    };
    add(PAIRS, changed(expected.pairs.as_flattened(), held.pairs.as_flattened()));
    add(PORTS, changed(expected.ports.as_flattened(), held.ports.as_flattened()));
    add(CELLS, changed(&expected.cells, &held.cells));
    add(DEADLINES, changed(&expected.deadlines, &held.deadlines));
    add(LIMITS, changed(&expected.limits, &held.limits));
    all
}

fn pair_groups(sides: &Sides) -> Vec<PairGroup> {
    let tables = sides.expected.tables;
    let mut groups: HashMap<(u32, u32), PairGroup> = HashMap::new();
    for index in 0..2 * tables.locals * tables.remotes {
        // What is not there stands for a row that is not there.
        let missing = Pair(u32::MAX);
        let words =
            (sides.expected.pair(index).unwrap_or(missing), sides.held.pair(index).unwrap_or(missing));
        let group = groups.entry((words.0.0, words.1.0)).or_insert(PairGroup {
            words,
            first: index,
            count: 0,
            changed: Vec::new(),
        });
        group.count += 1;
        // Somebody who is known says more than nobody.
        if group.first.is_multiple_of(tables.remotes) {
            group.first = index;
        }
        if words.0 != words.1 {
            group.changed.push(index);
        }
    }
    let mut groups: Vec<_> = groups.into_values().collect();
    groups.sort_unstable_by_key(|group| group.first);
    groups
}

fn port_groups(sides: &Sides) -> Vec<PortGroup> {
    let mut groups: HashMap<(u32, u32), PortGroup> = HashMap::new();
    for point in ports::points() {
        let class = |memory: &Memory| memory.port_class(point).unwrap_or(u32::MAX);
        let classes = (class(&sides.expected), class(&sides.held));
        groups.entry(classes).or_insert(PortGroup { classes, points: Vec::new() }).points.push(point);
    }
    let mut groups: Vec<_> = groups.into_values().collect();
    groups.sort_unstable_by_key(|group| group.points[0]);
    groups
}

/// The direction and the classes of an entry of the table of pairs.
fn classes(sides: &Sides, index: u32) -> (Direction, u32, u32) {
    let (locals, remotes) = (sides.expected.tables.locals, sides.expected.tables.remotes);
    let (row, remote) = (index / remotes, index % remotes);
    (Direction::of_index(row / locals), row % locals + 1, remote)
}

fn cell(memory: &Memory, pair: Pair, class: u32) -> Option<Cell> {
    memory.cell(pair.row().checked_add(class)?)
}

/// What both sides say of a pair and a port, at the first moment at which that is not the same.
fn decide(sides: &mut Sides, pair: &PairGroup, ports: &PortGroup) -> Option<(Judgement, Judgement, bool)> {
    let expected = cell(&sides.expected, pair.words.0, ports.classes.0);
    let held = cell(&sides.held, pair.words.1, ports.classes.1);
    let expires = |cell: Option<Cell>| cell.is_some_and(|cell| cell.deadline != 0);
    let limit = |memory: &Memory, cell: Option<Cell>| memory.limit(u32::from(cell?.limit));
    let is_alike = pair.words.0 == pair.words.1 && expected == held && !expires(expected);
    if is_alike && limit(&sides.expected, expected) == limit(&sides.held, held) {
        return None;
    }
    let mut moments = BTreeSet::from([0]);
    if expires(expected) || expires(held) {
        let all = sides.expected.tables.deadlines.iter().chain(&sides.held.tables.deadlines);
        moments.extend(all.flat_map(|deadline| [deadline.saturating_sub(1), *deadline]));
    }
    let (direction, local, remote) = classes(sides, pair.first);
    let (protocol, port) = ports::protocol_of(ports.points[0])?;
    moments.into_iter().find_map(|moment| {
        let at = |memory: &mut Memory| {
            memory.settings.fixed_clock = moment;
            let judgement = judge(&*memory, direction, [local, remote], protocol, port);
            let limit: Option<RateLimit> = memory.limit(u32::from(judgement.limit));
            (judgement, limit)
        };
        let (should, is) = (at(&mut sides.expected), at(&mut sides.held));
        (should != is).then_some((should.0, is.0, should.0 == is.0))
    })
}

/// The changed entries that a look-up of a pair and a port meets on either side, each with the pair that it is told
/// by and how many there are.
fn touched(
    sides: &Sides,
    changed: &BTreeSet<Entry>,
    pair: &PairGroup,
    ports: &PortGroup,
) -> BTreeSet<(Entry, u32, u64)> {
    let mut met: BTreeSet<(Entry, u32, u64)> =
        pair.changed.iter().map(|index| ((PAIRS, *index), *index, 1)).collect();
    if ports.classes.0 != ports.classes.1 {
        met.extend(ports.points.iter().map(|point| ((PORTS, *point), pair.first, pair.count)));
    }
    for (memory, word, class) in
        [(&sides.expected, pair.words.0, ports.classes.0), (&sides.held, pair.words.1, ports.classes.1)]
    {
        let mut at = word.row().checked_add(class);
        for _ in 0..=MAX_EXPIRY_CHAIN {
            let Some((index, cell)) = at.and_then(|index| Some((index, memory.cell(index)?))) else { break };
            let entries =
                [(CELLS, index), (DEADLINES, u32::from(cell.deadline)), (LIMITS, u32::from(cell.limit))];
            let entries = entries.into_iter().filter(|entry| changed.contains(entry));
            met.extend(entries.map(|entry| (entry, pair.first, pair.count)));
            at = (cell.deadline != 0).then_some(cell.next);
        }
    }
    met
}

fn difference(
    sides: &Sides,
    names: &Names,
    groups: &[PortGroup],
    (table, entry): Entry,
    finding: Finding,
) -> Difference {
    let (direction, local, remote) = classes(sides, finding.pair);
    let (source, destination) = ends(direction, names.local(local), names.remote(remote));
    let points = if table == PORTS {
        vec![entry]
    } else {
        let mut points: Vec<u32> =
            finding.ports.iter().flat_map(|group| groups[*group].points.iter().copied()).collect();
        points.sort_unstable();
        points
    };
    let [mut expected, mut found] = [finding.expected, finding.found].map(|side| names.judgement(&side));
    if finding.expected.opposite != finding.found.opposite {
        let replies = |side: &Judgement| if side.opposite { ", or a reply" } else { ", and no reply" };
        expected.push_str(replies(&finding.expected));
        found.push_str(replies(&finding.found));
    }
    if finding.is_limit {
        expected.push_str(", as the policy has it");
        found.push_str(", of other rates");
    }
    Difference {
        table: table.to_owned(),
        entry: entry.to_string(),
        direction: Some(direction.name().to_owned()),
        source: Some(source),
        destination: Some(destination),
        port: Some(ports::text(&points)),
        others: finding.pairs.saturating_sub(1),
        expected,
        found,
    }
}
