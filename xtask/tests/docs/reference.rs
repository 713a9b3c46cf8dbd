//! The reference and the code say the same.

use bulkhead_abi::{Action, Reason};

use crate::markdown::{files, read, root, shown};

/// docs/reference/reasons.md has a row for every reason, with its number and its name, and no other.
#[test]
fn every_reason_is_explained() {
    let page = read(&root().join("docs/reference/reasons.md"));
    let rows: Vec<&str> =
        page.lines().filter(|line| line.starts_with("| ") && line.contains("| `")).collect();
    let numbered: Vec<&&str> =
        rows.iter().filter(|row| row[2..].starts_with(|c: char| c.is_ascii_digit())).collect();
    for reason in Reason::ALL {
        let start = format!("| {} | `{}` |", *reason as u8, reason.name());
        let row = numbered.iter().find(|row| row.starts_with(&start));
        let row =
            row.unwrap_or_else(|| panic!("docs/reference/reasons.md has no row that begins with {start}"));
        let columns = row.trim_matches('|').split(" | ").filter(|column| !column.trim().is_empty()).count();
        let asked = if reason.action() == Action::Drop { 4 } else { 3 };
        assert_eq!(columns, asked, "a drop says what to do next: {row}");
    }
    assert_eq!(numbered.len(), Reason::ALL.len(), "docs/reference/reasons.md has rows of no reason");
}

/// Each decision says what it is, since when, why, what and at which price, on one page.
#[test]
fn decisions_have_their_form() {
    let decisions = root().join("docs/decisions");
    let of_numbers = |path: &std::path::PathBuf| {
        path.parent() == Some(&decisions)
            && path
                .file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with(|c: char| c.is_ascii_digit()))
    };
    let found: Vec<_> = files("md").into_iter().filter(of_numbers).collect();
    assert!(!found.is_empty());
    let index = read(&decisions.join("README.md"));
    for path in found {
        let (text, name) = (read(&path), shown(&path));
        for part in ["- Status: ", "- Date: ", "## Context", "## Decision", "## Consequences"] {
            assert!(
                text.lines().any(|line| line.starts_with(part)),
                "{name} has no line that begins with {part:?}"
            );
        }
        let words = text.split_whitespace().count();
        assert!(words <= 450, "{name} has {words} words; move measurements to docs/internals/notes");
        let file = path.file_name().expect("a name").to_string_lossy();
        assert!(index.contains(&*file), "docs/decisions/README.md does not list {file}");
    }
}

/// A page of the guide is read at one sitting.
#[test]
fn pages_of_the_guide_are_short() {
    for path in files("md").into_iter().filter(|path| path.starts_with(root().join("docs/guide"))) {
        let words = read(&path).split_whitespace().count();
        assert!(words < 1500, "{} has {words} words; split it by task", shown(&path));
    }
}
