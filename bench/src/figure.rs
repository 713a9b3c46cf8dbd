//! One measured figure, and all of a run.

use serde::{Deserialize, Serialize};

use crate::machine::Machine;
use crate::stats::{Ratio, Summary};

/// A figure whose middle half of runs is wider than this part of its median is called unreliable.
const MAX_SPREAD: f64 = 0.25;

/// The part of the packets that must be proved to have come where they were measured.
const MIN_PROVED: f64 = 0.98;

/// What a figure is measured in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// ns, for a packet.
    Nanoseconds,
    /// µs.
    Microseconds,
    /// ms.
    Milliseconds,
    /// s.
    Seconds,
    /// Packets a second, for a core.
    PacketsPerSecond,
    /// 10^6 bytes a second.
    Megabytes,
    /// 2^20 bytes of memory.
    Mebibytes,
    /// A count.
    Count,
    /// ns of CPU time for a byte.
    NanosecondsPerByte,
}

impl Unit {
    /// As it is written after a number.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nanoseconds => "ns",
            Self::Microseconds => "µs",
            Self::Milliseconds => "ms",
            Self::Seconds => "s",
            Self::PacketsPerSecond => "packets/s",
            Self::Megabytes => "MB/s",
            Self::Mebibytes => "MiB",
            Self::Count => "",
            Self::NanosecondsPerByte => "ns/byte",
        }
    }
}

/// One figure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// Group, circumstances and name, separated by `/`.
    pub id: String,
    /// What it is, in words.
    pub title: String,
    /// Its unit.
    pub unit: Unit,
    /// Median and spread.
    pub summary: Summary,
    /// Every round's value, so that figures of one run can be paired.
    pub rounds: Vec<f64>,
    /// What it is compared with: another figure's id, and this one's ratio to it.
    pub compared: Vec<(String, Ratio)>,
    /// What proves that the packets came where they were measured.
    pub proof: Option<Proof>,
    /// Why it is not to be relied on.
    pub unreliable: Option<String>,
    /// What else must be known.
    pub note: Option<String>,
}

/// A count of packets, by who received them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Proof {
    /// Whose counter.
    pub counter: String,
    /// What was sent.
    pub sent: u64,
    /// What it counted.
    pub counted: u64,
}

impl Figure {
    /// A figure of these rounds.
    #[must_use]
    pub fn new(id: impl Into<String>, title: impl Into<String>, unit: Unit, rounds: Vec<f64>) -> Self {
        let summary = Summary::of(&rounds);
        let mut figure = Self {
            id: id.into(),
            title: title.into(),
            unit,
            summary,
            rounds,
            compared: Vec::new(),
            proof: None,
            unreliable: None,
            note: None,
        };
        if figure.rounds.len() > 1 && (summary.spread() > MAX_SPREAD || summary.spread().is_nan()) {
            figure
                .doubt(format!("the middle half of its runs spreads over {:.0} %", 100.0 * summary.spread()));
        }
        figure
    }

    /// Says that it is not to be relied on.
    pub fn doubt(&mut self, why: impl Into<String>) {
        let why = why.into();
        self.unreliable = Some(match self.unreliable.take() {
            Some(before) => format!("{before}; {why}"),
            None => why,
        });
    }

    /// Gives the proof that packets came; without enough of them the figure is unreliable.
    #[must_use]
    pub fn proved(mut self, counter: &str, sent: u64, counted: u64) -> Self {
        if (counted as f64) < MIN_PROVED * sent as f64 || counted as f64 > sent as f64 / MIN_PROVED {
            self.doubt(format!("{counter}: {counted} of {sent} packets"));
        }
        self.proof = Some(Proof { counter: counter.to_owned(), sent, counted });
        self
    }

    /// Adds what must be known.
    #[must_use]
    pub fn noted(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }

    /// Its group.
    #[must_use]
    pub fn group(&self) -> &str {
        self.id.split('/').next().unwrap_or_default()
    }
}

/// One run of the benchmark.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// The layout of this structure.
    pub version: u32,
    /// Where it was measured.
    pub machine: Machine,
    /// When it began, RFC 3339.
    pub started: String,
    /// Few and short rounds: good for a look, not for a claim.
    pub quick: bool,
    /// What was measured, in order.
    pub figures: Vec<Figure>,
    /// What could not be measured, and why.
    pub missing: Vec<(String, String)>,
    /// Seconds that each group took.
    pub seconds: Vec<(String, f64)>,
    /// The part of the time in which the hypervisor let the CPUs wait, by group.
    pub stolen: Vec<(String, f64)>,
    /// Figures to be compared.
    #[serde(skip)]
    wanted: Vec<(String, String)>,
}

impl Report {
    /// The version of the layout.
    pub const VERSION: u32 = 1;

    /// An empty one.
    #[must_use]
    pub fn new(machine: Machine, started: String, quick: bool) -> Self {
        let (figures, missing, seconds, stolen, wanted) = Default::default();
        Self { version: Self::VERSION, machine, started, quick, figures, missing, seconds, stolen, wanted }
    }

    /// The figure of that id.
    #[must_use]
    pub fn figure(&self, id: &str) -> Option<&Figure> {
        self.figures.iter().find(|figure| figure.id == id)
    }

    /// Adds a figure, to be compared with others. They may come later.
    pub fn add(&mut self, figure: Figure, baselines: &[&str]) {
        let wanted = baselines.iter().filter(|id| **id != figure.id);
        self.wanted.extend(wanted.map(|id| (figure.id.clone(), (*id).to_owned())));
        self.figures.push(figure);
    }

    /// Works out the ratios that were wanted; of figures that are not there, none.
    pub fn compare(&mut self) {
        for (id, over) in std::mem::take(&mut self.wanted) {
            let Some(ratio) = self.ratio(&id, &over) else { continue };
            if let Some(figure) = self.figures.iter_mut().find(|figure| figure.id == id) {
                figure.compared.push((over, ratio));
            }
        }
    }

    /// Round by round, one figure over another. None if one is not there.
    #[must_use]
    pub fn ratio(&self, id: &str, over: &str) -> Option<Ratio> {
        Some(Ratio::paired(&self.figure(id)?.rounds, &self.figure(over)?.rounds))
    }

    /// Notes what could not be measured.
    pub fn miss(&mut self, id: impl Into<String>, why: impl Into<String>) {
        self.missing.push((id.into(), why.into()));
    }
}

#[cfg(test)]
mod tests {
    use super::{Figure, Unit};

    #[test]
    fn scattered_runs_and_missing_packets_are_called_unreliable() {
        let figure = Figure::new("a/b", "", Unit::Nanoseconds, vec![10.0, 10.1, 10.2, 9.9]);
        assert_eq!(figure.unreliable, None);
        assert_eq!(figure.clone().proved("c", 100, 99).unreliable, None);
        let lost = figure.proved("c", 100, 50).unreliable.unwrap_or_default();
        assert!(lost.contains("50 of 100"), "{lost}");
        let wide = Figure::new("a/b", "", Unit::Nanoseconds, vec![10.0, 20.0, 30.0, 40.0]);
        assert!(wide.unreliable.is_some());
    }
}
