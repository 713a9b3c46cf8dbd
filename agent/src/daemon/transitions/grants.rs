//! Grants that are handed in, refused, revoked, over, or not allowed any more, over restarts and changes.

use std::fs;
use std::sync::Arc;

use bulkhead_api::grant::{Answer, Request, Revocation, Standing};
use bulkhead_dataplane::fake::{Fault, generations};
use bulkhead_grants::{Grant, MAX_BYTES, Note, SecretKey, Window};
use bulkhead_policy::source::Source;

use super::world::{Agent, World, crash_everywhere, keep_up};
use crate::daemon::CompileOptions;
use crate::daemon::clock::wall_time;
use crate::daemon::enforcement;
use crate::daemon::enforcement::rollback::Return;
use crate::daemon::files::Asked;
use crate::daemon::grants::{Grants, grant, revoke};
use crate::daemon::state::inputs::Inputs;
use crate::daemon::store::Ledger;

const ID: &str = "0123456789abcdef0123456789abcdef";

fn now() -> i64 {
    (wall_time() / 1_000_000_000).cast_signed()
}

pub(super) fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32])
}

/// Alice asks, and Bob, who has two keys, and Carol may approve.
fn policy(rest: &str) -> Source {
    let line = |seed| format!("\"{}\"", key(seed).public());
    let text = format!(
        r#"{{"tagOwners": {{"tag:a": [], "tag:b": []}},
  "approvers": {{"alice": [{}], "bob": [{}, {}], "carol": [{}], "dave": [{}]}},
  "grantable": [{{"src": ["tag:a"], "dst": ["tag:b:22"], "longest": "1h", "by": ["alice", "bob", "carol"]}},
                {{"src": ["tag:a"], "dst": ["tag:b:23"], "longest": "10m", "breakGlass": true}}],
  {rest}}}"#,
        line(1),
        line(2),
        line(22),
        line(3),
        line(4),
    );
    Source::new("policy", &text)
}

const ACLS: &str = r#""acls": [{"action": "accept", "src": ["tag:a"], "dst": ["tag:b:80"]}]"#;

/// A world that enforces it.
fn world() -> (World, Agent) {
    let world = World::new();
    fs::write(&world.setup.config.policy, policy(ACLS).text()).unwrap();
    let agent = world.started();
    (world, agent)
}

fn asked() -> Grant {
    Grant {
        id: ID.to_owned(),
        requester: "alice".to_owned(),
        source: "tag:a".to_owned(),
        destination: "tag:b:22".to_owned(),
        protocol: "tcp".to_owned(),
        window: Window { from: now(), until: now() + 600 },
        ticket: "OPS-1".to_owned(),
        reason: "a look".to_owned(),
        break_glass: false,
    }
}

fn note(grant: &Grant, signers: &[(&str, u8)]) -> String {
    let mut note = Note::new(grant.text().unwrap());
    signers.iter().for_each(|(name, seed)| key(*seed).sign(&mut note, name).unwrap());
    note.to_string()
}

const TWO: &[(&str, u8)] = &[("bob", 2), ("carol", 3)];

fn hand_in(agent: &Agent, note: String) -> Answer {
    grant(agent, &Request { note }).unwrap()
}

/// The ids that are in force, by the rules that are enforced.
fn in_force(agent: &Agent) -> Vec<String> {
    agent.live().built.granted.iter().cloned().collect()
}

fn standing(agent: &Agent) -> Vec<(Standing, Option<String>)> {
    let entries = agent.setup.options.grants.entries(now());
    entries.into_iter().map(|entry| (entry.standing, entry.why)).collect()
}

type State = (Ledger, Vec<String>, Vec<(Standing, Option<String>)>);

fn state(agent: &Agent) -> State {
    // Each is asked with a lock of its own.
    let ledger = agent.live().ledger.clone();
    (ledger, in_force(agent), standing(agent))
}

