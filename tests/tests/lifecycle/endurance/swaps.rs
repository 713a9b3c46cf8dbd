//! Generation after generation under traffic.

use std::time::{Duration, Instant};

use bulkhead_testkit::setting;
use fastrand::Rng;

use super::{Ground, check};
use crate::site::account::drops;

/// Open files that an agent may have more after many swaps than after a few: they come and go.
const FILES: usize = 8;
/// Swaps after which it has all that it keeps.
const SETTLED: u64 = 10;

/// `cargo xtask soak swaps` makes 1,000 swaps, or `BULKHEAD_SWAPS`.
#[test]
fn swaps_lose_nothing_and_let_nothing_through() {
    let swaps = setting("BULKHEAD_SWAPS", 20);
    let seed = setting("BULKHEAD_SEED", 1);
    println!("BULKHEAD_SWAPS={swaps} BULKHEAD_SEED={seed}");
    let mut rng = Rng::with_seed(seed);
    let mut ground = Ground::new("swaps");
    let load = ground.start();
    let mut times = Vec::new();
    let mut settled = 0;
    let mut last = ground.is_whole();
    for swap in 1..=swaps {
        std::thread::sleep(Duration::from_millis(rng.u64(..50)));
        let words = ground.apply(swap as usize % 2);
        let start = Instant::now();
        ground.site.done(&words.each_ref().map(String::as_str));
        times.push(start.elapsed());
        if swap == SETTLED {
            settled = ground.site.open_files();
        }
        if swap % 50 == 0 || swap == swaps {
            let generation = ground.is_whole();
            assert!(generation > last, "generation {generation} after {last}");
            last = generation;
            println!("{swap} swaps, generation {generation}");
        }
    }
    let counts = check(load, &format!("{swaps} swaps, BULKHEAD_SEED={seed}"));
    // XDP and TC programs dropped at the same time, on every CPU: each drop is told of, or counted as untold.
    let dropped = drops(&ground.site.wait_for_balance());
    assert!(dropped >= counts.denied_sent, "{dropped} drops of {} requests", counts.denied_sent);
    times.sort();
    println!(
        "a swap took {:.2?} to {:.2?}, {:.2?} in the middle; {} requests in one",
        times[0],
        times[times.len() - 1],
        times[times.len() / 2],
        counts.sent / swaps
    );
    let files = ground.site.open_files();
    assert!(swaps < SETTLED || files <= settled + FILES, "{settled} open files, then {files}");
}
