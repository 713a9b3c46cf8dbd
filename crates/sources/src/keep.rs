//! What is kept of a source: its last answer that was believed.

use std::sync::Arc;
use std::time::Duration;

use bulkhead_policy::inventory::Inventory;

/// How long nodes count that are gone.
const WINDOW: Duration = Duration::from_secs(60 * 60);

/// Why an answer is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is nobody in it.
    #[error("it lists nobody, after {before} nodes")]
    Empty {
        /// Nodes before.
        before: usize,
    },
    /// Too many are gone.
    #[error("{lost} of {before} nodes are gone within an hour, more than {percent} %")]
    Shrunk {
        /// Nodes that are gone.
        lost: usize,
        /// Nodes before.
        before: usize,
        /// What may be gone.
        percent: u8,
    },
}

/// The last answer that was believed.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    /// Who existed then; none: there was no answer yet.
    pub answer: Option<Arc<Inventory>>,
    /// Names of the nodes that were there when the window began, and that time, since the Unix epoch.
    pub window: Option<(Vec<String>, Duration)>,
}

impl Kept {
    /// What an earlier agent believed.
    #[must_use]
    pub fn new(answer: Option<Inventory>, window: Option<(Vec<String>, Duration)>) -> Self {
        Self { answer: answer.map(Arc::new), window }
    }

    /// Takes an answer at a time; whether it is another one than before. A single node may always go.
    ///
    /// # Errors
    /// If it lists nobody, or has lost more than `percent` of the nodes that were there within the last hour.
    pub fn take(&mut self, answer: Inventory, percent: u8, now: Duration) -> Result<bool, Refusal> {
        let Some(before) = &self.answer else { return Ok(self.believe(answer)) };
        let is_over = |began: &Duration| now.saturating_sub(*began) >= WINDOW;
        if self.window.as_ref().is_none_or(|(_, began)| is_over(began)) {
            self.window = Some((before.nodes.iter().map(|node| node.name.clone()).collect(), now));
        }
        let there = self.window.as_ref().map_or(&[][..], |(names, _)| names);
        let before = there.len();
        if answer.nodes.is_empty() && before != 0 {
            return Err(Refusal::Empty { before });
        }
        let lost = there.iter().filter(|name| answer.node(name).is_none()).count();
        if lost > 1 && lost * 100 > before * usize::from(percent) {
            return Err(Refusal::Shrunk { lost, before, percent });
        }
        Ok(self.believe(answer))
    }

    /// Believes an answer whatever it lacks: somebody has said that it is right.
    pub fn believe(&mut self, answer: Inventory) -> bool {
        let is_new = self.answer.as_ref().is_none_or(|before| before.source.text() != answer.source.text());
        self.answer = Some(Arc::new(answer));
        is_new
    }

    /// Forgets who was there: what is answered next is compared with the answer that is believed now.
    pub fn begin_window(&mut self) {
        self.window = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inventory(count: usize) -> Inventory {
        let nodes: Vec<_> = (0..count)
            .map(|number| {
                format!(r#"{{"name": "n{number}", "addresses": ["10.0.{}.{}"]}}"#, number / 256, number % 256)
            })
            .collect();
        crate::checked("test", &format!(r#"{{"nodes": [{}]}}"#, nodes.join(","))).unwrap()
    }

    const NOW: Duration = Duration::from_secs(1000);

    #[test]
    fn an_answer_that_has_lost_too_many_is_not_believed() {
        let mut kept = Kept::default();
        assert_eq!(kept.take(inventory(0), 20, NOW), Ok(true), "the first may be anything");
        assert_eq!(kept.take(inventory(100), 20, NOW), Ok(true));
        kept.begin_window();
        assert_eq!(kept.take(inventory(100), 20, NOW), Ok(false));
        assert_eq!(kept.take(inventory(0), 20, NOW), Err(Refusal::Empty { before: 100 }));
        let shrunk = Err(Refusal::Shrunk { lost: 21, before: 100, percent: 20 });
        assert_eq!(kept.take(inventory(79), 20, NOW), shrunk);
        assert_eq!(kept.answer.as_ref().unwrap().nodes.len(), 100);
        assert_eq!(kept.take(inventory(80), 20, NOW), Ok(true));
        // Bit by bit is no other thing than at once.
        assert_eq!(kept.take(inventory(79), 20, NOW + WINDOW / 2), shrunk);
        assert_eq!(kept.take(inventory(79), 20, NOW + WINDOW), Ok(true));
    }

    #[test]
    fn a_single_node_may_always_go_and_the_last_one_may_not() {
        let mut kept = Kept::new(Some(inventory(2)), None);
        assert_eq!(kept.take(inventory(1), 20, NOW), Ok(true));
        assert_eq!(kept.take(inventory(0), 20, NOW), Err(Refusal::Empty { before: 2 }));
    }
}
