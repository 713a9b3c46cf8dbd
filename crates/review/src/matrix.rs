//! Who talks to whom, small enough for a table.

use std::collections::{BTreeMap, BTreeSet};

use bulkhead_history::answer::Question;
use bulkhead_history::{End, Used, Verdict};
use bulkhead_policy::inventory::{Inventory, Owner};
use bulkhead_policy::least::Party;
use bulkhead_policy::service::{has_ports, name_of};

use crate::pack::{Cell, Grouping, Matrix, Source};
use crate::usage::known;

/// Rows, and columns, that a table has at most.
const MOST: usize = 16;

/// Ports that a cell names.
const PORTS: usize = 6;

/// Ends that are not known.
const UNKNOWN: &str = "not known";

/// Those who did not fit.
const OTHERS: &str = "others";

/// What is seen between two.
#[derive(Default)]
struct Between {
    counts: [u64; 4],
    ports: BTreeSet<(String, u16)>,
}

type Table = BTreeMap<(String, String), Between>;

/// Puts rows of histories into a table: by node, by tag if nodes are too many, and the busiest if tags are, too.
pub(crate) fn matrix(question: &Question, source: Source) -> Matrix {
    let (known_since, missing_days) = known(question);
    let rows: Vec<&Used> =
        question.hosts.iter().flat_map(|host| &host.used).filter(|used| place(used).is_some()).collect();
    let Some(inventory) = &question.loaded.inventory else {
        return Matrix { source, known_since, missing_days, ..Matrix::default() };
    };
    let mut by = Grouping::Node;
    let mut table = fill(&rows, |end| title(end, inventory));
    if size(&table) > MOST {
        by = Grouping::Tag;
        table = fill(&rows, |end| group(end, inventory));
        if size(&table) > MOST {
            table = busiest(table);
        }
    }
    let sources: Vec<String> = names(&table, |(source, _)| source);
    let destinations: Vec<String> = names(&table, |(_, destination)| destination);
    let cells = table.into_iter().filter_map(|((source, destination), between)| {
        Some(cell(
            sources.binary_search(&source).ok()?,
            destinations.binary_search(&destination).ok()?,
            between,
        ))
    });
    let cells = cells.collect();
    Matrix { source, known_since, missing_days, by, sources, destinations, cells }
}

fn cell(source: usize, destination: usize, Between { counts, ports }: Between) -> Cell {
    let [admitted, audited, dropped, would_drop] = counts;
    let more_ports = ports.len().saturating_sub(PORTS);
    let ports = ports.into_iter().take(PORTS);
    let ports = ports.map(|(protocol, port)| if port == 0 { protocol } else { format!("{port}/{protocol}") });
    Cell { source, destination, admitted, audited, dropped, would_drop, ports: ports.collect(), more_ports }
}

/// Where a row counts; none: what a staged policy would do has not happened.
const fn place(used: &Used) -> Option<usize> {
    match used.what.verdict {
        Verdict::Allowed => Some(0),
        Verdict::Audited => Some(1),
        Verdict::Dropped => Some(2),
        Verdict::WouldDrop => Some(3),
        Verdict::StagedDrops | Verdict::StagedPasses => None,
    }
}

fn fill(rows: &[&Used], name: impl Fn(&End) -> String) -> Table {
    let mut table = Table::new();
    for used in rows {
        let Some(place) = place(used) else { continue };
        let key = (name(&used.what.source), name(&used.what.destination));
        let between = table.entry(key).or_default();
        between.counts[place] = between.counts[place].saturating_add(used.count);
        // What was dropped says which ports were tried, not which are used.
        if place < 2 && used.what.protocol != 0 {
            let port = if has_ports(used.what.protocol) { used.what.port } else { 0 };
            between.ports.insert((name_of(used.what.protocol), port));
        }
    }
    table
}

fn names(table: &Table, side: impl Fn(&(String, String)) -> &String) -> Vec<String> {
    let all: BTreeSet<&String> = table.keys().map(side).collect();
    all.into_iter().cloned().collect()
}

fn size(table: &Table) -> usize {
    let sources: BTreeSet<&String> = table.keys().map(|(source, _)| source).collect();
    let destinations: BTreeSet<&String> = table.keys().map(|(_, destination)| destination).collect();
    sources.len().max(destinations.len())
}

/// Those with most, and all others as one.
fn busiest(table: Table) -> Table {
    let weight = |of: fn(&(String, String)) -> &String| {
        let mut sums: BTreeMap<&String, u64> = BTreeMap::new();
        for (key, between) in &table {
            let sum = sums.entry(of(key)).or_default();
            *sum = between.counts.iter().fold(*sum, |sum, count| sum.saturating_add(*count));
        }
        let mut sums: Vec<_> = sums.into_iter().collect();
        sums.sort_by_key(|(_, sum)| std::cmp::Reverse(*sum));
        sums.into_iter().take(MOST - 1).map(|(name, _)| name.clone()).collect::<BTreeSet<String>>()
    };
    let (sources, destinations) = (weight(|(source, _)| source), weight(|(_, destination)| destination));
    let mut summed = Table::new();
    for ((source, destination), between) in table {
        let kept =
            |name: String, of: &BTreeSet<String>| if of.contains(&name) { name } else { OTHERS.to_owned() };
        let all = summed.entry((kept(source, &sources), kept(destination, &destinations))).or_default();
        (0..4).for_each(|at| all.counts[at] = all.counts[at].saturating_add(between.counts[at]));
        all.ports.extend(between.ports);
    }
    summed
}

fn party(end: &End, inventory: &Inventory) -> Option<Party> {
    Some(Party::of(inventory, end.name.as_deref(), end.address?))
}

fn title(end: &End, inventory: &Inventory) -> String {
    match (party(end, inventory), &end.name) {
        // It is in the inventory no more.
        (Some(Party::Address(_)), Some(name)) => name.clone(),
        (Some(party), _) => party.title(inventory),
        (None, _) => UNKNOWN.to_owned(),
    }
}

fn group(end: &End, inventory: &Inventory) -> String {
    let node = match party(end, inventory) {
        Some(Party::Node(index)) => inventory.nodes.get(index as usize),
        Some(Party::Address(_)) if end.name.is_some() => return "nodes that are gone".to_owned(),
        Some(Party::Address(_)) => return "addresses of no node".to_owned(),
        None => return UNKNOWN.to_owned(),
    };
    match node.map(|node| &node.owner) {
        Some(Owner::Tags(tags)) if !tags.is_empty() => tags.join(" "),
        Some(Owner::User(login)) => login.clone(),
        _ => "nodes of nobody".to_owned(),
    }
}
