//! What these tests need to know of Markdown, and which files there are.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// The workspace's root.
pub fn root() -> &'static Path {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().expect("xtask is in the workspace")
}

/// Every file of the project with this extension, sorted.
pub fn files(extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    walk(root(), extension, &mut found);
    found.sort();
    found
}

fn walk(directory: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    for entry in
        std::fs::read_dir(directory).expect("a directory of the project").map(|entry| entry.expect("entry"))
    {
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        if entry.file_type().expect("its type").is_dir() {
            if !name.starts_with('.') && !name.starts_with("target") && name != "corpus" {
                walk(&path, extension, found);
            }
        } else if path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
}

/// A file's text.
pub fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A file as a person would name it.
pub fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// The lines outside fenced code, with their numbers from 1.
pub fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut is_code = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        (!is_code && !is_fence).then_some((index + 1, line))
    })
}

/// What a line's links point to. Inline code has none.
pub fn targets(line: &str) -> Vec<&str> {
    let outside = line.split('`').step_by(2);
    let parts = outside.flat_map(|part| part.split("](").skip(1));
    // A link whose text is code is cut behind the backtick, so `](` begins a part there.
    parts.filter_map(|rest| rest.split_once(')').map(|(target, _)| target)).collect()
}

/// A line's inline code.
pub fn codes(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// The anchors of a page's headings, as forges make them.
pub fn anchors(text: &str) -> Vec<String> {
    let mut seen = HashMap::new();
    let headings = prose(text).filter(|(_, line)| line.starts_with('#'));
    let headings = headings.filter_map(|(_, line)| line.trim_start_matches('#').strip_prefix(' '));
    headings
        .map(|heading| {
            let slug = slug(heading);
            let times: &mut usize = seen.entry(slug.clone()).or_default();
            *times += 1;
            if *times == 1 { slug } else { format!("{slug}-{}", *times - 1) }
        })
        .collect()
}

fn slug(heading: &str) -> String {
    let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

#[test]
fn links_and_anchors_are_found_as_forges_find_them() {
    let page = "# A `b` c!\n```\n# no heading\n[x](code)\n```\n## A b c\n[a](b.md#c), `[d](e)`, [`f`](g)\n";
    assert_eq!(anchors(page), ["a-b-c", "a-b-c-1"]);
    let links: Vec<&str> = prose(page).flat_map(|(_, line)| targets(line)).collect();
    assert_eq!(links, ["b.md#c", "g"]);
}
