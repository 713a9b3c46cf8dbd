//! A kernel and its first file system, which is all that most guests have: no disk, no image of a distribution.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use super::archive::Archive;
use super::choice::Kernel;
use super::output;

/// The guest's first process.
const INIT: &str = include_str!("guest/init");

/// What the guest may need of the kernel's modules, with all that they need.
const MODULES: [&str; 17] = [
    "wireguard",
    "veth",
    "dummy",
    "bridge",
    "bonding",
    "8021q",
    "tun",
    "nf_tables",
    "nft_ct",
    "nft_limit",
    "nft_log",
    "nft_reject_inet",
    "nf_conntrack",
    "nfnetlink_log",
    "nf_log_syslog",
    "inet_diag",
    "tcp_diag",
];

/// What a guest with a disk needs besides. Newer kernels have some of it built in, and do not list that.
const DISK_MODULES: [&str; 3] = ["virtio_pci", "virtio_blk", "ext4"];

/// What a kernel is started from.
#[derive(Debug)]
pub struct Image {
    /// The compressed kernel.
    pub kernel: PathBuf,
    /// The first file system, with the kernel's modules: a cpio archive, behind which others may follow.
    pub modules: PathBuf,
}

/// Makes the image of a kernel below `directory`, or finds it there. A directory that bears its name is whole.
pub fn prepare(archive: &Archive, kernel: &Kernel, directory: &Path) -> Result<Image> {
    let whole = directory.join(format!("{}_{}", kernel.release, kernel.version));
    let image = Image { kernel: whole.join("vmlinuz"), modules: whole.join("modules.cpio") };
    if whole.exists() && fs::read_to_string(whole.join("recipe")).is_ok_and(|made| made == recipe()) {
        return Ok(image);
    }
    eprintln!("vm: fetching and unpacking {}", kernel.packages.join(", "));
    let partial = fresh(&directory.join(format!("partial-{}", kernel.release)))?;
    let (packages, tree, root) = (partial.join("packages"), partial.join("tree"), partial.join("root"));
    for directory in [&packages, &tree, &root] {
        fs::create_dir(directory)?;
    }
    archive.download(&kernel.packages, &packages)?;
    for package in fs::read_dir(&packages)? {
        output(Command::new("dpkg-deb").arg("--extract").arg(package?.path()).arg(&tree))?;
    }
    let release = &kernel.release;
    let modules = ["lib/modules", "usr/lib/modules"].map(|path| tree.join(path).join(release));
    let modules = modules.iter().find(|path| path.exists()).context("the packages have no modules")?;
    let images = [tree.join(format!("boot/vmlinuz-{release}")), modules.join("vmlinuz")];
    let image_file = images.iter().find(|path| path.exists()).context("the packages have no kernel")?;
    fs::copy(image_file, partial.join("vmlinuz"))?;
    copy_modules(modules, release, &partial, &root)?;
    fs::write(partial.join("recipe"), recipe())?;
    place(Path::new("init"), INIT.as_bytes(), &root)?;
    programs(&["busybox"], &root)?;
    pack(&root, &partial.join("modules.cpio"))?;
    for directory in [packages, tree, root, partial.join("base")] {
        fs::remove_dir_all(directory)?;
    }
    if whole.exists() {
        fs::remove_dir_all(&whole)?;
    }
    fs::rename(partial, whole)?;
    Ok(image)
}

/// What an image is made by, besides its packages.
fn recipe() -> String {
    format!("{}\n{}\n{INIT}", MODULES.join("\n"), DISK_MODULES.join("\n"))
}

/// An empty directory.
pub fn fresh(path: &Path) -> Result<PathBuf> {
    if path.exists() {
        fs::remove_dir_all(path)?;
    }
    fs::create_dir_all(path).with_context(|| format!("make {}", path.display()))?;
    Ok(path.to_owned())
}