#[track_caller]
fn is_refused(agent: &Agent, note: String, why: &str) {
    let before = state(agent);
    let answer = hand_in(agent, note);
    assert!(!answer.done && answer.grant.is_none() && answer.notes[0].contains(why), "{why}: {answer:?}");
    keep_up(agent);
    assert_eq!(state(agent), before, "{why}");
}

#[test]
fn what_is_no_grant_is_refused_each_with_its_reason() {
    let (_world, agent) = world();
    let grant = asked();
    let other = |change: &dyn Fn(&mut Grant)| {
        let mut grant = asked();
        change(&mut grant);
        note(&grant, TWO)
    };
    is_refused(&agent, note(&grant, &[]), "0 of 2 signatures: others have to sign");
    is_refused(&agent, note(&grant, &[("bob", 2)]), "1 of 2 signatures: others have to sign as well");
    is_refused(&agent, note(&grant, &[("alice", 1), ("bob", 2)]), "alice has asked for it");
    is_refused(&agent, note(&grant, &[("bob", 2), ("bob", 22)]), "more than one key, and is one person");
    is_refused(&agent, note(&grant, &[("bob", 2), ("dave", 4)]), "dave may not approve this");
    is_refused(&agent, note(&grant, &[("bob", 2), ("eve", 9)]), "nobody here knows eve");
    let one = note(&grant, &[("bob", 2)]);
    let copied = format!("{one}{}\n", one.lines().last().unwrap());
    is_refused(&agent, copied, "a copied line is no second signature");
    is_refused(
        &agent,
        note(&grant, TWO).replace("tag:b:22", "tag:b:23"),
        "does not fit: it is over another text",
    );
    is_refused(
        &agent,
        other(&|grant| grant.window = Window { from: 1000, until: 2000 }),
        "it was good until 1970-",
    );
    is_refused(&agent, other(&|grant| grant.window.from += 599), "it begins at");
    is_refused(&agent, other(&|grant| grant.window.until += 3600), "3600 s at most");
    is_refused(
        &agent,
        other(&|grant| grant.destination = "tag:b:22-23".to_owned()),
        "wider than what may be granted",
    );
    is_refused(
        &agent,
        other(&|grant| grant.destination = "*:22".to_owned()),
        "wider than what may be granted",
    );
    is_refused(&agent, other(&|grant| grant.source = "*".to_owned()), "has not the source b (100.64.0.2)");
    is_refused(&agent, other(&|grant| grant.protocol = "udp".to_owned()), "its protocol is tcp");
    is_refused(&agent, other(&|grant| grant.source = "tag:c".to_owned()), "tag not found");
    is_refused(&agent, "garbage".to_owned(), "no empty line between text and signatures");
    is_refused(&agent, "x".repeat(1 << 20), &format!("longer than {MAX_BYTES} bytes"));
    let text = "bulkhead-policy/v1\npolicy: x\n".to_owned();
    is_refused(&agent, Note::new(text).to_string(), "the note is not over a grant");
}

