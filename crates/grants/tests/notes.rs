//! Whose signatures a note has, and what is refused, each with its own reason.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod common;

use bulkhead_grants::{Error, Grant, MAX_BYTES, Note, People, Person, SecretKey, Window};
use common::{Device, device, grant, key, person, signed};

const NOW: i64 = 1_790_000_000;

fn quorum(note: &Note, people: &People) -> Result<Vec<String>, Error> {
    people.quorum(note, 2, None, Some("alice"))
}

fn people() -> People {
    let two = Person { name: "bob".to_owned(), keys: vec![key(2).public(), key(22).public()] };
    let dora = Person { name: "dora".to_owned(), keys: vec![device(4).public()] };
    People::new(vec![person("alice", 1), two, person("carol", 3), dora]).unwrap()
}

fn why(result: Result<Vec<String>, Error>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn two_different_people_are_two() {
    let note = signed(&[("bob", 2), ("carol", 3)]);
    assert_eq!(quorum(&note, &people()).unwrap(), ["bob", "carol"]);
    // As it travels.
    let again = Note::parse(note.to_string().as_bytes()).unwrap();
    assert_eq!(again, note);
    // A signature of somebody whom nobody knows takes nothing away.
    let note = signed(&[("mallory", 9), ("bob", 2), ("carol", 3)]);
    assert_eq!(quorum(&note, &people()).unwrap(), ["bob", "carol"]);
}

#[test]
fn too_few_people_are_told_what_does_not_count() {
    let says = |signers: &[(&str, u8)]| why(quorum(&signed(signers), &people()));
    assert_eq!(says(&[("bob", 2)]), "1 of 2 signatures: others have to sign as well");
    assert_eq!(
        says(&[("alice", 1), ("bob", 2)]),
        "1 of 2 signatures: alice has asked for it, and cannot approve it"
    );
    assert_eq!(
        says(&[("bob", 2), ("bob", 22)]),
        "1 of 2 signatures: bob signed with more than one key, and is one person"
    );
    assert_eq!(says(&[("bob", 2), ("mallory", 9)]), "1 of 2 signatures: nobody here knows mallory");
    assert_eq!(
        says(&[("bob", 2), ("carol", 9)]),
        "1 of 2 signatures: carol signed with a key that is not known here"
    );
    let only = people().quorum(&signed(&[("bob", 2), ("carol", 3)]), 2, Some(&["bob"]), None);
    assert_eq!(why(only), "1 of 2 signatures: carol may not approve this");
    // The same key again replaces what it made before.
    let mut note = signed(&[("bob", 2)]);
    key(2).sign(&mut note, "bob").unwrap();
    assert_eq!(note.signatures().len(), 1);
}

#[test]
fn a_signature_under_another_name_is_none() {
    // Bob's signature, under Carol's name: the name is part of what identifies the key.
    let mut note = signed(&[("bob", 2)]);
    let mut other = note.signatures()[0].clone();
    other.name = "carol".to_owned();
    note.add(other.clone());
    assert!(why(quorum(&note, &people())).contains("carol signed with a key that is not known here"));
    // With the identifier of her own key it is a wrong signature.
    let mut note = signed(&[("bob", 2)]);
    other.id = key(3).public().id("carol");
    note.add(other);
    assert_eq!(quorum(&note, &people()).unwrap_err(), Error::BadSignature { name: "carol".to_owned() });
}

#[test]
fn who_asks_does_not_count_however_the_name_is_written() {
    let note = signed(&[("bob", 2), ("carol", 3)]);
    let error = people().quorum(&note, 2, None, Some("Bob")).unwrap_err().to_string();
    assert!(error.contains("bob has asked for it"), "{error}");
}

#[test]
fn a_copied_line_is_refused() {
    let note = signed(&[("bob", 2)]).to_string();
    let line = note.lines().last().unwrap();
    let error = Note::parse(format!("{note}{line}\n").as_bytes()).unwrap_err();
    assert_eq!(error, Error::Copied { name: "bob".to_owned(), line: 13 });
}

#[test]
fn signatures_do_not_fit_another_text() {
    let note = signed(&[("bob", 2), ("carol", 3)]).to_string();
    for (from, to) in [(":22", ":23"), ("tag:sre", "tag:src"), ("OPS-1", "OPS-2"), ("08:00:00", "08:00:01")] {
        let other = note.replacen(from, to, 1);
        assert_ne!(other, note);
        let other = Note::parse(other.as_bytes()).unwrap();
        assert_eq!(quorum(&other, &people()).unwrap_err(), Error::BadSignature { name: "bob".to_owned() });
    }
}

#[test]
fn what_is_no_note_is_refused_with_its_place() {
    let says = |bytes: &[u8]| Note::parse(bytes).unwrap_err().to_string();
    let note = signed(&[("bob", 2)]).to_string();
    assert!(says(b"").starts_with("line 1: no empty line"));
    assert!(says(b"garbage").starts_with("line 1: no empty line"));
    assert_eq!(says(b"a\n\xff\n\n"), "line 2: no UTF-8 text: no signed note");
    assert_eq!(says(b"a\n\x1b[2J\n\n"), "line 2: a control character: no signed note");
    assert_eq!(says(note.trim_end().as_bytes()), "line 12: does not end with a newline; is it cut short?");
    assert!(says(format!("{note}bob\n").as_bytes()).starts_with("line 13: no signature"));
    assert!(says(note.replace("— bob ", "— bob").as_bytes()).starts_with("line 12: no signature"));
    assert_eq!(says(&vec![b'x'; 1 << 20]), "it is longer than 16384 bytes: no note of a grant or a policy");
    let most = "x".repeat(MAX_BYTES - 2) + "\n\n";
    assert!(Note::parse(most.as_bytes()).is_ok() && Note::parse((most + "x").as_bytes()).is_err());
}

#[test]
fn a_grant_s_text_is_read_as_it_was_written() {
    let grant = grant();
    let text = grant.text().unwrap();
    assert_eq!(Grant::parse(&text).unwrap(), grant);
    let glass = Grant { break_glass: true, ..grant.clone() };
    assert!(Grant::parse(&glass.text().unwrap()).unwrap().break_glass);
    let says = |from: &str, to: &str| Grant::parse(&text.replacen(from, to, 1)).unwrap_err().to_string();
    assert!(says("bulkhead-grant/v1", "bulkhead-policy/v1").contains("line 1: the note is not over a grant"));
    assert_eq!(says("id: ", "id "), "line 2: here stands `id: ` and what it is");
    assert!(says("id: 0", "id: X").contains("line 2: an id is 32"));
    assert!(says("requester: alice", "requester: al ice").contains("no name"));
    assert_eq!(says("to: tag:db:22", "to:  "), "line 5: `to` is empty, or has spaces around it");
    assert!(says("reason: a", "reason: \u{202e}a").contains("line 10: `reason` is no single line"));
    // One moment is written in one way, and nobody signs what is not seen.
    for time in [
        "2026-12-01T10:00:00+02:00",
        "2026-12-01T08:00:00+00:00",
        "2026-12-01t08:00:00z",
        "2026-12-01T08:00:00.000Z",
    ] {
        let from = text.lines().nth(6).unwrap();
        let error = says(from, &format!("not-before: {time}"));
        assert_eq!(error, format!("line 7: `{time}` is no time in UTC such as 2026-12-01T08:00:00Z"));
    }
    for hidden in "\u{ad}\u{34f}\u{61c}\u{115f}\u{17b4}\u{180e}\u{200b}\u{200d}\u{2028}\u{2060}\u{2064}\u{2800}\u{3000}\u{3164}\u{a0}\u{fe0f}\u{feff}\u{ffa0}\u{fffb}\u{e0041}\u{e0100}\u{f8ff}".chars() {
        let error = says("reason: a", &format!("reason: a{hidden}b"));
        assert!(error.contains("line 10: `reason` is no single line"), "{hidden:?}: {error}");
    }
    for seen in ["it's \"q\" \\ d", "Störung", "e\u{301}", "負荷", "проверка", "🔥"] {
        let read = Grant::parse(&text.replacen("reason: a", &format!("reason: {seen}"), 1));
        assert!(read.is_ok(), "{seen}: {read:?}");
    }
    assert!(says("not-after: 2026", "not-after: 2025").contains("line 8: it ends before it begins"));
    assert!(says("not-after: 2", "not-after: x").contains("line 8: `x"));
    assert_eq!(
        Grant::parse(&format!("{text}extra: 1\n")).unwrap_err().to_string(),
        "line 11: the text goes on where it should end"
    );
    // What would not be read is not written.
    let other = Grant { reason: "two\nlines".to_owned(), ..grant };
    assert!(other.text().is_err());
}

#[test]
fn a_grant_is_good_in_its_time_only() {
    let grant = Grant { window: Window { from: NOW, until: NOW + 3600 }, ..grant() };
    assert_eq!(grant.seconds(), 3600);
    assert!([-60, 0, 3599].into_iter().all(|after| grant.check_time(NOW + after).is_ok()));
    assert!(matches!(grant.check_time(NOW - 61), Err(Error::Early { .. })));
    assert!(matches!(grant.check_time(NOW + 3600), Err(Error::Expired { .. })));
}

#[test]
fn keys_and_names_are_one_person_s() {
    let twice = People::new(vec![person("alice", 1), person("bob", 1)]).unwrap_err().to_string();
    assert!(twice.starts_with("alice and bob have the same key, SHA256:"), "{twice}");
    // One private key in a file and in a device, or in two, is one person's.
    let forms = [key(1).public().clone(), device(1).public(), Device::new(1, "ssh:other").public()];
    for (one, other) in [(0, 1), (1, 2), (0, 2)] {
        let named =
            |name: &str, form: usize| Person { name: name.to_owned(), keys: vec![forms[form].clone()] };
        let error = People::new(vec![named("alice", one), named("bob", other)]).unwrap_err().to_string();
        assert!(error.starts_with("alice and bob have the same key"), "{error}");
    }
    assert!(People::new(vec![person("alice", 1), person("alice", 2)]).is_err());
    assert!(People::new(vec![Person { name: "alice".to_owned(), keys: Vec::new() }]).is_err());
    assert!(People::new(vec![person("al ice", 1)]).is_err());
}

#[test]
fn a_device_s_signature_counts_with_a_touch_only() {
    let device = device(4);
    let mut note = signed(&[("bob", 2)]);
    note.add(device.sign(&note, "dora", 1, 7));
    assert_eq!(quorum(&note, &people()).unwrap(), ["bob", "dora"]);
    let mut untouched = signed(&[("bob", 2)]);
    untouched.add(device.sign(&note, "dora", 0, 8));
    assert_eq!(quorum(&untouched, &people()).unwrap_err(), Error::Untouched { name: "dora".to_owned() });
    // Flags and counter are signed too.
    for changed in 0..5 {
        let mut note = signed(&[("bob", 2)]);
        let mut signature = device.sign(&note, "dora", 1, 7);
        signature.bytes[changed] ^= 4;
        note.add(signature);
        assert_eq!(quorum(&note, &people()).unwrap_err(), Error::BadSignature { name: "dora".to_owned() });
    }
    // Of another application it is another key.
    let mut note = signed(&[("bob", 2)]);
    let mut signature = Device::new(4, "ssh:other").sign(&note, "dora", 1, 7);
    signature.id = device.public().id("dora");
    note.add(signature);
    assert_eq!(quorum(&note, &people()).unwrap_err(), Error::BadSignature { name: "dora".to_owned() });
    // A signature as of a key in a file is none of a device's.
    let mut note = signed(&[("bob", 2)]);
    let mut plain = signed(&[("dora", 4)]).signatures()[0].clone();
    plain.id = device.public().id("dora");
    note.add(plain);
    assert!(quorum(&note, &people()).is_err());
}

#[test]
fn a_private_key_that_is_none_is_not_repeated() {
    for text in [
        "",
        "PRIVATE+KEY+secret",
        "-----BEGIN OPENSSH PRIVATE KEY-----\nsecret\n-----END OPENSSH PRIVATE KEY-----",
    ] {
        let error = SecretKey::parse(text).unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
    }
}

proptest::proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300), at in 0..400_usize) {
        let _ = Note::parse(&bytes);
        // Whatever is changed of a good note, two people have not signed it.
        let good = signed(&[("bob", 2), ("carol", 3)]).to_string().into_bytes();
        let mut changed = good.clone();
        let at = at % changed.len();
        changed[at] ^= bytes.first().copied().unwrap_or(1).max(1);
        if let Ok(note) = Note::parse(&changed) {
            let same = note.text().as_bytes() == signed(&[]).text().as_bytes();
            proptest::prop_assert!(same || quorum(&note, &people()).is_err());
        }
        let _ = Grant::parse(&String::from_utf8_lossy(&bytes));
    }
}
