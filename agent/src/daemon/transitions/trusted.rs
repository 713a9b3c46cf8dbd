//! Policies by two: what is not signed by enough different people is enforced by no command and no start.

use std::fs;

use bulkhead_dataplane::fake::Fault;
use bulkhead_grants::{Note, PolicyDigests};

use super::grants::key;
use super::world::{Agent, INVENTORY, World, keep_up, policy, refuse_everywhere};
use crate::config::{Config, Mode};
use crate::daemon::Setup;
use crate::daemon::enforcement;
use crate::daemon::enforcement::rebuild::rebuild;
use crate::daemon::enforcement::rollback::Return;
use crate::daemon::files::{Asked, Asker};
use bulkhead_policy::source::Source;

/// The same machine, whose agent.toml asks for two of three people.
fn setup(world: &World) -> Setup {
    setup_of(world, "bob", [2, 22])
}

/// The same with another person than Bob.
fn setup_of(world: &World, name: &str, keys: [u8; 2]) -> Setup {
    let line = |seed| format!("[\"{}\"]", key(seed).public());
    let text = format!(
        "[trust]\nthreshold = 2\n[trust.keys]\nalice = {}\n{name} = [\"{}\", \"{}\"]\ncarol = {}\n",
        line(1),
        key(keys[0]).public(),
        key(keys[1]).public(),
        line(3)
    );
    let trust = Config::parse(std::path::Path::new("agent.toml"), &text).unwrap().trust;
    assert!(trust.is_some());
    let mut setup = world.setup.clone();
    setup.config.trust = trust;
    setup
}

fn signed(policy: &str, inventory: &str, signers: &[(&str, u8)]) -> String {
    let mut note = Note::new(PolicyDigests::of(policy, inventory).text());
    signers.iter().for_each(|(name, seed)| key(*seed).sign(&mut note, name).unwrap());
    note.to_string()
}

const TWO: &[(&str, u8)] = &[("alice", 1), ("carol", 3)];

/// An agent that asks for signatures, and has them for what it enforces.
fn started(world: &World) -> Agent {
    write(world, 80, TWO);
    world.start_as(setup(world)).unwrap().unwrap()
}

/// Writes what `run` names, and its note.
fn write(world: &World, port: u16, signers: &[(&str, u8)]) {
    world.write_policy(port);
    let note = signed(&policy(port), INVENTORY, signers);
    fs::write(world.setup.config.policy.with_extension("note"), note).unwrap();
}

fn asked(port: u16, note: Option<String>) -> Asked {
    Asked { policy: Some(Source::new("other-policy", &policy(port))), note, ..Asked::default() }
}

#[test]
fn only_what_two_people_have_signed_is_applied() {
    let world = World::new();
    let agent = started(&world);
    let other = policy(81);
    let note = |signers: &[(&str, u8)]| Some(signed(&other, INVENTORY, signers));
    let copied = note(&TWO[..1]).map(|note| format!("{note}{}\n", note.lines().last().unwrap()));
    for (note, why) in [
        // The note that is there is over what is enforced.
        (None, "the note is over another policy (SHA-256 "),
        (note(&[]), "0 of 2 signatures"),
        (note(&TWO[..1]), "1 of 2 signatures: others have to sign as well"),
        (note(&[("bob", 2), ("bob", 22)]), "more than one key, and is one person"),
        (note(&[("bob", 2), ("eve", 9)]), "nobody here knows eve"),
        (copied, "a copied line is no second signature"),
        (Some(signed(&policy(82), INVENTORY, TWO)), "the note is over another policy"),
        (Some(signed(&other, "{}", TWO)), "the note is over another inventory"),
        (note(TWO).map(|note| note.replace("policy: ", "policy: 0")), "no `policy: ` with a SHA-256"),
        (Some("garbage".to_owned()), "no empty line"),
        (Some("x".repeat(1 << 20)), "longer than"),
    ] {
        for stage in [false, true] {
            let asked = asked(81, note.clone());
            let done =
                if stage { enforcement::stage(&agent, &asked) } else { enforcement::apply(&agent, &asked) };
            let error = done.unwrap_err().to_string();
            assert!(error.contains(why), "{why}: {error}");
            assert_eq!(world.settled(&agent), 80, "{why}");
        }
    }
    assert!(enforcement::apply(&agent, &asked(81, note(TWO))).unwrap().applied);
    assert_eq!(world.settled(&agent), 81);
    assert_eq!(agent.live().built.signers, ["alice", "carol"]);
}