#[test]
fn a_grant_runs_over_a_restart_once_and_comes_back_from_nothing() {
    let (world, agent) = world();
    let good = note(&asked(), TWO);
    let answer = hand_in(&agent, good.clone());
    let entry = answer.grant.unwrap();
    assert!(answer.done && answer.notes.is_empty(), "{:?}", answer.notes);
    assert_eq!(
        (&*entry.requester, &entry.approvers[..]),
        ("alice", &["bob".to_owned(), "carol".to_owned()][..])
    );
    assert_eq!(in_force(&agent), [ID]);
    // Events name who it was.
    let names = agent.live().built.names.clone();
    let rule = names.rules().iter().find_map(|rule| rule.grant.clone()).unwrap();
    assert_eq!((&*rule.ticket, &*rule.requester, rule.approvers.len()), ("OPS-1", "alice", 2));
    is_refused(&agent, good.clone(), "runs already");
    // The file that `run` names is the same: the start goes on, and so does the grant.
    drop(agent);
    let agent = world.started();
    assert_eq!((in_force(&agent), standing(&agent)), (vec![ID.to_owned()], vec![(Standing::Running, None)]));
    keep_up(&agent);
    assert_eq!(in_force(&agent), [ID]);
    let revocation = Revocation { id: ID[..8].to_owned(), reason: Some("done".to_owned()) };
    assert!(revoke(&agent, &revocation).unwrap().done);
    assert_eq!(in_force(&agent), Vec::<String>::new());
    let revoked = vec![(Standing::Revoked, Some("done".to_owned()))];
    assert_eq!(standing(&agent), revoked);
    is_refused(&agent, good.clone(), "was revoked here, and does not come back");
    drop(agent);
    let agent = world.started();
    assert_eq!((in_force(&agent), standing(&agent)), (Vec::new(), revoked));
    is_refused(&agent, good, "was revoked here");
    // One that has not come yet is refused when it comes.
    let id = "f".repeat(32);
    assert!(revoke(&agent, &Revocation { id: id.clone(), reason: None }).unwrap().done);
    is_refused(&agent, note(&Grant { id, ..asked() }, TWO), "was revoked here");
    assert!(!revoke(&agent, &Revocation { id: "nobody".to_owned(), reason: None }).unwrap().done);
}

#[test]
fn a_policy_that_does_not_allow_it_ends_it_for_good() {
    let narrower = policy(ACLS).text().replace("tag:b:22", "tag:b:24");
    let fewer = policy(ACLS).text().replace("\"1h\", ", "\"1h\", \"approvals\": 3, ");
    let stranger = policy(ACLS).text().replace(&key(3).public().to_string(), &key(9).public().to_string());
    let apart = policy(&format!(
        r#"{ACLS}, "boundaries": [{{"name": "ab", "between": [["tag:a"], ["tag:b"]],
        "only": [{{"src": ["tag:a"], "dst": ["tag:b:80"], "proto": "tcp"}}]}}]"#
    ));
    let apart =
        apart.text().replace("\"dst\": [\"tag:b:80\"]}]", "\"dst\": [\"tag:b:80\"], \"proto\": \"tcp\"}]");
    for (text, why) in [
        (narrower, "wider than what may be granted"),
        (fewer, "2 of 3 signatures"),
        (stranger, "1 of 2 signatures"),
        (apart, "crosses the boundary \"ab\""),
    ] {
        let (_world, agent) = world();
        assert!(hand_in(&agent, note(&asked(), TWO)).done);
        let asked = Asked { policy: Some(Source::new("other", &text)), ..Asked::default() };
        // A dry run ends nothing.
        let dry = enforcement::apply(&agent, &Asked { dry_run: true, ..asked.clone() }).unwrap();
        keep_up(&agent);
        assert_eq!((dry.text.as_str(), in_force(&agent)), ("", vec![ID.to_owned()]), "{why}");
        let applied = enforcement::apply(&agent, &asked).unwrap();
        assert!(applied.applied, "{why}: {}", applied.text);
        assert_eq!(in_force(&agent), Vec::<String>::new(), "{why}");
        keep_up(&agent);
        let ended = standing(&agent);
        assert!(
            ended[0].0 == Standing::Ended && ended[0].1.as_ref().unwrap().contains(why),
            "{why}: {ended:?}"
        );
        // The policy that allowed it is back, and the grant is not.
        assert!(enforcement::rollback(&agent, &Return::default()).unwrap().unwrap().applied);
        keep_up(&agent);
        assert_eq!(in_force(&agent), Vec::<String>::new(), "{why}");
        is_refused(&agent, note(&self::asked(), TWO), "was ended here");
    }
}

