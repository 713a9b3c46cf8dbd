//! The policy tools are built with stable Rust alone: where the BPF compiler cannot be seen, and without a
//! package of the agent's.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use bulkhead_testkit::lab;
use bulkhead_toolchain::{Host, find};

/// Around a hundred small packages, compiled once.
const BUILD: Duration = Duration::from_secs(600);

/// What only an agent needs, or only Linux has.
const NOT_IN: [&str; 17] = [
    "aya",
    "aya-obj",
    "axum",
    "boringtun",
    "bulkhead-dataplane",
    "bulkhead-host",
    "bulkhead-toolchain",
    "bulkhead-tunnel",
    "hyper",
    "netlink-packet-core",
    "netlink-sys",
    "nix",
    "rtnetlink",
    "socket2",
    "tokio",
    "tracing-subscriber",
    "tun-rs",
];

fn workspace() -> &'static Path {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own)
}

/// The cargo that runs the tests, and the stable compiler beside it, whatever else the machine has.
fn cargo(words: &[&str]) -> Command {
    let cargo = PathBuf::from(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let mut command = Command::new(&cargo);
    command.current_dir(workspace()).args(words).args(["--locked", "--package", "bulkhead"]);
    command.arg("--no-default-features");
    let rustc = cargo.with_file_name("rustc");
    if rustc.is_file() {
        command.env("RUSTC", rustc);
    }
    command
}

fn run(command: &mut Command, limit: Duration) -> Output {
    lab::run_within(command, limit).unwrap_or_else(|error| panic!("{command:?}: {error:#}"))
}

/// Covers these files for this thread and the processes that it starts.
fn hide(files: &BTreeSet<PathBuf>) {
    // SAFETY: it changes what this thread sees alone, which is the test's own.
    let unshared = unsafe { libc::unshare(libc::CLONE_NEWNS) };
    assert_eq!(unshared, 0, "{}; the tests run as root", std::io::Error::last_os_error());
    let mount = |words: &[&str]| {
        let output = run(Command::new("mount").args(words), Duration::from_secs(10));
        assert!(output.status.success(), "mount {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    mount(&["--make-rprivate", "/"]);
    files.iter().for_each(|file| mount(&["--bind", "/dev/null", file.to_str().expect("UTF-8")]));
}

/// Where programs of this name are looked for.
fn everywhere(name: &str) -> impl Iterator<Item = PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")));
    let directories: Vec<_> = std::env::split_paths(&path).chain(home.map(|home| home.join("bin"))).collect();
    let files = directories.into_iter().map(move |directory| directory.join(name));
    files.filter_map(|file| file.canonicalize().ok())
}

#[test]
fn they_need_no_bpf_compiler_and_no_package_of_the_agents() {
    // The distribution's compiler has `core` for BPF; the linker makes the object.
    hide(
        &everywhere("bpf-linker")
            .chain([PathBuf::from("/usr/bin/rustc")].into_iter().filter(|f| f.exists()))
            .collect(),
    );
    let missing = find(&Host).expect_err("the BPF compiler is hidden");
    assert!(missing.linker, "{missing}");

    let target = lab::bulkhead().unwrap().with_file_name("policy-tools");
    let mut build = cargo(&["build"]);
    // Nobody debugs it, and it is asked little.
    build.env("CARGO_PROFILE_DEV_DEBUG", "0").arg("--target-dir").arg(&target);
    for package in ["bulkhead-policy", "bulkhead-api", "bulkhead-engine", "serde_json", "sha2"] {
        build.arg("--config").arg(format!("profile.dev.package.{package}.opt-level = 0"));
    }
    let built = run(&mut build, BUILD);
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));

    let firm = workspace().join("policies/trading-firm");
    let (policy, inventory) = (firm.join("policy.hujson"), firm.join("inventory.json"));
    let (policy, inventory) = (policy.to_str().unwrap(), inventory.to_str().unwrap());
    let bulkhead = |words: &[&str]| {
        let output = run(Command::new(target.join("debug/bulkhead")).args(words), Duration::from_secs(60));
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let tool = |command: &str, words: &[&str]| {
        bulkhead(&[&[command, policy, "--inventory", inventory], words].concat())
    };
    let (code, said) = tool("check", &[]);
    assert!(code == Some(0) && said.contains("0 errors"), "{code:?} {said}");
    let (code, said) = tool("explain", &["--from", "mon-1", "--to", "oms-1:9100/tcp"]);
    assert!(code == Some(0) && said.contains(": allow"), "{code:?} {said}");
    let (code, said) = tool("explain", &["--from", "backup-1", "--to", "engine-1:22/tcp"]);
    assert!(code == Some(1) && said.contains(": deny"), "{code:?} {said}");

    // What needs an agent is not there, and the help says so.
    assert_eq!(bulkhead(&["status"]).0, Some(2));
    let (code, help) = bulkhead(&["--help"]);
    assert!(code == Some(0) && help.contains("commands of the agent are not in this build"), "{help}");

    let tree = run(&mut cargo(&["tree", "--edges", "normal,build", "--prefix", "none"]), BUILD);
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let tree = String::from_utf8(tree.stdout).unwrap();
    let packages: BTreeSet<&str> = tree.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert!(packages.contains("bulkhead-policy"), "{tree}");
    let wrong: Vec<_> = NOT_IN.iter().filter(|name| packages.contains(*name)).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    // The build script asks git for the commit, and needs nothing for it.
    let manifest = std::fs::read_to_string(workspace().join("agent/Cargo.toml")).unwrap();
    assert!(!manifest.contains("build-dependencies"), "{manifest}");
}
