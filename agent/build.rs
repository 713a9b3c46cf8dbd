//! Which commit the agent is built from, for `bulkhead version`: `BULKHEAD_COMMIT` in the environment, else what git
//! says of this checkout, else `unknown`. `-dirty` is added if what the agent is built from differs from the commit.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Digits of a commit that are shown.
const DIGITS: &str = "--short=12";

/// What the agent is built from, relative to the workspace, besides crates.
const SOURCES: [&str; 5] = ["agent", "ebpf", "Cargo.toml", "Cargo.lock", "rust-toolchain.toml"];

/// The one crate that it is not built from.
const TESTKIT: &str = "testkit";

fn main() {
    println!("cargo::rerun-if-env-changed=BULKHEAD_COMMIT");
    println!("cargo::rerun-if-changed=build.rs");
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let given = env::var("BULKHEAD_COMMIT").ok().filter(|given| !given.is_empty());
    let commit = given.or_else(|| of_checkout(manifest.parent()?)).unwrap_or_else(|| "unknown".to_owned());
    println!("cargo::rustc-env=BULKHEAD_COMMIT={commit}");
}

/// The checkout's commit; none of files that lie in another project's checkout, or in none.
fn of_checkout(workspace: &Path) -> Option<String> {
    let git = |words: &[&str]| {
        let output = Command::new("git").args(words).current_dir(workspace).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let root = Path::new(&git(&["rev-parse", "--show-toplevel"])?).canonicalize().ok()?;
    if root != workspace.canonicalize().ok()? {
        return None;
    }
    // Another commit is checked out, or made. A file that is not there would have this run each time.
    let reference = git(&["symbolic-ref", "--quiet", "HEAD"]);
    let names = ["HEAD", "logs/HEAD", "packed-refs"].into_iter().chain(reference.as_deref());
    let places = names.filter_map(|name| Some(workspace.join(git(&["rev-parse", "--git-path", name])?)));
    let sources: Vec<String> = SOURCES.into_iter().map(str::to_owned).chain(crates(workspace)?).collect();
    let watched = sources.iter().map(|source| workspace.join(source));
    for place in places.chain(watched).filter(|place| place.exists()) {
        println!("cargo::rerun-if-changed={}", place.display());
    }
    let commit = git(&["rev-parse", DIGITS, "HEAD"])?;
    let words = ["diff", "--quiet", "HEAD", "--"].into_iter().chain(sources.iter().map(String::as_str));
    let is_clean = git(&words.collect::<Vec<_>>()).is_some();
    Some(if is_clean { commit } else { commit + "-dirty" })
}

/// The crates that it is built from.
fn crates(workspace: &Path) -> Option<impl Iterator<Item = String>> {
    let entries = std::fs::read_dir(workspace.join("crates")).ok()?.flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| name != TESTKIT).collect();
    names.sort();
    Some(names.into_iter().map(|name| format!("crates/{name}")))
}