#[test]
fn another_policy_that_allows_it_lets_it_run() {
    let (world, agent) = world();
    assert!(hand_in(&agent, note(&asked(), TWO)).done);
    let other = policy(&ACLS.replace("80", "81"));
    let asked = Asked { policy: Some(other), ..Asked::default() };
    assert!(enforcement::apply(&agent, &asked).unwrap().applied);
    keep_up(&agent);
    assert_eq!(in_force(&agent), [ID]);
    assert!(enforcement::rollback(&agent, &Return::default()).unwrap().unwrap().applied);
    keep_up(&agent);
    assert_eq!((in_force(&agent), standing(&agent)), (vec![ID.to_owned()], vec![(Standing::Running, None)]));
    // A start with another file is a change like any other.
    drop(agent);
    fs::write(&world.setup.config.policy, policy(&ACLS.replace("80", "82")).text()).unwrap();
    assert_eq!(in_force(&world.started()), [ID]);
}

#[test]
fn its_time_ends_it() {
    let (_world, agent) = world();
    let until = now() + 2;
    let short = Grant { window: Window { from: now(), until }, ..asked() };
    assert!(hand_in(&agent, note(&short, TWO)).done);
    keep_up(&agent);
    assert_eq!(standing(&agent), [(Standing::Running, None)]);
    while now() < until {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    keep_up(&agent);
    assert_eq!(standing(&agent), [(Standing::Expired, None)]);
    is_refused(&agent, note(&short, TWO), "it was good until");
}

#[test]
fn one_signature_suffices_for_an_emergency() {
    let (_world, agent) = world();
    let glass = Grant { break_glass: true, destination: "tag:b:23".to_owned(), ..asked() };
    is_refused(&agent, note(&glass, &[("alice", 1)]), "0 of 1 signatures: alice has asked for it");
    is_refused(
        &agent,
        note(&Grant { break_glass: false, ..glass.clone() }, TWO),
        "wider than what may be granted",
    );
    let answer = hand_in(&agent, note(&glass, &[("dave", 4)]));
    assert!(answer.done && answer.grant.unwrap().break_glass);
    let raised = |agent: &Agent| {
        let alarms = agent.shared.alarms.as_ref().unwrap();
        alarms
            .status()
            .active
            .iter()
            .map(|alarm| alarm.detail.clone())
            .filter(|words| words.contains("break-glass"))
            .count()
    };
    assert_eq!(raised(&agent), 1);
    keep_up(&agent);
    assert_eq!(raised(&agent), 1);
    assert!(revoke(&agent, &Revocation { id: ID.to_owned(), reason: None }).unwrap().done);
    assert_eq!(raised(&agent), 0);
}

#[test]
fn nothing_runs_while_it_is_not_known_what_was_revoked() {
    let (world, agent) = world();
    assert!(hand_in(&agent, note(&asked(), TWO)).done);
    drop(agent);
    fs::write(world.setup.paths.state.join("grants.json"), "{").unwrap();
    let agent = world.started();
    assert_eq!(in_force(&agent), Vec::<String>::new());
    is_refused(
        &agent,
        note(&Grant { id: "a".repeat(32), ..asked() }, TWO),
        "no grant runs, and none is taken",
    );
}

#[test]
fn while_it_is_not_known_what_was_revoked_nothing_is_written_over_it() {
    let (world, agent) = world();
    let good = note(&asked(), TWO);
    assert!(hand_in(&agent, good.clone()).done);
    assert!(revoke(&agent, &Revocation { id: ID.to_owned(), reason: None }).unwrap().done);
    drop(agent);
    let file = world.setup.paths.state.join("grants.json");
    let whole = fs::read_to_string(&file).unwrap();
    let damaged = &whole[..whole.len() - 2];
    fs::write(&file, damaged).unwrap();
    let agent = world.started();
    for id in [ID.to_owned(), "f".repeat(32)] {
        let answer = revoke(&agent, &Revocation { id, reason: None }).unwrap();
        let why = &answer.notes[0];
        assert!(!answer.done && why.contains("none is taken or revoked"), "{answer:?}");
        // Nobody is told to move it away who is not told what that does.
        assert!(why.contains("moving it away forgets") && !why.contains("or move it away"), "{why}");
    }
    keep_up(&agent);
    assert_eq!(fs::read_to_string(&file).unwrap(), damaged);
    drop(agent);
    // Whoever puts it back has lost nothing.
    fs::write(&file, whole).unwrap();
    is_refused(&world.started(), good, "was revoked here");
}

#[test]
fn a_grant_does_not_let_a_restart_take_up_again_what_was_rolled_back() {
    let (world, agent) = world();
    assert!(hand_in(&agent, note(&asked(), TWO)).done);
    drop(agent);
    // What `run` names is another policy by now, and is enforced by the start.
    fs::write(&world.setup.config.policy, policy(&ACLS.replace("80", "81")).text()).unwrap();
    let agent = world.started();
    let (seen, _) = world.store().last_requested(&agent.live().ledger).unwrap();
    // `watch` compares the same with the files.
    assert_eq!(seen.policy.text(), fs::read_to_string(&world.setup.config.policy).unwrap());
    assert!(enforcement::rollback(&agent, &Return::default()).unwrap().unwrap().applied);
    let admits = |agent: &Agent| {
        let (files, _) = world.store().inputs_of(agent.live().ledger.enforced).unwrap();
        [":80", ":81"].map(|port| files.policy.text().contains(port))
    };
    assert_eq!(admits(&agent), [true, false]);
    drop(agent);
    let agent = world.started();
    assert_eq!((admits(&agent), in_force(&agent)), ([true, false], vec![ID.to_owned()]));
}

#[test]
fn a_grant_does_not_keep_anybody_from_the_way_back() {
    for by_itself in [false, true] {
        let world = World::new();
        let until = now() + 3;
        let expires = time::OffsetDateTime::from_unix_timestamp(until).unwrap();
        let expires = expires.format(&time::format_description::well_known::Rfc3339).unwrap();
        // It does not hold by itself once its rule is over, and has a boundary that the grant would cross.
        let before = policy(&format!(
            r#""acls": [{{"action": "accept", "src": ["tag:a"], "dst": ["tag:b:80"], "proto": "tcp",
            "expires": "{expires}"}}],
            "tests": [{{"src": "tag:a", "accept": ["tag:b:80"]}}],
            "boundaries": [{{"name": "ab", "between": [["tag:a"], ["tag:b"]],
            "only": [{{"src": ["tag:a"], "dst": ["tag:b:80"], "proto": "tcp"}}]}}]"#
        ));
        fs::write(&world.setup.config.policy, before.text()).unwrap();
        let agent = world.started();
        let confirm = by_itself.then_some(600);
        let other = Asked { policy: Some(policy(ACLS)), confirm, ..Asked::default() };
        assert!(enforcement::apply(&agent, &other).unwrap().applied);
        assert!(hand_in(&agent, note(&asked(), TWO)).done);
        while now() < until {
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        if by_itself {
            agent.live().ledger.pending.as_mut().unwrap().until = 0;
        } else {
            assert!(enforcement::rollback(&agent, &Return::default()).unwrap().unwrap().applied);
        }
        keep_up(&agent);
        let (files, _) = world.store().inputs_of(agent.live().ledger.enforced).unwrap();
        assert_eq!(files.policy.text(), before.text());
        let ended = standing(&agent);
        let why = ended[0].1.clone().unwrap_or_default();
        assert!(ended[0].0 == Standing::Ended && why.contains("crosses the boundary \"ab\""), "{ended:?}");
    }
}

