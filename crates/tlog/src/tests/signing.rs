use std::fs;

use super::{entry, grow, open, told};
use crate::{
    Algorithm, COSIGNED, Checked, Error, Note, Reader, SignerKey, Trust, VerifierKey, cosign, verify,
};

#[test]
fn keys_are_those_of_go() {
    // From the documentation of golang.org/x/mod/sumdb/note.
    let secret = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
    let public = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    let key = SignerKey::parse(secret).unwrap();
    assert_eq!((key.secret().as_str(), key.public().to_string().as_str()), (secret, public));
    let mut note = Note::new("If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n".to_owned());
    note.sign(&key, 0);
    let signature = "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
    assert!(note.to_string().ends_with(signature), "{note}");
    let key = VerifierKey::parse(public).unwrap();
    assert_eq!(Note::parse(&note.to_string()).unwrap().require(std::slice::from_ref(&key)).unwrap(), [&key]);
    for wrong in ["", "PeterNeumann", "PeterNeumann+c74f20a4+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"] {
        assert!(matches!(VerifierKey::parse(wrong), Err(Error::Key(_))), "{wrong}");
    }
}

#[test]
fn a_malformed_note_is_refused_with_its_line() {
    for (note, expected) in [
        ("text\n", "signed note, line 1: no empty line"),
        ("text\n\n— name AAAAAAAA", "signed note, line 3: does not end with a newline"),
        ("a\nb\n\n— name AAAAAAAA\n- name AAAAAAAA\n", "signed note, line 5: no signature"),
        ("text\n\n— name AAAA\n", "signed note, line 3: no signature"),
    ] {
        let told = Note::parse(note).unwrap_err().to_string();
        assert!(told.starts_with(expected), "{told}");
    }
}

#[test]
fn a_new_key_follows_from_the_old_one() {
    let directory = tempfile::tempdir().unwrap();
    let (mut log, _) = open(directory.path());
    grow(&mut log, 300);
    log.checkpoint().unwrap();
    log.prune(256).unwrap();
    let first = log.verifier_key().clone();
    let second = log.rotate_key().unwrap();
    let whole = |key: &VerifierKey| {
        let keys = [key.clone()];
        told(&verify(directory.path(), &Trust { keys: &keys, ..Trust::default() }).unwrap())
    };
    assert_eq!((log.signed().size, whole(&first), whole(&second)), (301, vec![], vec![]));
    log.append(&entry(301)).unwrap();
    log.checkpoint().unwrap();
    let third = log.rotate_key().unwrap();
    drop(log);
    let (log, _) = open(directory.path());
    assert_eq!((log.verifier_key(), log.size()), (&third, 303));
    for key in [&first, &second, &third] {
        assert_eq!(whole(key), [""; 0]);
    }
    let reader = Reader::open(directory.path()).unwrap();
    let statement = Note::parse(&String::from_utf8(reader.entry(302).unwrap()).unwrap()).unwrap();
    assert_eq!(statement.require(std::slice::from_ref(&second)).unwrap(), [&second]);
    // Without the statements the old key does not reach the new one.
    fs::remove_dir_all(directory.path().join("rotations")).unwrap();
    assert!(!whole(&first).is_empty());
}

#[test]
fn an_interrupted_rotation_is_completed_or_forgotten() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name| directory.path().join(name);
    let (mut log, _) = open(directory.path());
    let old = fs::read(path("key")).unwrap();
    let new = log.rotate_key().unwrap();
    drop(log);
    // As it was when both had signed.
    fs::rename(path("key"), path("key.next")).unwrap();
    fs::write(path("key"), &old).unwrap();
    fs::remove_dir_all(path("rotations")).unwrap();
    let (log, _) = open(directory.path());
    assert_eq!(log.verifier_key(), &new);
    assert!(path("rotations").join("0").exists() && !path("key.next").exists());
    drop(log);
    // As it was before the new one had signed.
    let stranger = SignerKey::generate("bulkhead/test", Algorithm::Ed25519).unwrap();
    fs::write(path("key.next"), stranger.secret()).unwrap();
    let (log, _) = open(directory.path());
    assert_eq!(log.verifier_key(), &new);
    assert!(!path("key.next").exists());
}

