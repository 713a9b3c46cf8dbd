//! An inventory's text: what is read of it is distinct and canonical.

use std::collections::HashSet;

use bulkhead_compiler::diagnostic::Findings;
use bulkhead_compiler::inventory;
use bulkhead_compiler::source::Source;

/// Reads a text as an inventory.
///
/// # Panics
/// If two nodes claim the same, or an address is none.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
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