/// Copies [`MODULES`], [`DISK_MODULES`] and what they need into `root`, and indexes them there.
fn copy_modules(modules: &Path, release: &str, partial: &Path, root: &Path) -> Result<()> {
    // modprobe and depmod want lib/modules/<release> below a directory.
    let base = partial.join("base");
    fs::create_dir_all(base.join("lib/modules"))?;
    let linked = base.join("lib/modules").join(release);
    std::os::unix::fs::symlink(fs::canonicalize(modules)?, &linked)?;
    output(Command::new("depmod").arg("--basedir").arg(&base).arg(release))?;
    let mut loaded = Vec::new();
    for module in MODULES.into_iter().chain(DISK_MODULES) {
        let mut modprobe = Command::new("modprobe");
        modprobe.arg("--dirname").arg(&base).args(["--set-version", release, "--show-depends", module]);
        let needed = match output(&mut modprobe) {
            Err(_) if DISK_MODULES.contains(&module) => continue,
            needed => needed?,
        };
        loaded.push(module);
        for line in needed.lines() {
            let Some(file) = inserted(line) else { continue };
            let inside = file.strip_prefix(&linked).context("modprobe names a file elsewhere")?;
            let to = Path::new("lib/modules").join(release).join(inside);
            match file.extension().and_then(OsStr::to_str) {
                Some("xz") => {
                    let unpacked =
                        Command::new("xz").args(["--decompress", "--stdout"]).arg(file).output()?;
                    ensure!(unpacked.status.success(), "xz cannot unpack {}", file.display());
                    place(&to.with_extension(""), &unpacked.stdout, root)?;
                }
                Some("ko") => place(&to, &fs::read(file)?, root)?,
                _ => bail!("{} is compressed in a way that is not known here", file.display()),
            }
        }
    }
    for index in ["modules.builtin", "modules.order"] {
        let file = linked.join(index);
        if file.exists() {
            place(&Path::new("lib/modules").join(release).join(index), &fs::read(file)?, root)?;
        }
    }
    output(Command::new("depmod").arg("--basedir").arg(root).arg(release))?;
    place(Path::new("etc/modules"), format!("{}\n", loaded.join("\n")).as_bytes(), root)
}

/// The file of modprobe's `insmod FILE OPTIONS`; what is `builtin NAME` has none.
fn inserted(line: &str) -> Option<&Path> {
    line.strip_prefix("insmod ")?.split_whitespace().next().map(Path::new)
}

/// Writes an executable file below `root`, and the directories on its way.
pub fn place(path: &Path, content: &[u8], root: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let to = root.join(path.strip_prefix("/").unwrap_or(path));
    fs::create_dir_all(to.parent().context("a file without a directory")?)?;
    fs::write(&to, content)?;
    fs::set_permissions(&to, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// Copies programs of this machine into /usr/bin below `root`, with the libraries that they load.
pub fn programs(names: &[&str], root: &Path) -> Result<()> {
    for name in names {
        let path = which(name)?;
        place(&Path::new("/usr/bin").join(name), &fs::read(&path)?, root)?;
        libraries(&path, root)?;
    }
    Ok(())
}

/// Copies the libraries that a program loads to where it looks for them.
pub fn libraries(program: &Path, root: &Path) -> Result<()> {
    let ldd = Command::new("ldd").arg(program).output().context("run ldd")?;
    // Of a static program ldd says so, and fails.
    for library in loaded(&String::from_utf8_lossy(&ldd.stdout)) {
        place(library, &fs::read(library)?, root)?;
    }
    Ok(())
}

/// The files that ldd names.
fn loaded(said: &str) -> Vec<&Path> {
    said.lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
        .map(Path::new)
        .collect()
}

fn which(name: &str) -> Result<PathBuf> {
    let directories = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    let paths = directories.iter().map(|directory| Path::new(directory).join(name));
    paths.into_iter().find(|path| path.exists()).with_context(|| format!("{name} is not installed"))
}

/// Packs a directory as the kernel unpacks it. The file is there when it is whole.
pub fn pack(root: &Path, archive: &Path) -> Result<()> {
    let partial = archive.with_extension("partial");
    let script = "find . -print0 | cpio --null --create --format=newc --quiet > \"$0\"";
    output(Command::new("sh").args(["-ec", script]).arg(&partial).current_dir(root))?;
    fs::rename(partial, archive)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_read_from_what_modprobe_says() {
        let file = Some(Path::new("/k/dummy.ko.xz"));
        assert_eq!(inserted("insmod /k/dummy.ko.xz numdummies=0"), file);
        assert_eq!(inserted("insmod /k/dummy.ko.xz "), file);
        assert_eq!(inserted("builtin ipv6"), None);
    }

    #[test]
    fn libraries_are_read_from_what_ldd_says() {
        let said = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        let expected = ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"].map(Path::new);
        assert_eq!(loaded(said), expected);
        assert!(loaded("\tnot a dynamic executable\n").is_empty());
    }
}