#[test]
fn a_reload_and_a_start_ask_for_signatures_too() {
    let world = World::new();
    let agent = started(&world);
    assert_eq!(agent.live().built.signers, ["alice", "carol"]);
    world.write_policy(81);
    let error = enforcement::apply(&agent, &Asked::default()).unwrap_err().to_string();
    assert!(error.contains("the note is over another policy"), "{error}");
    drop(agent);
    // What was enforced goes on.
    for signers in [None, Some(&TWO[..1])] {
        if let Some(signers) = signers {
            write(&world, 81, signers);
        }
        let agent = world.start_as(setup(&world)).unwrap().unwrap();
        assert_eq!(world.settled(&agent), 80);
        let problems = agent.live().built.problems.clone();
        assert!(
            problems[0].contains("cannot be enforced, and what was enforced last goes on"),
            "{problems:?}"
        );
    }
    write(&world, 81, TWO);
    let agent = world.start_as(setup(&world)).unwrap().unwrap();
    assert_eq!(world.settled(&agent), 81);
    write(&world, 82, TWO);
    assert!(enforcement::apply(&agent, &Asked::default()).unwrap().applied);
    assert_eq!(world.settled(&agent), 82);
    // On a machine that enforced nothing an unsigned policy does not begin.
    let fresh = World::new();
    assert!(fresh.start_as(setup(&fresh)).is_err());
}

#[test]
fn a_staged_policy_is_promoted_with_its_signatures() {
    let world = World::new();
    let agent = started(&world);
    let note = Some(signed(&policy(81), INVENTORY, &[("bob", 22), ("carol", 3)]));
    enforcement::stage(&agent, &asked(81, note)).unwrap();
    assert!(enforcement::promote(&agent, (None, None), &Asker::default()).unwrap().unwrap().applied);
    assert_eq!(agent.live().built.signers, ["bob", "carol"]);
    drop(agent);
    // One that was staged before anybody asked for signatures is not.
    let other = World::new();
    let agent = other.started();
    enforcement::stage(&agent, &asked(81, None)).unwrap();
    drop(agent);
    write(&other, 80, TWO);
    let agent = other.start_as(setup(&other)).unwrap().unwrap();
    let error = enforcement::promote(&agent, (None, None), &Asker::default()).unwrap_err().to_string();
    assert!(error.contains("stage it again"), "{error}");
    assert_eq!(other.settled(&agent), 80);
}

#[test]
fn who_is_trusted_no_more_does_not_count_for_what_was_staged() {
    let world = World::new();
    let agent = started(&world);
    let note = Some(signed(&policy(81), INVENTORY, &[("bob", 2), ("carol", 3)]));
    enforcement::stage(&agent, &asked(81, note)).unwrap();
    drop(agent);
    let with_dave = setup_of(&world, "dave", [4, 5]);
    let agent = world.start_as(with_dave).unwrap().unwrap();
    let error = enforcement::promote(&agent, (None, None), &Asker::default()).unwrap_err().to_string();
    assert!(error.contains("1 of 2 signatures") && error.contains("stage it again"), "{error}");
    assert_eq!(world.settled(&agent), 80);
    drop(agent);
    // Bob is back.
    let agent = world.start_as(setup(&world)).unwrap().unwrap();
    assert!(enforcement::promote(&agent, (None, None), &Asker::default()).unwrap().unwrap().applied);
    assert_eq!(agent.live().built.signers, ["bob", "carol"]);
}

fn signed_for_audit(policy: &str, signers: &[(&str, u8)]) -> String {
    let digests = PolicyDigests { audit: true, ..PolicyDigests::of(policy, INVENTORY) };
    let mut note = Note::new(digests.text());
    signers.iter().for_each(|(name, seed)| key(*seed).sign(&mut note, name).unwrap());
    note.to_string()
}

fn in_audit(port: u16, note: String) -> Asked {
    Asked { mode: Some(Mode::Audit), ..asked(port, Some(note)) }
}

#[test]
fn the_way_back_is_to_what_was_signed_and_else_not() {
    let world = World::new();
    // Before anybody asked for signatures.
    let agent = world.started();
    let unsigned = agent.live().ledger.enforced;
    drop(agent);
    write(&world, 81, TWO);
    let agent = world.start_as(setup(&world)).unwrap().unwrap();
    assert_eq!(world.settled(&agent), 81);
    let signed = agent.live().ledger.enforced;
    for to in [None, Some(unsigned)] {
        let way = Return { to, ..Return::default() };
        let error = enforcement::rollback(&agent, &way).unwrap_err().to_string();
        assert!(error.contains("came to be in force without signatures"), "{error}");
        assert_eq!(world.settled(&agent), 81);
    }
    let note = self::signed(&policy(82), INVENTORY, TWO);
    assert!(enforcement::apply(&agent, &asked(82, Some(note))).unwrap().applied);
    // What was built again since is as signed.
    rebuild(&agent).unwrap();
    assert!(enforcement::rollback(&agent, &Return::default()).unwrap().unwrap().applied);
    assert_eq!(
        (world.settled(&agent), &*agent.live().built.signers),
        (81, &["alice", "carol"].map(str::to_owned)[..])
    );
    assert!(enforcement::rollback(&agent, &Return::default()).unwrap().unwrap().applied);
    assert_eq!(world.settled(&agent), 82);
    let way = Return { to: Some(signed), ..Return::default() };
    assert!(enforcement::rollback(&agent, &way).unwrap().unwrap().applied);
    assert_eq!(world.settled(&agent), 81);
}