#[test]
fn where_there_is_no_room_for_grants_the_way_back_is_without_them() {
    let (world, mut agent) = world();
    let two = ACLS.replace("\"tag:b:80\"", "\"tag:b:80\", \"tag:b:81\", \"tag:b:82\"");
    let other = Asked { policy: Some(policy(&two)), ..Asked::default() };
    assert!(enforcement::apply(&agent, &other).unwrap().applied);
    assert!(hand_in(&agent, note(&asked(), TWO)).done);
    // The smallest tables that the earlier policy fits into by itself.
    let (files, made) = world.store().inputs_of(agent.live().ledger.previous.unwrap()).unwrap();
    let fits = |bytes: &u64| {
        let options = CompileOptions { table_memory: *bytes, ..world.setup.options.clone() };
        Inputs::compile(files.clone(), made.mode, &options).is_ok()
    };
    let (mut small, mut large) = (0, 1 << 20);
    while large - small > 1 {
        let middle = (small + large) / 2;
        if fits(&middle) { large = middle } else { small = middle }
    }
    agent.setup.options.table_memory = large;
    // Whoever applies it is told why it cannot be built, and ends no grant without knowing.
    let asked = Asked { policy: Some(policy(ACLS)), ..Asked::default() };
    let refused = enforcement::apply(&agent, &asked).unwrap();
    let words = "without the 1 grants that run it can be built: `bulkhead revoke` as many";
    assert!(
        !refused.applied && refused.text.contains(words) && refused.text.contains(ID),
        "{}",
        refused.text
    );
    assert_eq!(in_force(&agent), [ID]);
    assert!(enforcement::rollback(&agent, &Return::default()).unwrap().unwrap().applied);
    assert_eq!(in_force(&agent), Vec::<String>::new());
    keep_up(&agent);
    let ended = standing(&agent);
    let why = ended[0].1.clone().unwrap_or_default();
    assert!(ended[0].0 == Standing::Ended && why.contains("cannot be built with"), "{ended:?}");
}

