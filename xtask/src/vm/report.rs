//! What a guest said, made a result.

use std::time::Duration;

use super::qemu::{BEGINS, ENDED, Ran};

/// What the job must have shown.
#[derive(Debug)]
pub enum Expected {
    /// A line for each of so many programs at least, none refused.
    Programs(usize),
    /// A line `check NAME: ok` for every name.
    Checks(Vec<String>),
}

/// How many things were shown, and what was not as it must be.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Result {
    /// Programs, or checks.
    pub shown: usize,
    /// In words; none if all is well.
    pub wrong: Vec<String>,
}

/// Judges a console. What did not run is as wrong as what failed.
pub fn judge(console: &[String], expected: &Expected) -> Result {
    let mut result = Result::default();
    if !console.iter().any(|line| line.starts_with(BEGINS)) {
        result.wrong.push("no boot reached the job".to_owned());
        return result;
    }
    match expected {
        Expected::Programs(least) => {
            let programs = console.iter().filter(|line| is_program(line));
            result.shown = programs.count();
            if result.shown < *least {
                result.wrong.push(format!("{} of {least} programs loaded", result.shown));
            }
            let refused = console.iter().filter(|line| line.contains("refused: "));
            result.wrong.extend(refused.cloned());
        }
        Expected::Checks(names) => {
            for name in names {
                let begin = format!("check {name}: ");
                let line = console.iter().find_map(|line| line.strip_prefix(&begin));
                match line {
                    Some(text) if text.starts_with("ok ") => result.shown += 1,
                    Some(text) => result.wrong.push(format!("{name}: {text}")),
                    None => result.wrong.push(format!("{name}: did not run")),
                }
            }
        }
    }
    match console.iter().find_map(|line| line.strip_prefix(ENDED)) {
        Some("0") => {}
        Some(status) if result.wrong.is_empty() => {
            result.wrong.push(format!("the job ended with {status}"));
        }
        Some(_) => {}
        None => result.wrong.push("the job did not end".to_owned()),
    }
    let bad = |line: &&String| ["BUG:", "WARNING:", "Oops"].iter().any(|word| line.contains(word));
    if let Some(line) = console.iter().find(bad) {
        result.wrong.push(format!("the kernel says: {line}"));
    }
    result
}

/// A program's line ends in how many instructions were followed, and in milliseconds.
fn is_program(line: &str) -> bool {
    let mut words = line.split_whitespace().rev();
    let numbers = [words.next(), words.next()].map(|word| word.and_then(|word| word.parse::<u64>().ok()));
    let is_listed = ["bare IP ", "Ethernet ", "cgroup "].iter().any(|name| line.starts_with(name));
    numbers.iter().all(Option::is_some) && is_listed
}

/// One line of the table.
#[derive(Debug)]
pub struct Row {
    pub job: String,
    pub kernel: String,
    pub release: String,
    pub result: Result,
    pub boot: Option<Duration>,
    pub time: Duration,
    pub boots: usize,
}

impl Row {
    /// What a boot came to.
    pub fn new(job: String, kernel: String, release: String, ran: &Ran, expected: &Expected) -> Self {
        let result = judge(&ran.console, expected);
        Self { job, kernel, release, result, boot: ran.boot, time: ran.job, boots: ran.boots }
    }

    pub fn line(&self) -> String {
        let boot = self.boot.map_or("-".to_owned(), |boot| format!("{:.0}", boot.as_secs_f32()));
        let verdict = if self.result.wrong.is_empty() { "ok" } else { "FAILED" };
        format!(
            "{:<14} {:<8} {:<28} {:>6} {:>6} {:>6.0} {:>5}  {verdict}",
            self.job,
            self.kernel,
            self.release,
            self.result.shown,
            boot,
            self.time.as_secs_f32(),
            self.boots
        )
    }
}

/// The table's head.
pub fn head() -> String {
    format!(
        "{:<14} {:<8} {:<28} {:>6} {:>6} {:>6} {:>5}",
        "job", "kernel", "release", "shown", "boot s", "job s", "boots"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn console(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    const VERIFIED: &str = "vm: job begins on 6.12.1\ninterface  uses  program  verified  ms\n\
        bare IP    plain                tc_ingress          12345      900\n\
        Ethernet   everything, staged   xdp_ingress        105421     1900\nvm: job ended with 0\n";

    #[test]
    fn programs_are_counted_and_a_refusal_is_told() {
        let result = judge(&console(VERIFIED), &Expected::Programs(2));
        assert_eq!(result, Result { shown: 2, wrong: vec![] });
        assert!(!judge(&console(VERIFIED), &Expected::Programs(3)).wrong.is_empty());
        let refused = VERIFIED.replace("xdp_ingress        105421     1900", "refused: loading tc_egress");
        let refused = refused.replace("ended with 0", "ended with 1");
        let result = judge(&console(&refused), &Expected::Programs(1));
        assert!(result.wrong.iter().any(|line| line.contains("tc_egress")), "{result:?}");
    }

    #[test]
    fn a_check_that_did_not_run_has_failed() {
        let text =
            "vm: job begins on 7\ncheck demo: ok (12 s)\ncheck guard: FAILED (3 s)\nvm: job ended with 1\n";
        let names = ["demo", "guard", "stage"].map(str::to_owned).to_vec();
        let result = judge(&console(text), &Expected::Checks(names));
        assert_eq!((result.shown, result.wrong.len()), (1, 2), "{result:?}");
        assert!(result.wrong[1].contains("did not run"));
    }

    #[test]
    fn what_ended_before_its_time_has_failed() {
        let wrong = |text: &str| judge(&console(text), &Expected::Programs(2)).wrong;
        assert_eq!(wrong("Kernel panic"), ["no boot reached the job"]);
        assert_eq!(wrong(&VERIFIED.replace("vm: job ended with 0\n", "")), ["the job did not end"]);
        assert_eq!(wrong(&VERIFIED.replace("ended with 0", "ended with 139")), ["the job ended with 139"]);
        assert_eq!(wrong(&(VERIFIED.to_owned() + "WARNING: CPU: 1\n")), ["the kernel says: WARNING: CPU: 1"]);
    }
}
