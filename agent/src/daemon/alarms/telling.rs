//! Tells of alarms, and keeps which are on: first the file has what is to be told, then the event log has it, and then
//! the file no longer does.
//!
//! A kill in between tells one once more, with the same `since`, and loses none: neither an alarm nor its end.

use bulkhead_api::event::Alarm;
use serde::{Deserialize, Serialize};

use super::{Active, Alarms};

/// What the state directory keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remembered {
    /// Which are on.
    pub on: Vec<Active>,
    /// What was told, or was to be, and may not be in the event log.
    pub untold: Vec<Alarm>,
}

/// Where alarms are told and kept.
pub trait Outside {
    /// Publishes an alarm.
    fn publish(&mut self, alarm: Alarm);

    /// Whether the event log has done with all that was published; waits a little for it.
    fn is_logged(&mut self) -> bool;

    /// Keeps which are on, and what may not be in the log.
    ///
    /// # Errors
    /// If the disk refuses.
    fn save(&mut self, remembered: &Remembered) -> anyhow::Result<()>;
}

/// What was told, and what is kept of it.
#[derive(Default)]
pub struct Telling {
    /// As this agent has written the file.
    saved: Remembered,
    /// What the log may not have.
    untold: Vec<Alarm>,
    /// The refusal that was told last: it is told once.
    refusal: Option<String>,
}

impl Telling {
    /// Tells of what is new. What does not get into the log or the file now gets there later.
    pub fn tell(&mut self, alarms: &Alarms, outside: &mut impl Outside) {
        let (told, on) = alarms.take();
        self.untold.extend(told.iter().cloned());
        self.save(&on, outside);
        told.into_iter().for_each(|alarm| outside.publish(alarm));
        if !self.untold.is_empty() && outside.is_logged() {
            self.untold.clear();
            self.save(&on, outside);
        }
    }

    fn save(&mut self, on: &[Active], outside: &mut impl Outside) {
        let remembered = Remembered { on: on.to_vec(), untold: self.untold.clone() };
        if remembered == self.saved {
            return;
        }
        match outside.save(&remembered) {
            Ok(()) => (self.saved, self.refusal) = (remembered, None),
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

    use super::super::Alarms;
    use super::super::found::{Cause, Found};
    use super::{Outside, Remembered, Telling};
    use crate::config;

    /// An event log and a file, which a kill leaves as they are.
    #[derive(Default)]
    struct Disk {
        /// Published, and not in the log yet.
        on_the_way: Vec<AlarmState>,
        log: Vec<AlarmState>,
        file: Remembered,
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

        fn count(&self, state: AlarmState) -> usize {
            self.log.iter().filter(|told| **told == state).count()
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

        fn save(&mut self, remembered: &Remembered) -> anyhow::Result<()> {
            anyhow::ensure!(self.step(), "killed");
            self.file = remembered.clone();
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
        let mut telling = Telling::default();
        change(&alarms);
        (0..2).for_each(|_| telling.tell(&alarms, disk));
        disk.on_the_way.clear();
    }

    /// How often an alarm and its end are told, by agents that are killed at a step of each.
    fn told(killed_at: usize, is_found_again: bool) -> (usize, usize) {
        let [raise, end, nothing]: [fn(&Alarms); 3] =
            [|alarms| _ = alarms.raise(&found()), |alarms| alarms.end(&found()), |_| ()];
        let mut disk = Disk::default();
        run(&mut disk, killed_at, raise);
        // Unless its cause goes on, nobody but the file knows of it.
        run(&mut disk, usize::MAX, if is_found_again { raise } else { nothing });
        let raised = disk.count(AlarmState::Raised);
        run(&mut disk, killed_at, end);
        // An agent that takes it up finds that it is over.
        run(&mut disk, usize::MAX, end);
        assert_eq!(disk.file, Remembered::default(), "killed after {killed_at} steps");
        assert_eq!(disk.count(AlarmState::Raised), raised);
        (raised, disk.count(AlarmState::Ended))
    }

    /// Steps of an agent that tells: saved, published, logged, saved.
    const STEPS: usize = 4;

    #[test]
    fn a_kill_at_any_step_tells_an_alarm_and_its_end_once_more_at_most_and_loses_neither() {
        for killed_at in 0..=STEPS {
            // Between the log and the file.
            let times = if killed_at == STEPS - 1 { 2 } else { 1 };
            assert_eq!(told(killed_at, true), (times, times), "killed after {killed_at} steps");
        }
    }

    #[test]
    fn whatever_was_kept_is_told_though_its_cause_is_over() {
        assert_eq!(told(0, false), (0, 0), "nobody knows of it");
        for killed_at in 1..=STEPS {
            let times = if killed_at == STEPS - 1 { 2 } else { 1 };
            assert_eq!(told(killed_at, false), (times, times), "killed after {killed_at} steps");
        }
    }

    #[test]
    fn the_file_remembers_what_a_log_that_hangs_does_not_have() {
        let mut disk = Disk { steps: usize::MAX, log_hangs: true, ..Disk::default() };
        let alarms = Alarms::new(&config::Alarms::default());
        let mut telling = Telling::default();
        alarms.raise(&found());
        telling.tell(&alarms, &mut disk);
        telling.tell(&alarms, &mut disk);
        assert_eq!((disk.file.on.len(), disk.file.untold.len(), disk.log.len()), (1, 1, 0));
        disk.log_hangs = false;
        telling.tell(&alarms, &mut disk);
        assert_eq!((disk.file.on.len(), disk.file.untold.len(), disk.log.len()), (1, 0, 1));
    }
}