#[test]
fn nobody_applies_grants_that_no_host_has_verified() {
    let (world, agent) = world();
    assert!(hand_in(&agent, note(&asked(), TWO)).done);
    let number = agent.live().ledger.enforced;
    let (kept, _) = world.store().inputs_of(number).unwrap();
    assert!(kept.policy.text().contains(ID));
    let asked = Asked { policy: Some(kept.policy), ..Asked::default() };
    let error = enforcement::apply(&agent, &asked).unwrap_err().to_string();
    assert!(error.contains("the section \"granted\" is the agent's own"), "{error}");
    assert_eq!(agent.live().ledger.enforced, number);
}

#[test]
fn a_disk_that_refuses_keeps_no_grant_in_force_and_lets_none_begin() {
    let (world, agent) = world();
    assert!(hand_in(&agent, note(&asked(), TWO)).done);
    world.faults.arm(0, Fault::RefuseOn(libc::ENOSPC));
    let other = Grant { id: "a".repeat(32), ..asked() };
    assert!(grant(&agent, &Request { note: note(&other, TWO) }).is_err());
    assert_eq!(in_force(&agent), [ID]);
    let answer = revoke(&agent, &Revocation { id: ID.to_owned(), reason: None }).unwrap();
    assert!(answer.done && answer.notes[0].contains("a restart would let it run again"), "{answer:?}");
    assert_eq!(in_force(&agent), Vec::<String>::new());
    world.faults.clear();
    keep_up(&agent);
    drop(agent);
    // By then it is on disk.
    let agent = world.started();
    assert_eq!((in_force(&agent), standing(&agent)), (Vec::new(), vec![(Standing::Revoked, None)]));
}

