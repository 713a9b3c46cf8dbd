//! The job `package`: the .deb in the hands of an administrator.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::image::place;
use crate::package;

/// What goes into the guest's /check, but the packages.
const FILES: [(&str, &str); 23] = [
    ("after", include_str!("guest/package/after")),
    ("agent.toml", include_str!("guest/package/agent.toml")),
    ("answerer", include_str!("guest/package/answerer")),
    ("answerer.service", include_str!("guest/package/answerer.service")),
    ("before", include_str!("guest/package/before")),
    ("check.service", include_str!("guest/package/check.service")),
    ("cut-off", include_str!("guest/package/cut-off")),
    ("cut-off-for-good", include_str!("guest/package/cut-off-for-good")),
    ("cutting.hujson", include_str!("guest/package/cutting.hujson")),
    ("downgrade", include_str!("guest/package/downgrade")),
    ("functions", include_str!("guest/package/functions")),
    ("inventory.json", include_str!("guest/package/inventory.json")),
    ("lab", include_str!("guest/package/lab")),
    ("lab.service", include_str!("guest/package/lab.service")),
    ("operator", include_str!("guest/package/operator")),
    ("operator.service", include_str!("guest/package/operator.service")),
    ("policy.hujson", include_str!("guest/package/policy.hujson")),
    ("receiver", include_str!("guest/package/receiver")),
    ("receiver.service", include_str!("guest/package/receiver.service")),
    ("run", include_str!("guest/package/run")),
    ("sender", include_str!("guest/package/sender")),
    ("sender.service", include_str!("guest/package/sender.service")),
    ("upgrade", include_str!("guest/package/upgrade")),
];

/// Builds the package, one to upgrade to and one to upgrade from, and puts all into `root`; the checks that must
/// be seen in each guest.
pub fn lay_out(root: &Path) -> Result<[(&'static str, Vec<String>); 2]> {
    let first = package::build_deb()?;
    let second = package::deb_of_version(&format!("{}+next-1", env!("CARGO_PKG_VERSION")))?;
    let older = package::deb_of_older_layout(&first)?;
    let check = Path::new("check");
    for (name, deb) in [("first", &first), ("second", &second), ("older", &older)] {
        let file = deb.file_name().and_then(|name| name.to_str()).context("a package without a name")?;
        place(&check.join(file), &fs::read(deb)?, root)?;
        place(&check.join(name), file.as_bytes(), root)?;
    }
    for (name, text) in FILES {
        place(&check.join(name), text.as_bytes(), root)?;
    }
    // It takes the place of the one that the kernel's image has.
    place(Path::new("init"), include_bytes!("guest/package/init"), root)?;
    Ok(GUESTS.map(|(guest, parts)| (guest, names(parts))))
}

/// The guests, and the parts that each goes through. The first is started again before its last part.
const GUESTS: [(&str, &[&str]); 2] =
    [("life", &["before", "cut-off-for-good", "after"]), ("change", &["upgrade", "cut-off", "downgrade"])];

/// The functions that the parts check, in their order.
fn names(parts: &[&str]) -> Vec<String> {
    let part = |text: &str| {
        let list = text.rsplit_once("for name in ").map_or("", |(_, list)| list);
        let list = list.split_once("; do").map_or("", |(list, _)| list).replace('\\', " ");
        list.split_whitespace().map(ToOwned::to_owned).collect::<Vec<_>>()
    };
    parts.iter().flat_map(|name| part(text(name))).collect()
}

fn text(name: &str) -> &'static str {
    FILES.iter().find(|(file, _)| *file == name).map_or("", |(_, text)| text)
}

#[cfg(test)]
mod tests {
    use super::{GUESTS, names, text};

    #[test]
    fn every_check_that_is_written_is_run() {
        let written = |name: &&str| {
            let functions = text(name).lines().filter_map(|line| line.strip_suffix("() {"));
            functions.map(ToOwned::to_owned).collect::<Vec<_>>()
        };
        for (_, parts) in GUESTS {
            let all = parts.iter().map(written).collect::<Vec<_>>().concat();
            assert!(all.len() >= 6);
            assert_eq!(names(parts), all);
        }
    }
}
