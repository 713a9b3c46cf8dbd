//! The page says what is wrong, and nothing that a host says becomes a part of it.

use super::Host;
use crate::finding::{FindingKind, Findings, note};
use crate::node::Heard;
use crate::{Bundle, Denied, Fleet, Limits, Report, Review, Standing, State, Trouble, render};

const NOW: u64 = 1_800_000_000_000_000_000;

fn standing(node: &str, report: Report) -> Standing {
    let heard =
        Heard { node: node.to_owned(), made: NOW, heard: NOW - 5_000_000_000, records: 10, of: 10, report };
    Standing { node: node.to_owned(), records: 10, heard: Some(heard), findings: Findings::new() }
}

fn troubles(fleet: &Fleet, node: &str) -> Vec<Trouble> {
    let judged = fleet.nodes.iter().find(|judged| judged.standing.node == node).unwrap();
    judged.troubles.iter().map(|(trouble, _)| *trouble).collect()
}

#[test]
fn each_trouble_is_named() {
    let good = Host::new("x").report;
    let older = Report { policy: Bundle { version: Some(2), ..Bundle::default() }, ..good.clone() };
    let mut silent = standing("silent", good.clone());
    silent.heard.as_mut().unwrap().heard = NOW - 301_000_000_000;
    let mut forked = standing("forked", good.clone());
    note(&mut forked.findings, FindingKind::Fork, NOW, "rewritten".to_owned());
    let all = vec![
        standing("good", good.clone()),
        standing("behind", older),
        standing("audit", Report { state: State::Audit, ..good.clone() }),
        standing("open", Report { state: State::Detached, gaps: vec!["eth0".to_owned()], ..good.clone() }),
        standing("back", Report { rolled_back: Some(3), ..good.clone() }),
        standing("refusing", Report { refusal: Some("threshold".to_owned()), ..good.clone() }),
        standing("lone", Report { policy: Bundle::default(), ..good }),
        silent,
        forked,
        Standing { node: "mute".to_owned(), ..Standing::default() },
    ];
    let fleet = Fleet::judge(all, NOW, Limits::default());
    for (node, expected) in [
        ("good", &[][..]),
        ("behind", &[Trouble::Behind]),
        ("audit", &[Trouble::Unenforced]),
        ("open", &[Trouble::Unenforced]),
        ("back", &[Trouble::RolledBack]),
        ("refusing", &[Trouble::Refused]),
        ("lone", &[Trouble::Behind]),
        ("silent", &[Trouble::Silent]),
        ("forked", &[Trouble::Evidence]),
        ("mute", &[Trouble::Silent]),
    ] {
        assert_eq!(troubles(&fleet, node), expected, "{node}");
    }
    assert!(!fleet.is_well());
    assert_eq!(fleet.states["enforced"], 7);
    assert_eq!((fleet.denied[0].0.packets, fleet.denied[0].1), (9 * 12, 9));
    assert_eq!(fleet.policies[0].nodes, 7);
    let well = Fleet::judge(vec![standing("good", Host::new("x").report)], NOW, Limits::default());
    assert!(well.is_well());
    assert!(render(&well).contains("Nothing: every node was heard of"));
    assert!(!render(&fleet).contains("Nothing: every node"));
}

/// Tags and attributes of a page, and its text.
fn parsed(page: &str) -> (Vec<String>, String) {
    let (mut tags, mut text) = (Vec::new(), String::new());
    for token in html5gum::Tokenizer::new(page).map(Result::unwrap) {
        match token {
            html5gum::Token::StartTag(tag) => {
                tags.push(String::from_utf8_lossy(&tag.name).into_owned());
                for (name, value) in &tag.attributes {
                    let (name, value) = (String::from_utf8_lossy(name), String::from_utf8_lossy(value));
                    tags.push(format!("{name}={value}"));
                }
            }
            html5gum::Token::String(string) => text.push_str(&String::from_utf8_lossy(&string)),
            _ => {}
        }
    }
    (tags, text)
}

#[test]
fn nothing_that_a_host_says_becomes_markup() {
    let evil = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>\u{1b}[2J\u{202e}";
    let report = |text: &str| Report {
        version: text.to_owned(),
        state: State::Degraded,
        policy: Bundle { version: Some(1), sha256: Some(text.to_owned()) },
        inventory: Bundle { version: None, sha256: Some(text.to_owned()) },
        gaps: vec![text.to_owned()],
        refusal: Some(text.to_owned()),
        denied: vec![Denied { direction: text.to_owned(), reason: text.to_owned(), packets: u64::MAX }],
        review: Some(Review { next: Some(text.to_owned()), overdue: 1, ..Review::default() }),
        ..Report::default()
    };
    let page = |text: &str| {
        let mut standing = standing(text, report(text));
        note(&mut standing.findings, FindingKind::Fork, NOW, text.to_owned());
        render(&Fleet::judge(vec![standing], NOW, Limits::default()))
    };
    let (hostile, plain) = (page(evil), page("plain"));
    let ((tags, text), (expected, _)) = (parsed(&hostile), parsed(&plain));
    assert_eq!(tags, expected, "the same tags and attributes, whatever hosts say");
    assert!(!tags.iter().any(|tag| tag == "script" || tag == "img" || tag.starts_with("on")));
    assert!(text.contains("alert(1)"), "it is shown as text");
    assert!(!text.contains('\u{202e}') && !text.contains('\u{1b}'));
}
