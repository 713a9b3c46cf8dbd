//! Tells of alarms, and keeps which are on: first the event log has them, then the file.
//!
//! A kill in between tells one once more and loses none: what the file does not have on is raised again by its cause,
//! and what it still has on ends once more.

use bulkhead_api::event::Alarm;

use super::{Active, Alarms};

/// Where alarms are told and kept.
pub trait Outside {
    /// Publishes an alarm.
    fn publish(&mut self, alarm: Alarm);

    /// Whether the event log has done with all that was published; waits a little for it.
    fn is_logged(&mut self) -> bool;

    /// Keeps which are on.
    ///
    /// # Errors
    /// If the disk refuses.
    fn save(&mut self, active: &[Active]) -> anyhow::Result<()>;
}

/// What was told, and what is kept of it.
pub struct Telling {
    /// What is on, as the file has it.
    saved: Vec<Active>,
    /// The refusal that was told last: it is told once.
    refusal: Option<String>,
}

impl Telling {
    /// After an earlier agent, which has left these on.
    pub fn new(saved: Vec<Active>) -> Self {
        Self { saved, refusal: None }
    }

    /// Tells of what is new, and keeps what is on once that is in the log. What does not get there now is kept later.
    pub fn tell(&mut self, alarms: &Alarms, outside: &mut impl Outside) {
        let (told, active) = alarms.take();
        told.into_iter().for_each(|alarm| outside.publish(alarm));
        if active == self.saved || !outside.is_logged() {
            return;
        }
        match outside.save(&active) {
            Ok(()) => (self.saved, self.refusal) = (active, None),
            Err(error) => {
                let words = format!("keeping which alarms are on; it is tried again: {error:#}");
                if self.refusal.as_ref() != Some(&words) {
                    tracing::error!("{words}");
                    self.refusal = Some(words);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bulkhead_api::event::{Alarm, AlarmState};

    use super::super::found::{Cause, Found};
    use super::super::{Active, Alarms};
    use super::{Outside, Telling};
    use crate::config;

    /// An event log and a file, which a kill leaves as they are.
    #[derive(Default)]
    struct Disk {
        /// Published, and not in the log yet.
        on_the_way: Vec<AlarmState>,
        log: Vec<AlarmState>,
        file: Vec<Active>,
        /// Steps that are left before the agent is killed: whatever comes later changes nothing.
        steps: usize,
        log_hangs: bool,
    }

    impl Disk {
        fn step(&mut self) -> bool {
            let goes_on = self.steps != 0;
            self.steps = self.steps.saturating_sub(1);
            goes_on
        }
    }

    impl Outside for Disk {
        fn publish(&mut self, alarm: Alarm) {
            if self.step() {
                self.on_the_way.push(alarm.state);
            }
        }

        fn is_logged(&mut self) -> bool {
            if self.log_hangs || !self.step() {
                return false;
            }
            self.log.append(&mut self.on_the_way);
            true
        }

        fn save(&mut self, active: &[Active]) -> anyhow::Result<()> {
            anyhow::ensure!(self.step(), "killed");
            self.file = active.to_vec();
            Ok(())
        }
    }

    fn found() -> Found {
        Found::plain(Cause::QuarantineWithheld { node: "a".to_owned() }, "words".to_owned())
    }

    /// An agent that looks, and is killed after so many steps; `change` is what it finds.
    fn run(disk: &mut Disk, steps: usize, change: fn(&Alarms)) {
        disk.steps = steps;
        let alarms = Alarms::new(&config::Alarms::default());
        alarms.take_up(disk.file.clone());
        let mut telling = Telling::new(alarms.active());
        change(&alarms);
        (0..2).for_each(|_| telling.tell(&alarms, disk));
        disk.on_the_way.clear();
    }

    fn count(disk: &Disk, state: AlarmState) -> usize {
        disk.log.iter().filter(|told| **told == state).count()
    }

    #[test]
    fn a_kill_at_any_step_tells_an_alarm_and_its_end_once_more_at_most_and_loses_neither() {
        let mut twice = 0;
        for killed_at in 0..=3 {
            let mut disk = Disk::default();
            run(&mut disk, killed_at, |alarms| _ = alarms.raise(&found()));
            // Its cause goes on.
            run(&mut disk, usize::MAX, |alarms| _ = alarms.raise(&found()));
            let raised = count(&disk, AlarmState::Raised);
            assert!((1..=2).contains(&raised), "killed after {killed_at} steps: raised {raised} times");
            twice += usize::from(raised == 2);
            assert_eq!(disk.file.len(), 1);

            run(&mut disk, killed_at, |alarms| alarms.end(&found()));
            // It is over by then, and the next agent finds that it is.
            run(&mut disk, usize::MAX, |alarms| alarms.end(&found()));
            let ended = count(&disk, AlarmState::Ended);
            assert!((1..=2).contains(&ended), "killed after {killed_at} steps: ended {ended} times");
            twice += usize::from(ended == 2);
            assert_eq!((disk.file.len(), count(&disk, AlarmState::Raised)), (0, raised));
        }
        assert_eq!(twice, 2, "only between the log and the file");
    }

    #[test]
    fn the_file_waits_for_a_log_that_hangs() {
        let mut disk = Disk { steps: usize::MAX, log_hangs: true, ..Disk::default() };
        let alarms = Alarms::new(&config::Alarms::default());
        let mut telling = Telling::new(Vec::new());
        alarms.raise(&found());
        telling.tell(&alarms, &mut disk);
        assert_eq!((disk.file.len(), disk.log.len()), (0, 0));
        disk.log_hangs = false;
        telling.tell(&alarms, &mut disk);
        assert_eq!((disk.file.len(), disk.log.len()), (1, 1));
    }
}