#[test]
fn cosignatures_of_known_witnesses_are_taken_over() {
    let directory = tempfile::tempdir().unwrap();
    let (mut log, _) = open(directory.path());
    grow(&mut log, 10);
    log.checkpoint().unwrap();
    let witness = SignerKey::generate("witness.example", Algorithm::Cosignature).unwrap();
    let other = SignerKey::generate("other.example", Algorithm::Cosignature).unwrap();
    let witnesses = [witness.public().clone()];
    let mut note = log.note().unwrap();
    note.sign(&other, 1_790_000_000);
    assert!(matches!(cosign(directory.path(), &note, &witnesses), Err(Error::Unsigned(_))));
    note.sign(&witness, 1_790_000_000);
    assert_eq!(cosign(directory.path(), &note, &witnesses).unwrap(), ["witness.example"]);
    let keys = [log.verifier_key().clone()];
    let trust = Trust { keys: &keys, witnesses: &witnesses, ..Trust::default() };
    let report = verify(directory.path(), &trust).unwrap();
    assert_eq!((told(&report), report.witnesses), (vec![], vec!["witness.example".to_owned()]));
    let kept = fs::read_to_string(directory.path().join(COSIGNED)).unwrap();
    assert!(!kept.contains("other.example"), "{kept}");
    // Another time than was signed.
    let line = note.to_string().lines().last().unwrap().to_owned();
    let altered = note.to_string().replace(&line, &line.replace("AABqs", "AABqt"));
    assert_ne!(altered, note.to_string());
    let refused = cosign(directory.path(), &Note::parse(&altered).unwrap(), &witnesses);
    assert!(matches!(refused, Err(Error::BadSignature(_))), "{refused:?}");
    // The log went on: the earlier checkpoint is kept beside it.
    grow(&mut log, 20);
    log.checkpoint().unwrap();
    cosign(directory.path(), &note, &witnesses).unwrap();
    let kept = Note::parse(&fs::read_to_string(directory.path().join("cosigned")).unwrap()).unwrap();
    assert_eq!(kept.require(&witnesses).unwrap().len(), 1);
    assert_eq!(kept.require(&keys).unwrap().len(), 1);
    assert!(log.note().unwrap().signers(&witnesses).unwrap().is_empty());
    let report = verify(directory.path(), &trust).unwrap();
    assert_eq!((told(&report), report.witnesses), (vec![], vec!["witness.example".to_owned()]));
    fs::remove_file(directory.path().join("cosigned")).unwrap();
    let report = verify(directory.path(), &trust).unwrap();
    assert_eq!(
        (told(&report).len(), report.witnesses),
        (1, vec![]),
        "a witness that signed nothing shows nothing"
    );
}

/// Who has the old key, or had it, cannot go on with it.
#[test]
fn a_key_that_was_handed_on_signs_no_later_checkpoint() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let (mut log, _) = open(directory.path());
    grow(&mut log, 10);
    log.checkpoint().unwrap();
    let stolen = SignerKey::parse(&log.key.secret()).unwrap();
    let before = log.note().unwrap();
    let new = log.rotate_key().unwrap();
    let keys = [stolen.public().clone()];
    let both = [stolen.public().clone(), new];
    grow(&mut log, 20);
    log.checkpoint().unwrap();
    let anchors = [before];
    for keys in [&keys[..], &both, &both[1..]] {
        let report = verify(directory.path(), &Trust { keys, ..Trust::default() }).unwrap();
        assert_eq!(told(&report), [""; 0]);
    }
    let trust = Trust { keys: &keys, anchors: &anchors, ..Trust::default() };
    assert_eq!(told(&verify(directory.path(), &trust).unwrap()), [""; 0], "a checkpoint of its time counts");
    let mut forged = Note::new(log.note().unwrap().text().to_owned());
    forged.sign(&stolen, 0);
    // Nor is one that was kept to be believed.
    let later = [forged.clone()];
    let trust = Trust { keys: &keys, anchors: &later, ..Trust::default() };
    assert_eq!(verify(directory.path(), &trust).unwrap().faults.len(), 1);
    fs::write(path("checkpoint"), forged.to_string()).unwrap();
    for keys in [&keys[..], &both] {
        let faults = told(&verify(directory.path(), &Trust { keys, ..Trust::default() }).unwrap());
        assert!(faults.len() == 1 && faults[0].contains("no signature by any"), "{faults:?}");
        assert!(Checked::open(directory.path(), keys).is_err());
    }
    // Without the statement beside it, the one in the log says so.
    fs::remove_file(path("rotations/10")).unwrap();
    let faults = told(&verify(directory.path(), &Trust { keys: &keys, ..Trust::default() }).unwrap());
    assert_eq!(faults, ["rotations/10: is missing, and entry 10 hands the log on to a new key"]);
}

