use std::path::Path;

use bulkhead_grants::SecretKey;

use super::tests::{is_refused, parse};

fn line(seed: u8) -> String {
    format!("\"{}\"", SecretKey::from_seed(&[seed; 32]).public())
}

fn section(threshold: &str, keys: &str) -> String {
    format!("[trust]\nthreshold = {threshold}\n[trust.keys]\n{keys}")
}

#[test]
fn who_must_sign_is_read() {
    assert!(parse("").unwrap().trust.is_none());
    let text = section("2", &format!("alice = [{}]\nbob = [{}, {}]\n", line(1), line(2), line(3)));
    let trust = parse(&text).unwrap().trust.unwrap();
    assert_eq!((trust.threshold, trust.people.all().len()), (2, 2));
    assert_eq!(trust.people.all()[1].keys.len(), 2);
    assert_eq!(trust.note(Path::new("/etc/p.hujson")), Path::new("/etc/p.hujson.note"));
    let named = text.replacen("threshold", "note = \"x.note\"\nthreshold", 1);
    let trust = parse(&named).unwrap().trust.unwrap();
    assert_eq!(trust.note(Path::new("/etc/p.hujson")), Path::new("/etc/bulkhead/x.note"), "beside the file");
}

#[test]
fn what_would_ask_for_nothing_or_for_too_much_is_refused() {
    let one = format!("alice = [{}]\n", line(1));
    for threshold in ["0", "-1", "2"] {
        is_refused(&section(threshold, &one), "2:13", "threshold is a whole number from 1 to 1");
    }
    is_refused(&section("1", "alice = [\"ssh-rsa AAAA\"]\n"), "4:10", "a key of type ssh-rsa is not taken");
    is_refused(&section("1", "alice = []\n"), "2:13", "alice has no key");
    let both = format!("{one}bob = [{}]\n", line(1));
    is_refused(&section("2", &both), "2:13", "have the same key");
    let none = parse("[trust]\nthreshold = 1\n").unwrap_err();
    assert!(none.contains("keys"), "{none}");
}
