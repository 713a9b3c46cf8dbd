//! The job `package`: the .deb in the hands of an administrator.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::image::place;
use crate::package;

/// What goes into the guest's /check, but the packages.
const FILES: [(&str, &str); 14] = [
    ("after", include_str!("guest/package/after")),
    ("agent.toml", include_str!("guest/package/agent.toml")),
    ("before", include_str!("guest/package/before")),
    ("check.service", include_str!("guest/package/check.service")),
    ("functions", include_str!("guest/package/functions")),
    ("inventory.json", include_str!("guest/package/inventory.json")),
    ("lab", include_str!("guest/package/lab")),
    ("lab.service", include_str!("guest/package/lab.service")),
    ("policy.hujson", include_str!("guest/package/policy.hujson")),
    ("receiver", include_str!("guest/package/receiver")),
    ("receiver.service", include_str!("guest/package/receiver.service")),
    ("run", include_str!("guest/package/run")),
    ("sender", include_str!("guest/package/sender")),
    ("sender.service", include_str!("guest/package/sender.service")),
];

/// Builds the package and one to upgrade to, and puts all into `root`; the checks that must be seen.
pub fn lay_out(root: &Path) -> Result<Vec<String>> {
    let first = package::build()?.deb;
    let second = package::deb_of_version(&format!("{}+next-1", env!("CARGO_PKG_VERSION")))?;
    let check = Path::new("check");
    for (name, deb) in [("first", &first), ("second", &second)] {
        let file = deb.file_name().and_then(|name| name.to_str()).context("a package without a name")?;
        place(&check.join(file), &fs::read(deb)?, root)?;
        place(&check.join(name), file.as_bytes(), root)?;
    }
    for (name, text) in FILES {
        place(&check.join(name), text.as_bytes(), root)?;
    }
    // It takes the place of the one that the kernel's image has.
    place(Path::new("init"), include_bytes!("guest/package/init"), root)?;
    Ok(names())
}

/// The functions that the two parts check, in their order.
fn names() -> Vec<String> {
    let part = |text: &str| {
        let list = text.rsplit_once("for name in ").map_or("", |(_, list)| list);
        let list = list.split_once("; do").map_or("", |(list, _)| list).replace('\\', " ");
        list.split_whitespace().map(ToOwned::to_owned).collect::<Vec<_>>()
    };
    ["before", "after"].into_iter().flat_map(|name| part(text(name))).collect()
}

fn text(name: &str) -> &'static str {
    FILES.iter().find(|(file, _)| *file == name).map_or("", |(_, text)| text)
}

#[cfg(test)]
mod tests {
    use super::{names, text};

    #[test]
    fn every_check_that_is_written_is_run() {
        let written = |name: &str| {
            let functions = text(name).lines().filter_map(|line| line.strip_suffix("() {"));
            functions.map(ToOwned::to_owned).collect::<Vec<_>>()
        };
        let both = [written("before"), written("after")].concat();
        assert!(both.len() >= 15);
        assert_eq!(names(), both);
    }
}