#[test]
fn a_statement_is_the_entry_that_its_name_says() {
    let directory = tempfile::tempdir().unwrap();
    let (mut log, _) = open(directory.path());
    grow(&mut log, 10);
    log.checkpoint().unwrap();
    let old = SignerKey::parse(&log.key.secret()).unwrap();
    log.rotate_key().unwrap();
    grow(&mut log, 20);
    log.checkpoint().unwrap();
    let thief = SignerKey::generate("bulkhead/test", Algorithm::Ed25519).unwrap();
    let statement = crate::statement::rotation(&old, thief.public()).to_string();
    fs::write(directory.path().join("rotations/7"), statement).unwrap();
    let keys = [old.public().clone(), log.verifier_key().clone()];
    let faults = told(&verify(directory.path(), &Trust { keys: &keys, ..Trust::default() }).unwrap());
    assert_eq!(faults, ["rotations/7: is not what entry 7 says"]);
    // One of a place that the log has not got yet is not followed.
    fs::rename(directory.path().join("rotations/7"), directory.path().join("rotations/99")).unwrap();
    assert_eq!(told(&verify(directory.path(), &Trust { keys: &keys, ..Trust::default() }).unwrap()), [""; 0]);
}

#[test]
fn of_each_witness_the_last_cosignature_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let (mut log, _) = open(directory.path());
    let signers =
        ["a.example", "b.example"].map(|name| SignerKey::generate(name, Algorithm::Cosignature).unwrap());
    let witnesses = signers.each_ref().map(|key| key.public().clone());
    let mut sign = |witness: usize, count| {
        grow(&mut log, count);
        log.checkpoint().unwrap();
        let mut note = log.note().unwrap();
        let mut answer = note.clone();
        answer.sign(&signers[witness], count);
        let lines = answer.to_string();
        note.add_signatures(lines.lines().last().unwrap()).unwrap();
        cosign(directory.path(), &note, &witnesses).unwrap();
    };
    // The second is away after the first round, and comes back.
    for (witness, size) in [(0, 10), (1, 10), (0, 20), (0, 30)] {
        sign(witness, size);
    }
    let sizes = || {
        let notes = Note::parse_all(&fs::read_to_string(directory.path().join(COSIGNED)).unwrap()).unwrap();
        let size = |note: &Note| note.text().lines().nth(1).unwrap().to_owned();
        notes.iter().map(|note| (size(note), note.signers(&witnesses).unwrap().len())).collect::<Vec<_>>()
    };
    assert_eq!(sizes(), [("10".to_owned(), 1), ("30".to_owned(), 1)]);
    let keys =
        [VerifierKey::parse(fs::read_to_string(directory.path().join("vkey")).unwrap().trim()).unwrap()];
    let trust = Trust { keys: &keys, witnesses: &witnesses, ..Trust::default() };
    let report = verify(directory.path(), &trust).unwrap();
    assert_eq!((told(&report), report.witnesses.len()), (vec![], 2));
    sign(1, 30);
    assert_eq!(sizes(), [("30".to_owned(), 2)]);
    fs::write(directory.path().join(COSIGNED), "half of a").unwrap();
    assert_eq!(told(&verify(directory.path(), &trust).unwrap()).len(), 3, "the file, and both witnesses");
    sign(1, 40);
    assert_eq!(sizes(), [("40".to_owned(), 1)]);
}

