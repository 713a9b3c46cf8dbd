//! Many attempts, drawn at random: whoever the other end sees is whoever sent.

use bulkhead_testkit::setting;

use super::{BACKUP, ENGINE, ENGINE6, HOST, HOST6, PEER, PEER6, TO_BACKUP, TO_HOST, World};

#[test]
fn nobody_is_seen_as_another_whatever_is_tried() {
    let attempts = setting("BULKHEAD_BYPASSES", 150) as usize;
    let seed = setting("BULKHEAD_SEED", fastrand::u64(..));
    println!("BULKHEAD_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut world = World::with_lo("random");
    // All may come everywhere, so that nothing but who they are keeps them apart.
    world.write_policy(&[r#"{"action": "accept", "src": ["*"], "dst": ["*:*"]}"#]);
    let (engine, backup, other) = world.start();
    let mut actors = [(engine, &[ENGINE, ENGINE6][..]), (backup, &[BACKUP][..]), (other, &[HOST, HOST6][..])];
    let mut heard = 0;
    for attempt in 0..attempts {
        let place = random.usize(..actors.len());
        let (actor, own) = &mut actors[place];
        let sources4 = ["0.0.0.0", HOST, ENGINE, BACKUP, "127.0.0.1"];
        let sources6 = ["::", HOST6, ENGINE6];
        let is_v6 = random.u8(..4) == 0;
        let to = if is_v6 { PEER6 } else { [PEER, TO_BACKUP, TO_HOST][random.usize(..3)] };
        let source = if is_v6 { sources6[random.usize(..3)] } else { sources4[random.usize(..5)] };
        let from = if is_v6 { format!("[{source}]") } else { source.to_owned() };
        let port = if random.bool() { 0 } else { random.u16(20_000..30_000) };
        let mut command = match random.u8(..8) {
            0 | 1 => format!("tcp {to} from={from}:{port}"),
            2 => format!("udp {to} from={from}:{port}"),
            3 => format!("udp {to} source={source}"),
            4 if !is_v6 => format!("raw {source} {to}"),
            5 if !is_v6 => format!("packet {source} {to} wg0"),
            6 => format!("ring {to}"),
            _ => format!("tcp {to}"),
        };
        for (option, fits) in [
            ("transparent", !is_v6),
            ("freebind", !is_v6),
            ("mptcp", command.starts_with("tcp")),
            ("device=wg0", true),
            ("connect", command.starts_with("udp")),
            ("fastopen", command.starts_with("tcp")),
        ] {
            if fits && random.u8(..4) == 0 {
                command = format!("{command} {option}");
            }
        }
        let answer = actor.ask(&command);
        if command.starts_with("raw") || command.starts_with("packet") {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        for (from, what) in world.witness.seen() {
            heard += 1;
            let from = from.to_string();
            assert!(
                own.contains(&&*from),
                "attempt {attempt}, {command}: {answer}; seen as {from}: {what:?}"
            );
        }
    }
    assert!(heard > attempts / 8, "it must be heard when it is itself: {heard} of {attempts}");
}
