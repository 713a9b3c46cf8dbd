//! The peers that NetBird's HTTP API lists (`GET /api/peers`). It tells no keys; groups become tags.

use std::collections::{BTreeMap, HashMap};

use super::{Import, Listed, Lister, object};
use crate::frontend::diagnostic::Findings;
use crate::frontend::inventory::Owner;
use crate::frontend::json::{self, Kind, Object};
use crate::frontend::policy::posture::Attributes;
use crate::frontend::source::{Source, Span};

const UNCHANGED: &str = "the API's answer is read unchanged; is it NetBird's?";

/// Reads the list. What is wrong with it goes to `findings`.
pub fn netbird(source: &Source, findings: &mut Findings) -> Option<Import> {
    let value = json::value(source, findings)?;
    let mut lister = Lister { source, findings };
    let Kind::Array(peers) = &value.kind else {
        lister.error(Span::default(), "this is no list of peers".into(), UNCHANGED);
        return None;
    };
    if peers.is_empty() {
        lister.error(value.span, "the list has no peer".into(), UNCHANGED);
        return None;
    }
    let (mut import, mut groups) = (Import::default(), HashMap::new());
    for value in peers {
        if lister.is_hopeless() {
            break;
        }
        match object(value) {
            Some(listed) => import.nodes.extend(peer(&mut lister, listed, &mut groups)),
            None => lister.error(value.span, "a peer is an object".into(), UNCHANGED),
        }
    }
    Some(import)
}

/// A peer; none if nothing connects to it.
fn peer(lister: &mut Lister<'_>, listed: &Object<'_>, known: &mut HashMap<String, String>) -> Option<Listed> {
    let label = lister.text(listed, "dns_label").or_else(|| lister.text(listed, "name"));
    let Some(label) = label else {
        lister.error(listed.span, "a peer without a name".into(), UNCHANGED);
        return None;
    };
    let name = label.split('.').next().unwrap_or(&label).to_lowercase();
    let mut tags = Vec::new();
    if let Some(Kind::Array(groups)) = listed.get("groups").map(|value| &value.kind) {
        for group in groups.iter().filter_map(object) {
            let Some(name) = lister.text(group, "name") else { continue };
            let tag = tag(&name);
            let first = known.entry(tag.clone()).or_insert_with(|| name.clone());
            if *first != name {
                let message = format!("the groups \"{first}\" and \"{name}\" would both be {tag}");
                lister.error(
                    group.span,
                    message,
                    "rename one of them: who may make a group must not get another's tag",
                );
            }
            tags.push(tag);
        }
    }
    tags.sort();
    tags.dedup();
    let mut posture = Attributes::new();
    if let Some(system) = lister.text(listed, "os") {
        let system = system.split_whitespace().next().unwrap_or_default().to_lowercase();
        posture.insert("node:os".to_owned(), system.into());
    }
    let Some(addresses) = lister.text(listed, "ip").and_then(|text| Some(vec![text.parse().ok()?])) else {
        lister.error(listed.span, format!("{name} has no address in \"ip\""), UNCHANGED);
        return None;
    };
    let is_locked = lister.flag(listed, "approval_required") || lister.flag(listed, "login_expired");
    let owner = Some(Owner::Tags(tags));
    let node = Listed {
        name,
        key: None,
        addresses: Some(addresses),
        routes: None,
        owner,
        posture,
        posture_expires: BTreeMap::new(),
        expires: None,
        jailed: None,
    };
    (!is_locked).then_some(node)
}

/// A group's name as a tag: in small letters, with `-` for what a tag cannot have.
fn tag(group: &str) -> String {
    let each = group.trim().to_lowercase();
    let name: String =
        each.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' }).collect();
    // A tag begins with a letter.
    if name.starts_with(|letter: char| letter.is_ascii_alphabetic()) {
        format!("tag:{name}")
    } else {
        format!("tag:group-{name}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Option<Import>, Findings) {
        let mut findings = Findings::default();
        (netbird(&Source::new("answer", text), &mut findings), findings)
    }

    const PEER: &str = r#"{"id": "c1", "name": "Build", "ip": "100.92.0.4", "dns_label": "build.netbird.cloud", "os": "Debian 12",
        "groups": [{"id": "1", "name": "All"}, {"id": "2", "name": "CI Runners"}, {"id": "3", "name": "1st"}],
        "approval_required": false, "login_expired": false}"#;

    #[test]
    fn a_peer_is_its_groups() {
        let (import, findings) = read(&format!("[{PEER}]"));
        assert!(!findings.has_errors(), "{findings}");
        let node = &import.unwrap().nodes[0];
        assert_eq!(&*node.name, "build");
        let tags = ["tag:all", "tag:ci-runners", "tag:group-1st"].map(str::to_owned).to_vec();
        assert_eq!(node.owner, Some(Owner::Tags(tags)));
        for locked in ["approval_required", "login_expired"] {
            let peer = PEER.replace(&format!(r#""{locked}": false"#), &format!(r#""{locked}": true"#));
            assert_eq!(read(&format!("[{peer}]")).0.unwrap().nodes.len(), 0);
        }
    }

    #[test]
    fn what_is_no_list_is_refused() {
        let alike = PEER.replace("1st", "ci-runners");
        let no_address = PEER.replace("100.92.0.4", "");
        for list in ["<html>", "{}", "[]", "[1]", "[{}]", &format!("[{alike}]"), &format!("[{no_address}]")] {
            assert!(read(list).1.has_errors(), "{list}");
        }
    }
}