#[test]
fn witnesses_that_answer_at_the_same_time_are_all_kept() {
    let directory = tempfile::tempdir().unwrap();
    let (mut log, _) = open(directory.path());
    grow(&mut log, 10);
    log.checkpoint().unwrap();
    let note = log.note().unwrap();
    let signers = ["a", "b", "c"].map(|name| SignerKey::generate(name, Algorithm::Cosignature).unwrap());
    let witnesses = signers.each_ref().map(|key| key.public().clone());
    std::thread::scope(|scope| {
        for (signer, witness) in signers.iter().zip(&witnesses) {
            let (note, directory) = (&note, directory.path());
            scope.spawn(move || {
                for time in 0..30 {
                    let mut note = note.clone();
                    note.sign(signer, time);
                    cosign(directory, &note, std::slice::from_ref(witness)).unwrap();
                }
            });
        }
    });
    let kept = Note::parse_all(&fs::read_to_string(directory.path().join(COSIGNED)).unwrap()).unwrap();
    assert_eq!((kept.len(), kept[0].signers(&witnesses).unwrap().len()), (1, 3));
    assert_eq!(kept[0].to_string().lines().count(), 4 + 1 + 3, "one signature each, and the log's");
}

#[test]
fn notes_that_follow_one_another_are_told_apart() {
    let key = SignerKey::generate("log", Algorithm::Ed25519).unwrap();
    let note = |text: &str, signatures: usize| {
        let mut note = Note::new(text.to_owned());
        (0..signatures).for_each(|_| note.sign(&key, 0));
        note
    };
    let notes = [note("a\n\nb\n", 1), note("log\n", 3), note("\n", 1)];
    let text: String = notes.iter().map(Note::to_string).collect();
    assert_eq!(Note::parse_all(&text).unwrap(), notes);
    assert!(Note::parse_all("").unwrap().is_empty());
    for cut in 1..text.len() {
        if let Some(text) = text.get(..cut)
            && let Ok(read) = Note::parse_all(text)
        {
            assert_eq!(read.iter().map(Note::to_string).collect::<String>(), text, "cut at {cut}");
        }
    }
}

#[test]
fn a_witness_of_another_tree_is_a_witness_of_nothing() {
    let (directory, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (mut log, _) = open(directory.path());
    fs::copy(directory.path().join("key"), other.path().join("key")).unwrap();
    let (mut fork, _) = open(other.path());
    grow(&mut log, 300);
    log.checkpoint().unwrap();
    (0..200).for_each(|_| assert!(fork.append(b"another").is_ok()));
    fork.checkpoint().unwrap();
    let witness = SignerKey::generate("witness", Algorithm::Cosignature).unwrap();
    let (keys, witnesses) = ([log.verifier_key().clone()], [witness.public().clone()]);
    let mut note = fork.note().unwrap();
    note.sign(&witness, 1);
    assert!(matches!(cosign(directory.path(), &note, &witnesses), Err(Error::Proof(_))));
    fs::write(directory.path().join("cosigned"), note.to_string()).unwrap();
    let trust = Trust { keys: &keys, witnesses: &witnesses, ..Trust::default() };
    let report = verify(directory.path(), &trust).unwrap();
    let expected = ["checkpoint: the witness witness has signed no checkpoint that the log continues"];
    assert_eq!((told(&report), report.witnesses.len()), (expected.map(str::to_owned).to_vec(), 0));
    // It is beyond the log.
    (0..200).for_each(|_| assert!(fork.append(b"another").is_ok()));
    fork.checkpoint().unwrap();
    let mut note = fork.note().unwrap();
    note.sign(&witness, 1);
    fs::write(directory.path().join("cosigned"), note.to_string()).unwrap();
    assert_eq!(told(&verify(directory.path(), &trust).unwrap()), expected);
}