#[test]
fn a_start_with_a_clock_that_is_behind_runs_nothing_that_is_over() {
    for is_in_time in [false, true] {
        let mut world = World::new();
        fs::write(&world.setup.config.policy, policy(ACLS).text()).unwrap();
        let in_time: fn() -> bool = if is_in_time { || true } else { || false };
        world.setup.options.grants = Arc::new(Grants::default().with_clock(in_time));
        let agent = world.started();
        assert!(hand_in(&agent, note(&asked(), TWO)).done);
        drop(agent);
        // As an agent has left it that ran until the grant was over, and whose clock was kept in time.
        let file = world.setup.paths.state.join("grants.json");
        let mut kept: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        assert_eq!(kept["latest"].as_i64().unwrap() != 0, is_in_time, "only such a clock is noted");
        kept["latest"] = (now() + 601).into();
        fs::write(&file, kept.to_string()).unwrap();
        let agent = world.started();
        let expected: &[&str] = if is_in_time { &[ID] } else { &[] };
        assert_eq!(in_force(&agent), expected, "a clock that is in time is believed");
        keep_up(&agent);
        let standings = if is_in_time { Standing::Running } else { Standing::Expired };
        assert_eq!(standing(&agent), [(standings, None)]);
        if !is_in_time {
            let late = Grant { id: "a".repeat(32), ..asked() };
            is_refused(&agent, note(&late, TWO), "it was good until");
        }
    }
}

#[test]
fn a_grant_is_revoked_where_the_kept_files_are_gone() {
    let (world, agent) = world();
    assert!(hand_in(&agent, note(&asked(), TWO)).done);
    let number = agent.live().ledger.enforced;
    fs::remove_file(world.setup.paths.state.join(format!("generation-{number}/policy"))).unwrap();
    world.faults.arm(usize::MAX, Fault::Crash);
    let answer = revoke(&agent, &Revocation { id: ID.to_owned(), reason: None }).unwrap();
    let taken = world.faults.taken();
    world.faults.clear();
    assert!(taken.contains(&"write deadlines"), "the kernel ends it: {taken:?}");
    let words = "no packet passes by it any more: `bulkhead apply` the policy";
    assert!(answer.done && answer.notes[0].contains(words), "{answer:?}");
    // Status says so until it is done, over whatever is tried again.
    keep_up(&agent);
    assert!(agent.setup.options.grants.problem().unwrap().contains(words));
    assert_eq!(standing(&agent), [(Standing::Revoked, None)]);
    assert!(enforcement::apply(&agent, &Asked::default()).unwrap().applied);
    keep_up(&agent);
    assert_eq!((in_force(&agent), agent.setup.options.grants.problem()), (Vec::new(), None));
}

#[test]
fn what_another_agent_has_revoked_before_it_gave_the_lock_back_is_known() {
    let (world, agent) = world();
    assert!(hand_in(&agent, note(&asked(), TWO)).done);
    let early = Grants::open(&world.store());
    assert!(early.reopened(&world.store()).is_none());
    assert!(revoke(&agent, &Revocation { id: ID.to_owned(), reason: None }).unwrap().done);
    let late = early.reopened(&world.store()).unwrap();
    assert_eq!(late.entries(now())[0].standing, Standing::Revoked);
}

#[test]
fn what_is_out_of_force_does_not_run_again_after_a_crash() {
    let before = std::cell::Cell::new(0);
    let running = |world: &World| {
        fs::write(&world.setup.config.policy, policy(ACLS).text()).unwrap();
        let agent = world.started();
        assert!(hand_in(&agent, note(&asked(), TWO)).done);
        before.set(agent.live().ledger.enforced);
        agent
    };
    let revocation = Revocation { id: ID.to_owned(), reason: None };
    let steps = crash_everywhere(
        running,
        |_, agent| assert!(revoke(&agent, &revocation).unwrap().done),
        |world, _| {
            let was_out = generations(&world.fake.now()).into_iter().any(|number| number > before.get());
            let agent = world.started();
            keep_up(&agent);
            let runs = in_force(&agent) == [ID];
            assert_eq!(runs, standing(&agent)[0].0 == Standing::Running);
            assert!(!(was_out && runs), "a packet passes again");
        },
    );
    assert!(steps > 40, "{steps}");
}
