use std::collections::{HashMap, HashSet};

use super::*;

/// A machine made of answers.
#[derive(Default)]
struct Fake {
    outputs: HashMap<String, &'static str>,
    paths: HashSet<&'static str>,
    variables: HashMap<&'static str, &'static str>,
}

impl Fake {
    fn prints(mut self, command: &str, output: &'static str) -> Self {
        self.outputs.insert(command.to_owned(), output);
        self
    }

    fn has(mut self, path: &'static str) -> Self {
        self.paths.insert(path);
        self
    }

    fn sets(mut self, name: &'static str, value: &'static str) -> Self {
        self.variables.insert(name, value);
        self
    }

    fn distribution(self, verbose: &'static str) -> Self {
        self.prints("/usr/bin/rustc -vV", verbose)
            .prints("/usr/bin/rustc --print sysroot", "/usr\n")
            .has("/usr/lib/rustlib/bpfel-unknown-none/lib")
    }

    fn nightly(self) -> Self {
        self.prints("rustup run nightly rustc --print sysroot", "/n\n")
    }

    fn linker(self) -> Self {
        self.prints("bpf-linker --version", "bpf-linker 0.13.0\n")
    }
}

impl System for Fake {
    fn output(&self, program: &str, arguments: &[&str]) -> Option<String> {
        let command = std::iter::once(&program).chain(arguments).copied().collect::<Vec<_>>().join(" ");
        self.outputs.get(&command).map(|&text| text.to_owned())
    }

    fn exists(&self, path: &Path) -> bool {
        self.paths.contains(path.to_str().unwrap())
    }

    fn variable(&self, name: &str) -> Option<String> {
        self.variables.get(name).map(|&value| value.to_owned())
    }
}

const RECENT: &str =
    "rustc 1.96.0 (ac68faa20 2026-05-25)\nbinary: rustc\nrelease: 1.96.0\nLLVM version: 22.1.8\n";
const OLD: &str = "rustc 1.63.0\nbinary: rustc\nrelease: 1.63.0\nLLVM version: 14.0.6\n";

#[test]
fn a_bare_machine_lacks_both() {
    assert_eq!(find(&Fake::default()), Err(Missing { compiler: true, linker: true }));
}

#[test]
fn debian_packages_and_linker_are_enough() {
    let found = find(&Fake::default().distribution(RECENT).linker()).unwrap();
    assert_eq!(found.compiler, Compiler::Prebuilt { rustc: "/usr/bin/rustc".into() });
    assert_eq!(found.linker, Path::new("bpf-linker"));
}

#[test]
fn debians_stock_rustc_is_too_old() {
    let found = find(&Fake::default().distribution(OLD).linker());
    assert_eq!(found, Err(Missing { compiler: true, linker: false }));
}

#[test]
fn a_recent_rustc_without_core_for_bpf_is_not_enough() {
    let mut machine = Fake::default().distribution(RECENT).linker();
    machine.paths.clear();
    assert_eq!(find(&machine), Err(Missing { compiler: true, linker: false }));
}

#[test]
fn nightly_counts_only_with_rust_src() {
    let machine = Fake::default().nightly().linker();
    assert_eq!(find(&machine), Err(Missing { compiler: true, linker: false }));
    let machine = machine.has("/n/lib/rustlib/src/rust/library/core");
    assert_eq!(find(&machine).unwrap().compiler, Compiler::Nightly);
}

#[test]
fn prebuilt_core_is_preferred_to_nightly() {
    let machine =
        Fake::default().nightly().has("/n/lib/rustlib/src/rust/library/core").distribution(RECENT).linker();
    assert_eq!(find(&machine).unwrap().compiler, Compiler::Prebuilt { rustc: "/usr/bin/rustc".into() });
}

#[test]
fn linker_is_found_in_cargos_bin_off_the_search_path() {
    let version = "bpf-linker 0.13.0\n";
    let by_home = Fake::default().sets("HOME", "/h").prints("/h/.cargo/bin/bpf-linker --version", version);
    assert_eq!(bpf_linker(&by_home).unwrap(), Path::new("/h/.cargo/bin/bpf-linker"));
    let by_cargo_home = by_home.sets("CARGO_HOME", "/c").prints("/c/bin/bpf-linker --version", version);
    assert_eq!(bpf_linker(&by_cargo_home).unwrap(), Path::new("/c/bin/bpf-linker"));
}

#[test]
fn an_older_linker_is_refused_and_a_newer_one_taken() {
    let older = Fake::default().prints("bpf-linker --version", "bpf-linker 0.9.15\n");
    assert_eq!(bpf_linker(&older), None);
    let newer = Fake::default().prints("bpf-linker --version", "bpf-linker 0.14.1\n");
    assert_eq!(bpf_linker(&newer).unwrap(), Path::new("bpf-linker"));
    let babble = Fake::default().prints("bpf-linker --version", "usage\n");
    assert_eq!(bpf_linker(&babble), None);
}

#[test]
fn the_message_names_what_is_missing_and_the_next_step() {
    let text = Missing { compiler: false, linker: true }.to_string();
    assert!(text.contains("bpf-linker 0.13.0") && text.contains("cargo xtask setup"), "{text}");
    assert!(!text.contains("rustc-web"), "{text}");
}