#[test]
fn what_is_not_confirmed_goes_back_to_what_was_in_force_signed_or_not() {
    let world = World::new();
    drop(world.started());
    write(&world, 81, TWO);
    let mut setup = setup(&world);
    setup.confirm = Some(600);
    let agent = world.start_as(setup).unwrap().unwrap();
    assert_eq!(world.enforced(&agent), 81);
    agent.live().ledger.pending.as_mut().unwrap().until = 0;
    keep_up(&agent);
    assert_eq!(world.settled(&agent), 80);
}

#[test]
fn audit_mode_needs_signatures_over_it() {
    let world = World::new();
    let agent = started(&world);
    let plain = signed(&policy(81), INVENTORY, TWO);
    let one = signed_for_audit(&policy(81), &TWO[..1]);
    for (asked, why) in [
        (in_audit(81, plain.clone()), "in audit mode nothing is dropped"),
        (Asked { mode: Some(Mode::Audit), ..Asked::default() }, "in audit mode nothing is dropped"),
        (in_audit(81, one), "1 of 2 signatures"),
        // Nobody's signature is over a line that was added.
        (in_audit(81, plain.replacen("\n\n", "\nmode: audit\n\n", 1)), "does not fit"),
    ] {
        let error = enforcement::apply(&agent, &asked).unwrap_err().to_string();
        assert!(error.contains(why), "{why}: {error}");
        assert_eq!((world.settled(&agent), agent.live().built.mode), (80, Mode::Enforce));
    }
    enforcement::stage(&agent, &asked(81, Some(plain))).unwrap();
    let promoted = enforcement::promote(&agent, (Some(Mode::Audit), None), &Asker::default());
    assert!(promoted.unwrap_err().to_string().contains("in audit mode nothing is dropped"));
    let both = signed_for_audit(&policy(81), TWO);
    assert!(enforcement::apply(&agent, &in_audit(81, both)).unwrap().applied);
    assert_eq!(agent.live().built.mode, Mode::Audit);
    // Back to enforcing is no widening, and neither is the way back from there to what was signed so.
    let narrow = Asked { mode: Some(Mode::Enforce), ..Asked::default() };
    assert!(enforcement::apply(&agent, &narrow).unwrap().applied);
    assert_eq!(agent.live().built.mode, Mode::Enforce);
    assert!(enforcement::rollback(&agent, &Return::default()).unwrap().unwrap().applied);
    assert_eq!(agent.live().built.mode, Mode::Audit);
}

#[test]
fn a_name_with_other_keys_does_not_count_for_what_was_staged() {
    let world = World::new();
    let agent = started(&world);
    let note = Some(signed(&policy(81), INVENTORY, &[("bob", 2), ("carol", 3)]));
    enforcement::stage(&agent, &asked(81, note)).unwrap();
    drop(agent);
    // Bob has lost his keys, and has others by now.
    let agent = world.start_as(setup_of(&world, "bob", [4, 5])).unwrap().unwrap();
    let error = enforcement::promote(&agent, (None, None), &Asker::default()).unwrap_err().to_string();
    assert!(error.contains("bob signed with a key that is not known here"), "{error}");
    assert_eq!(world.settled(&agent), 80);
}

#[test]
fn a_policy_that_cannot_be_staged_leaves_the_one_before_with_its_note() {
    let staged = |world: &World| {
        let agent = started(world);
        enforcement::stage(&agent, &asked(81, Some(signed(&policy(81), INVENTORY, TWO)))).unwrap();
        let number = agent.live().ledger.staged;
        (agent, number)
    };
    let stage_another = |_: &World, (agent, _): &mut (Agent, Option<u32>)| {
        enforcement::stage(agent, &asked(82, Some(signed(&policy(82), INVENTORY, TWO)))).map(drop)
    };
    refuse_everywhere(
        &[Fault::Refuse(libc::ENOSPC)],
        staged,
        stage_another,
        |world, (agent, before), answer| {
            if agent.live().ledger.staged != before {
                return;
            }
            assert!(answer.is_err());
            let promoted = enforcement::promote(&agent, (None, None), &Asker::default());
            assert!(promoted.unwrap().unwrap().applied);
            assert_eq!(world.port(&agent.live().ledger.clone()), 81);
        },
    );
}
