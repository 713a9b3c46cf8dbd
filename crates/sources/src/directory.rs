//! A directory of inventories.

use std::fs;
use std::path::{Path, PathBuf};

use bulkhead_policy::diagnostic::Findings;
use bulkhead_policy::inventory::{self, Inventory, compose};
use bulkhead_policy::source::Source;

use crate::{LONGEST, SourceError, down, file, wrong};

/// The files `*.json` of a directory, in the order of their names, as one inventory.
pub(crate) fn read(directory: &Path) -> Result<String, SourceError> {
    let named = |error: std::io::Error| down(&format!("{}: {error}", directory.display()));
    let mut paths: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(directory).map_err(named)? {
        let path = entry.map_err(named)?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            paths.push(path);
        }
    }
    paths.sort();
    let mut length = 0;
    let mut read = |path: &PathBuf| {
        let name = path.display().to_string();
        let text = file::read(path, LONGEST.saturating_sub(length))?;
        length += text.len() as u64;
        let (source, mut findings) = (Source::new(&name, &text), Findings::default());
        let inventory = inventory::parse(&source, &mut findings).filter(|_| !findings.has_errors());
        inventory.ok_or_else(|| wrong(&findings))
    };
    let inventories: Vec<Inventory> = paths.iter().map(&mut read).collect::<Result<_, _>>()?;
    let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    let each: Vec<_> = names.iter().map(String::as_str).zip(&inventories).collect();
    let composed = compose(&Inventory::new(Source::new("", ""), Vec::new(), None), &each);
    match composed.left_out.first() {
        Some(left) => {
            let by = left.by.as_deref().unwrap_or_default();
            let words = format!("{}: {} has {}, as a node of {by} has", left.source, left.node, left.taken);
            Err(SourceError::Nonsense(words))
        }
        None => Ok(composed.text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_one_inventory_and_a_node_of_two_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
        write(
            "b.json",
            r#"{"nodes": [{"name": "b", "addresses": ["10.0.0.2"]}], "users": [{"login": "u@x"}]}"#,
        );
        write("a.json", r#"{"nodes": [{"name": "a", "addresses": ["10.0.0.1"]}]}"#);
        write("a.json~", "{");
        let text = read(directory.path()).unwrap();
        let inventory = crate::checked("test", &text).unwrap();
        let names: Vec<_> = inventory.nodes.iter().map(|node| &*node.name).collect();
        assert_eq!((names, inventory.users.unwrap().len()), (vec!["a", "b"], 1));
        write("c.json", r#"{"nodes": [{"name": "c", "addresses": ["10.0.0.1"]}]}"#);
        let words = read(directory.path()).unwrap_err().to_string();
        assert!(
            words.contains("c.json: c has the address 10.0.0.1, as a node of ") && words.contains("a.json"),
            "{words}"
        );
        fs::remove_file(directory.path().join("c.json")).unwrap();
        let fifo = directory.path().join("c.json");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        assert!(read(directory.path()).unwrap_err().to_string().contains("is no regular file"));
        fs::remove_file(&fifo).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &fifo).unwrap();
        assert!(read(directory.path()).is_err());
        fs::remove_file(&fifo).unwrap();
        write("c.json", "{");
        assert!(read(directory.path()).unwrap_err().to_string().contains("c.json:1"));
        assert!(matches!(read(&directory.path().join("none")), Err(SourceError::Down(_))));
    }
}
