//! How cargo is called to compile the BPF object.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Compiler, TARGET, Toolchain};

/// The profile of the workspace that BPF code is built with.
const PROFILE: &str = "bpf";

/// The package of the BPF objects.
const PACKAGE: &str = "bulkhead-ebpf";

/// The objects, by their binaries' names: of programs on interfaces, and of those on cgroups.
pub const OBJECTS: [&str; 2] = ["bulkhead-ebpf", "bulkhead-cgroups"];

/// What a build script passes on from the outer build, and what would bend the inner one:
/// clippy's wrapper, the host's flags and rustup's choice of toolchain among it.
const NOT_INHERITED: [&str; 10] = [
    "RUSTC",
    "RUSTDOC",
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTFLAGS",
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_BUILD_TARGET",
    "CARGO_ENCODED_RUSTFLAGS",
    "CLIPPY_ARGS",
    "RUSTUP_TOOLCHAIN",
];

/// One build of the BPF objects.
#[derive(Clone, Debug)]
pub struct Object<'a> {
    /// The workspace's root directory.
    pub workspace: &'a Path,
    /// Where to build; never the outer build's target directory, whose lock is held.
    pub target_dir: &'a Path,
    /// Architecture of the kernel that will run it, as in `CARGO_CFG_TARGET_ARCH`.
    pub arch: &'a str,
    /// Features of the ebpf package.
    pub features: &'a [&'a str],
}

/// Why there is no object.
#[derive(Debug)]
pub enum CompileError {
    /// Cargo could not be started.
    Start(std::io::Error),
    /// Cargo failed; its own messages say why.
    Failed(std::process::ExitStatus),
}

impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start(error) => write!(f, "cargo could not be started to compile the BPF program: {error}"),
            Self::Failed(status) => {
                write!(f, "compiling the BPF program failed ({status}); see cargo's messages above")
            }
        }
    }
}

impl std::error::Error for CompileError {}

impl Toolchain {
    /// Compiles the objects and returns the directory where they are.
    ///
    /// # Errors
    /// When cargo cannot be started or fails.
    pub fn compile(&self, object: &Object<'_>) -> Result<PathBuf, CompileError> {
        let status = self.command(object).status().map_err(CompileError::Start)?;
        if !status.success() {
            return Err(CompileError::Failed(status));
        }
        Ok(object.target_dir.join(TARGET).join(PROFILE))
    }

    /// The call of cargo.
    fn command(&self, object: &Object<'_>) -> Command {
        let mut command = match &self.compiler {
            Compiler::Prebuilt { rustc } => {
                let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
                NOT_INHERITED.iter().for_each(|name| _ = command.env_remove(name));
                // aya-ebpf uses unstable features.
                command.env("RUSTC", rustc).env("RUSTC_BOOTSTRAP", "1");
                command
            }
            Compiler::Nightly => {
                let mut command = Command::new("rustup");
                NOT_INHERITED.iter().for_each(|name| _ = command.env_remove(name));
                command.env_remove("CARGO").args(["run", "nightly", "cargo"]);
                command
            }
        };
        command.args(["build", "--package", PACKAGE, "--profile", PROFILE, "--target", TARGET]);
        if self.compiler == Compiler::Nightly {
            command.args(["-Z", "build-std=core"]);
        }
        if !object.features.is_empty() {
            command.arg("--features").arg(object.features.join(","));
        }
        command.arg("--target-dir").arg(object.target_dir);
        command.env("CARGO_ENCODED_RUSTFLAGS", self.flags(object));
        command.current_dir(object.workspace);
        command
    }

    /// Flags of every crate in the object, in cargo's encoding.
    fn flags(&self, object: &Object<'_>) -> OsString {
        let mut flags = OsString::from("-Clinker=");
        flags.push(&self.linker);
        // The object is the same wherever it is built: its line information has names that every machine has.
        for (from, to) in [(cargo_home(), "/cargo"), (Some(object.workspace.to_owned()), "/bulkhead")] {
            let Some(from) = from else { continue };
            flags.push("\x1f--remap-path-prefix=");
            flags.push(from);
            flags.push(format!("={to}"));
        }
        let arch = object.arch;
        flags.push(format!(
            "\x1f-Ctarget-cpu=v3\x1f-Clink-arg=--btf\x1f-Cdebuginfo=2\x1f-Cpanic=abort\x1f-Cjump-tables=no\x1f--cfg=bpf_target_arch=\"{arch}\""
        ));
        flags
    }
}

/// Where cargo keeps the sources of crates.
fn cargo_home() -> Option<PathBuf> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    home.or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".cargo")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object() -> Object<'static> {
        Object { workspace: Path::new("/w"), target_dir: Path::new("/t"), arch: "x86_64", features: &["log"] }
    }

    fn variable(command: &Command, name: &str) -> Option<Option<String>> {
        let (_, value) = command.get_envs().find(|(key, _)| *key == name)?;
        Some(value.map(|text| text.to_str().unwrap().to_owned()))
    }

    #[test]
    fn neither_compiler_inherits_clippys_wrapper_or_the_hosts_flags() {
        for compiler in [Compiler::Nightly, Compiler::Prebuilt { rustc: "/usr/bin/rustc".into() }] {
            let command = Toolchain { compiler, linker: "bpf-linker".into() }.command(&object());
            assert_eq!(variable(&command, "RUSTC_WORKSPACE_WRAPPER"), Some(None));
            assert_eq!(variable(&command, "RUSTFLAGS"), Some(None));
            assert_eq!(variable(&command, "RUSTUP_TOOLCHAIN"), Some(None));
            let flags = variable(&command, "CARGO_ENCODED_RUSTFLAGS").unwrap().unwrap();
            assert!(flags.split('\x1f').any(|flag| flag == "-Clink-arg=--btf"), "{flags}");
            assert!(flags.split('\x1f').any(|flag| flag == "--remap-path-prefix=/w=/bulkhead"), "{flags}");
            assert!(flags.split('\x1f').any(|flag| flag == "--cfg=bpf_target_arch=\"x86_64\""), "{flags}");
        }
    }

    #[test]
    fn only_nightly_builds_core() {
        let arguments = |compiler| {
            let command = Toolchain { compiler, linker: "bpf-linker".into() }.command(&object());
            command.get_args().map(|text| text.to_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert!(arguments(Compiler::Nightly).contains(&"build-std=core".to_owned()));
        let prebuilt = arguments(Compiler::Prebuilt { rustc: "/usr/bin/rustc".into() });
        assert!(!prebuilt.contains(&"build-std=core".to_owned()));
        assert!(prebuilt.ends_with(&["--features", "log", "--target-dir", "/t"].map(str::to_owned)));
    }
}
