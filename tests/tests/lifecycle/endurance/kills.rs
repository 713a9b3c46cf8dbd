//! The agent killed at any moment, under traffic.

use std::time::{Duration, Instant};

use bulkhead_testkit::setting;
use fastrand::Rng;
use serde_json::Value;

use super::{Ground, check};

/// When the agent is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Aim {
    /// While nothing changes.
    Rest,
    /// Some time within a start.
    Start,
    /// Some time within an `apply`.
    Change,
    /// Some time after the journal names the generation that the hooks are then given.
    Hooks,
}

/// In turn.
const AIMS: [Aim; 8] = {
    use Aim::{Change, Hooks, Rest, Start};
    [Change, Hooks, Change, Start, Hooks, Change, Rest, Hooks]
};
/// After the journal names a target, within which the hooks have it.
const AFTER_TARGET: Duration = Duration::from_millis(3);
/// Between two looks at the journal.
const LOOK: Duration = Duration::from_micros(200);
/// What the journal may take to name one.
const LIMIT: Duration = Duration::from_secs(20);

/// What a kill found, by what it left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// Nothing under way.
    Rest,
    /// A generation in the making, or one that no hook runs any more.
    Building,
    /// A target in the journal.
    Target,
    /// Hooks that run different generations.
    Mixed,
}

impl Ground {
    /// The journal, as it is on disk.
    fn journal(&self) -> Value {
        let path = format!("/var/lib/bulkhead/{}/generations.json", self.site.instance());
        // It is replaced whole, so it is there and can be read at any moment.
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    /// Whether what is made from a generation is kept that is not enforced yet.
    fn keeps_next(&self) -> bool {
        let enforced = self.journal()["enforced"].as_u64().unwrap();
        let next = enforced + 1;
        std::fs::exists(format!("/var/lib/bulkhead/{}/generation-{next}", self.site.instance())).unwrap()
    }

    /// What the agent that was just killed has left.
    fn found(&self) -> Found {
        let status = self.site.status();
        let links = status["links"].as_array().unwrap();
        if links.iter().any(|link| link["generation"] != links[0]["generation"]) {
            Found::Mixed
        } else if !self.journal()["target"].is_null() {
            Found::Target
        } else if status["generations"].as_array().unwrap().len() > 1 || self.keeps_next() {
            Found::Building
        } else {
            Found::Rest
        }
    }

    /// Kills the agent while it applies one of the policies; whether that was answered before.
    fn kill_in_change(&mut self, aim: Aim, number: usize, after: Duration) -> bool {
        let words = self.apply(number);
        let answered = std::thread::scope(|scope| {
            let site = &self.site;
            let apply = scope.spawn(move || site.bulkhead(&words.each_ref().map(String::as_str)));
            if aim == Aim::Hooks {
                let deadline = Instant::now() + LIMIT;
                while self.journal()["target"].is_null() && !apply.is_finished() {
                    assert!(Instant::now() < deadline, "no target in the journal");
                    std::thread::sleep(LOOK);
                }
            }
            std::thread::sleep(after);
            site.signal(libc::SIGKILL);
            let output = apply.join().unwrap();
            assert!(matches!(output.status.code(), Some(0 | 3)), "{output:?}");
            output.status.success()
        });
        self.site.kill();
        answered
    }
}

/// `cargo xtask soak kills` kills 200 times, or `BULKHEAD_KILLS`.
#[test]
fn a_killed_agent_leaves_nothing_open_and_the_next_one_makes_it_whole() {
    let kills = setting("BULKHEAD_KILLS", 8) as usize;
    let seed = setting("BULKHEAD_SEED", 1);
    println!("BULKHEAD_KILLS={kills} BULKHEAD_SEED={seed}");
    let mut rng = Rng::with_seed(seed);
    let mut ground = Ground::new("kills");
    let load = ground.start();
    // What is undisturbed takes so long.
    let start = Instant::now();
    ground.site.done(&ground.apply(1).each_ref().map(String::as_str));
    let undisturbed = start.elapsed();
    let any = |rng: &mut Rng, limit: Duration| limit.mul_f64(rng.f64());
    let mut found: Vec<(Aim, Found)> = Vec::new();
    let within = |found: &[(Aim, Found)]| {
        let aimed = found.iter().filter(|(aim, _)| matches!(aim, Aim::Change | Aim::Hooks));
        aimed.filter(|(_, left)| *left != Found::Rest).count()
    };
    // Some miss the change that they are aimed at; then there are more.
    while found.len() < kills || within(&found) * 2 < kills {
        assert!(found.len() < 2 * kills, "BULKHEAD_SEED={seed}: too few within a change: {found:?}");
        let aim = AIMS[found.len() % AIMS.len()];
        let answered = match aim {
            Aim::Rest | Aim::Start => {
                std::thread::sleep(any(&mut rng, undisturbed));
                ground.site.kill();
                if aim == Aim::Start {
                    ground.site.launch();
                    std::thread::sleep(any(&mut rng, undisturbed));
                    ground.site.kill();
                }
                aim == Aim::Rest
            }
            Aim::Change => ground.kill_in_change(aim, rng.usize(..2), any(&mut rng, undisturbed)),
            Aim::Hooks => ground.kill_in_change(aim, rng.usize(..2), any(&mut rng, AFTER_TARGET)),
        };
        // An answer is given when all is done.
        let left = if answered { Found::Rest } else { ground.found() };
        found.push((aim, left));
        ground.site.start();
        ground.is_whole();
        if found.len().is_multiple_of(20) {
            println!("{} kills", found.len());
        }
    }
    let count = |holds: fn(Aim, Found) -> bool| found.iter().filter(|(aim, left)| holds(*aim, *left)).count();
    let what = format!("{} kills, BULKHEAD_SEED={seed}", found.len());
    println!(
        "{what}: {} within an apply, {} within a start; of all, {} while a generation was built or cleared away, \
         {} with a target in the journal, {} with hooks of different generations",
        within(&found),
        count(|aim, left| aim == Aim::Start && left != Found::Rest),
        count(|_, left| left == Found::Building),
        count(|_, left| left == Found::Target),
        count(|_, left| left == Found::Mixed),
    );
    check(load, &what);
}
