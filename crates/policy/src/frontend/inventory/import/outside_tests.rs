//! Who is not of this tailnet, and what policies call who is.

use super::tests::{NODES, machine, merged, source, status};
use super::*;
use crate::frontend::inventory::Inventory;
use crate::frontend::source::Source;

/// A machine whose name is outside of the tailnet's suffix.
fn theirs(number: u8, name: &str, user: u8, more: &str) -> String {
    machine(number, name, user, more).replace("tail1234", "tail9999")
}

fn imported(list: &[String]) -> (String, Inventory, Findings) {
    let mut findings = Findings::default();
    let (text, read) = merged(tailscale(&source(&status(list)), &mut findings), None, &mut findings);
    assert!(!findings.has_errors(), "{findings}");
    (text, read, findings)
}

#[test]
fn those_with_whom_we_share_are_shared_and_what_is_shared_with_us_is_jailed() {
    let sharee = r#", "ShareeNode": true, "Tags": ["tag:admin"]"#;
    let (text, read, findings) = imported(&[
        machine(1, "alice", 1, ""),
        machine(2, "carol", 2, sharee).replace("tail1234", "tail7"),
        theirs(3, "box", 3, r#", "Tags": ["tag:srv"]"#),
        theirs(4, "nas", 2, ""),
        // A device of a member's in another tailnet is not meant where the member is.
        theirs(5, "second", 1, r#", "ShareeNode": true"#),
        theirs(6, "third", 1, ""),
        machine(7, "nameless", 2, r#", "ShareeNode": true"#).replace("nameless.tail1234.ts.net.", ""),
    ]);
    let of = |name: &str| {
        let node = read.node(name).unwrap_or_else(|| panic!("{name}: {text}"));
        (node.owner.clone(), node.jailed)
    };
    let (carol, nobody) = (Owner::User("carol@other.example".into()), Owner::Tags(Vec::new()));
    assert_eq!(of("alice"), (Owner::User("alice@example.com".into()), false));
    assert_eq!(of("carol.tail7.ts.net"), (carol.clone(), false));
    assert_eq!(of("nameless (carol@other.example)"), (carol, false));
    assert_eq!(of("second.tail9999.ts.net"), (nobody.clone(), false));
    for name in ["box", "nas", "third"] {
        assert_eq!(of(&format!("{name}.tail9999.ts.net")), (nobody.clone(), true), "{name}");
    }
    let users = read.users.as_ref().unwrap();
    let roles: Vec<(&str, bool)> = users.iter().map(|user| (&*user.login, user.is_outsider())).collect();
    assert_eq!(roles, [("alice@example.com", false), ("carol@other.example", true)]);
    let told: Vec<&str> = findings.0.iter().map(|finding| finding.message.as_str()).collect();
    let jailed = "3 machines that are not of this tailnet are jailed: as in Tailscale they may answer, and start \
                  nothing: box.tail9999.ts.net, nas.tail9999.ts.net, third.tail9999.ts.net";
    assert_eq!(told[0], jailed);
    assert!(
        told.len() == 2 && told[1].starts_with("second.tail9999.ts.net is alice@example.com's"),
        "{told:?}"
    );
}

#[test]
fn exits_of_mullvad_are_jailed_in_one_note_that_is_short() {
    let exit = |number: u8| {
        let more = r#", "Tags": ["tag:mullvad-exit-node"], "ExitNodeOption": true"#;
        machine(number, &format!("wg-{number}"), 3, more).replace("tail1234", "mullvad")
    };
    let mut list = vec![machine(1, "alice", 1, "")];
    list.extend((2..200).map(exit));
    let (_, read, findings) = imported(&list);
    assert_eq!(read.nodes.iter().filter(|node| node.jailed && node.routes.len() == 2).count(), 198);
    let [note] = &findings.0[..] else { panic!("{findings}") };
    assert!(note.message.starts_with("198 machines") && note.message.ends_with(", 190 more"), "{note}");
    assert!(note.message.len() < 500, "{note}");
}

#[test]
fn whose_a_machine_is_shows_without_a_suffix_too() {
    let list = [machine(1, "alice", 1, ""), machine(2, "bob", 2, ""), theirs(3, "nas", 2, "")];
    let exit = machine(4, "wg", 3, r#", "Tags": ["tag:mullvad-exit-node"]"#);
    let status = status(&[&list[..], &[exit]].concat());
    // The node's own name has the suffix; exits of Mullvad carry its tag.
    for (text, jailed) in [
        (
            status.replace(r#""MagicDNSSuffix": "tail1234.ts.net", "#, ""),
            ["nas.tail9999.ts.net", "wg.tail1234.ts.net"],
        ),
        (
            status.replace(r#""MagicDNSSuffix": "tail1234.ts.net", "#, r#""MagicDNSSuffix": "","#),
            ["nas.tail9999.ts.net", "wg.tail1234.ts.net"],
        ),
        (
            status.replace(r#"Suffix": "tail1234.ts.net", "#, r#"Suffix": "TAIL1234.ts.net","#),
            ["nas.tail9999.ts.net", "wg.tail1234.ts.net"],
        ),
    ] {
        let mut findings = Findings::default();
        let (_, read) = merged(tailscale(&source(&text), &mut findings), None, &mut findings);
        let found: Vec<&str> =
            read.nodes.iter().filter(|node| node.jailed).map(|node| node.name.as_str()).collect();
        assert_eq!(found, jailed);
    }
}

#[test]
fn who_is_jailed_stays_so_until_the_list_says_otherwise() {
    let (text, ..) = imported(&[machine(1, "alice", 1, ""), theirs(2, "nas", 2, "")]);
    let key = text.split("\"key\": \"").nth(2).and_then(|rest| rest.split('"').next()).unwrap().to_owned();
    let dump = format!("x\t{key}\t1\toff\n");
    let names = format!("{{\"{key}\": \"nas\"}}");
    let mut findings = Findings::default();
    let import = wireguard(&source(&dump), &Source::new("names", &names), &mut findings);
    let (_, read) = merged(import, Some(&text), &mut findings);
    assert!(read.node("nas").unwrap().jailed, "a dump does not tell");
    let import =
        tailscale(&source(&status(&[machine(1, "alice", 1, ""), machine(2, "nas", 1, "")])), &mut findings);
    let (_, read) = merged(import, Some(&text), &mut findings);
    assert!(!read.node("nas").unwrap().jailed);
}

#[test]
fn users_of_headscale_are_called_by_name_and_by_address() {
    let mut findings = Findings::default();
    let provided = NODES.replace(r#""provider": "oidc""#, r#""provider_id": "https://sso/abc""#);
    let (text, read) = merged(headscale(&source(&provided), &mut findings), None, &mut findings);
    let users: Vec<(&str, Vec<&str>)> = read
        .users
        .iter()
        .flatten()
        .map(|user| (&*user.login, user.aliases.iter().map(String::as_str).collect()))
        .collect();
    assert_eq!(users, [("bob@example.com", vec!["bob@", "https://sso/abc@"]), ("carol@", vec![])]);
    // Again changes nothing.
    let (again, _) = merged(headscale(&source(&provided), &mut findings), Some(&text), &mut findings);
    assert_eq!(again, text);
    // A name of two users means neither.
    let two = NODES.replace(r#""name": "carol"}"#, r#""name": "Bob", "email": "bob@other.example"}"#);
    let mut findings = Findings::default();
    let (_, read) = merged(headscale(&source(&two), &mut findings), None, &mut findings);
    assert!(read.users.iter().flatten().all(|user| user.aliases.is_empty()));
    assert!(
        matches!(&findings.0[..], [note] if note.message.starts_with("bob@ would mean more than one")),
        "{findings}"
    );
    // By hand, that is an error.
    for users in [
        r#"{"login": "a@x.y", "aliases": ["b@"]}, {"login": "c@x.y", "aliases": ["B@"]}"#,
        r#"{"login": "b@"}, {"login": "c@x.y", "aliases": ["b@"]}"#,
    ] {
        let mut findings = Findings::default();
        let text = format!("{{\"nodes\": [], \"users\": [{users}]}}");
        crate::frontend::inventory::parse(&Source::new("i", &text), &mut findings);
        assert!(
            matches!(&findings.0[..], [error] if error.message.starts_with("\"b@\" means ")),
            "{findings}"
        );
    }
}

#[test]
fn a_status_without_peers_is_noted() {
    for peers in ["null", "{}"] {
        let text =
            status(&[machine(1, "alice", 1, "")]).replace("\"Peer\": {}", &format!("\"Peer\": {peers}"));
        let mut findings = Findings::default();
        let (_, read) = merged(tailscale(&source(&text), &mut findings), None, &mut findings);
        assert_eq!(read.nodes.len(), 1);
        assert!(
            matches!(&findings.0[..], [note] if note.help.as_deref() == Some("leave out --peers=false")),
            "{findings}"
        );
    }
}
