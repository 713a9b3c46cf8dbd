//! An inventory's text: what is read of it is distinct and canonical. The same text as another
//! tool's list: what is imported of it is an inventory, or refused.

use std::collections::HashSet;

use bulkhead_policy::diagnostic::Findings;
use bulkhead_policy::inventory::{self, import};
use bulkhead_policy::source::Source;

/// Reads a text as an inventory.
///
/// # Panics
/// If two nodes claim the same, or an address is none.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    imports(text);
    let mut findings = Findings::default();
    let read = inventory::parse(&Source::new("policy", text), &mut findings);
    crate::policy::placed(&findings, text);
    let Some(inventory) = read else {
        assert!(findings.has_errors(), "refused without a word");
        return;
    };
    let (mut names, mut keys, mut addresses) = (HashSet::new(), HashSet::new(), HashSet::new());
    for node in &inventory.nodes {
        assert!(names.insert(&node.name), "two nodes named {}", node.name);
        assert!(node.key.is_none_or(|key| keys.insert(key)), "two nodes with a key of {}", node.name);
        for address in node.addresses.iter().chain(&node.underlay) {
            assert!(addresses.insert(address), "two nodes with {address}");
            assert!(address.to_canonical() == *address && !address.is_unspecified(), "{address}");
            let holder = inventory.holder(*address).map(|holder| &holder.name);
            assert_eq!(holder, Some(&node.name), "whose {address} is");
        }
        assert_eq!(inventory.node(&node.name).map(|found| found.span), Some(node.span));
    }
}

fn imports(text: &str) {
    let list = Source::new("policy", text);
    let names = Source::new("names", "{\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\": \"engine\"}");
    for tool in 0..3 {
        let mut findings = Findings::default();
        let listed = match tool {
            0 => import::tailscale(&list, &mut findings),
            1 => import::headscale(&list, &mut findings),
            _ => import::wireguard(&list, &names, &mut findings),
        };
        crate::policy::placed(&findings, text);
        let Some(listed) = listed.filter(|_| !findings.has_errors()) else {
            assert!(findings.has_errors(), "refused without a word");
            continue;
        };
        let made = import::write(&import::merge(listed, None, &mut findings));
        // Names, addresses and tags are the tool's: they may clash. What is written is no less valid JSON.
        let read = inventory::parse(&Source::new("made", &made), &mut findings);
        assert!(read.is_some(), "{findings}\n{made}");
    }
}
