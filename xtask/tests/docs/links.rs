//! Links within the project lead somewhere.

use std::path::Path;

use crate::markdown::{anchors, codes, files, prose, read, root, shown, targets};

#[test]
fn every_relative_link_and_anchor_exists() {
    let mut broken = Vec::new();
    let mut checked = 0;
    for page in files("md") {
        let text = read(&page);
        for (number, target) in prose(&text)
            .flat_map(|(number, line)| targets(line).into_iter().map(move |target| (number, target)))
        {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            checked += 1;
            if let Some(why) = fault(&page, &text, target) {
                broken.push(format!("{}:{number}: {target}: {why}", shown(&page)));
            }
        }
    }
    assert!(broken.is_empty(), "links that lead nowhere:\n{}", broken.join("\n"));
    assert!(checked > 100, "only {checked} links were found: are the pages still where they are looked for?");
}

fn fault(page: &Path, text: &str, target: &str) -> Option<&'static str> {
    let (file, anchor) = target.split_once('#').map_or((target, None), |(file, anchor)| (file, Some(anchor)));
    let path = page.parent().expect("a file is in a directory").join(file);
    if !file.is_empty() && !path.exists() {
        return Some("no such file");
    }
    let anchor = anchor?;
    let there = if file.is_empty() { anchors(text) } else { anchors(&read(&path)) };
    (!there.iter().any(|found| found == anchor)).then_some("no such heading")
}

/// In code and scripts a path may leave out a decision's title: `docs/decisions/0015`.
#[test]
fn every_page_that_code_names_exists() {
    let sources = ["rs", "toml", "hujson", "service"].map(files).concat();
    let scripts = [root().join(".ci/run")];
    let mut broken = Vec::new();
    let mut checked = 0;
    for source in sources.iter().chain(&scripts) {
        let text = read(source);
        for (number, line) in
            text.lines().enumerate().filter(|_| !source.starts_with(root().join("xtask/tests")))
        {
            for named in line.match_indices("docs/").map(|(at, _)| path_at(&line[at..])) {
                checked += 1;
                if !exists(named) {
                    broken.push(format!("{}:{}: {named}", shown(source), number + 1));
                }
            }
        }
    }
    assert!(broken.is_empty(), "pages that are named and not there:\n{}", broken.join("\n"));
    assert!(checked > 0, "no source names a page any more: remove this test");
}

/// Sources that pages name by their path in the project are there.
#[test]
fn every_source_that_a_page_names_exists() {
    let mut broken = Vec::new();
    let mut checked = 0;
    for page in files("md") {
        let text = read(&page);
        for (number, code) in
            prose(&text).flat_map(|(number, line)| codes(line).map(move |code| (number, code)))
        {
            let is_source = ["/src/", "/tests/", "/examples/"].iter().any(|part| code.contains(part));
            if is_source && path_at(code).len() == code.len() && !code.starts_with(['/', '.']) {
                checked += 1;
                if !root().join(code).exists() {
                    broken.push(format!("{}:{number}: {code}", shown(&page)));
                }
            }
        }
    }
    assert!(broken.is_empty(), "sources that are named and not there:\n{}", broken.join("\n"));
    assert!(checked > 20, "only {checked} sources are named");
}

fn path_at(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '/' | '-' | '_' | '.'));
    text[..end.unwrap_or(text.len())].trim_end_matches('.')
}

fn exists(named: &str) -> bool {
    let path = root().join(named);
    let Some((directory, start)) = path.parent().zip(path.file_name()) else { return false };
    let (start, is_number) =
        (start.to_string_lossy(), start.to_string_lossy().bytes().all(|b| b.is_ascii_digit()));
    path.exists()
        || is_number
            && std::fs::read_dir(directory).is_ok_and(|mut entries| {
                entries.any(|entry| {
                    entry.is_ok_and(|entry| {
                        entry.file_name().to_string_lossy().starts_with(&format!("{start}-"))
                    })
                })
            })
}
